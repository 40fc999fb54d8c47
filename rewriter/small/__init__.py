"""A rewriter for real prompts on a laptop: word lists, lessons, a style, and a LoRA adapter for SmolLM2-135M-Instruct.

    python -m rewriter.small.write_data                          # lessons: work/small/
    python -m rewriter.train.sft --config small_sft              # -> work/small/sft
    python -m rewriter.train.grpo --config small_grpo            # -> work/small/grpo
    redraft eval small                                           # the figures of docs/small.md

`words/` are this project's own lists. docs/small.md has the whole story.
"""
