"""Training of a rewriter: triplets from a teacher, supervised fine-tuning, then GRPO against the pictures.

    python -m rewriter.train.teach requests.txt triplets.jsonl --model NAME --base-url http://HOST:8000/v1
    python -m rewriter.train.sft --config package:mini/rewriter/sft.yaml
    python -m rewriter.train.undecided requests.jsonl undecided.jsonl --model FOLDER --style STYLE
    python -m rewriter.train.grpo --config package:mini/rewriter/grpo.yaml
    python -m rewriter.train.reward_server --config reward_server

`image_reward` is the reward, `rewards` its formulas, `trl_reward` what TRL calls. docs/training.md tells the whole story.
"""
