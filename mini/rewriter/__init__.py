"""The rewriter: a small language model, its lessons, its templates (`style/`), its target and its recipes.

python -m rewriter.train.grpo --config package:mini/rewriter/grpo.yaml
"""
