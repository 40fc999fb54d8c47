"""The judge: a small Llava that answers yes or no, its training, its templates (`style/`) and its recipe.

python -m evaluator.train --config package:mini/judge/recipe.yaml
"""
