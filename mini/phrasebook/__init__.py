"""The phrase book: reads people's instructions for edits of cut-outs, for models that can neither plan nor read turns.

    load_phrases().read("make the little star blue, please")[0].canonical       # "recolour small star to blue"

`planner`, `turns` and `checks` plan, read turns, answer and make checklists by it. A profile names their classes.
"""
