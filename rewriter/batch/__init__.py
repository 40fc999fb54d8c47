"""Batches: files of requests in, better prompts out. Streamed, resumable, each request once.

    kit = open_kit(load_profile("mini").rewriter, n=1)
    plan = BatchPlan({**kit.settings, "select": None}, own_columns(kit.target, thought=False, n=1, scored=False))
    with WorkFolder(work_path(out), plan.shard) as work:
        source, maker = open_source("prompts.csv"), Maker(kit.rewriter, plan.keys)
        counts = await run_batch(source, out, work, plan, maker, window=kit.engine.window)

`tables` reads and writes the files, `engines` answers, `maker` makes a record of a request, `work` keeps the records,
`run` does all of it. `ray_rows` does the same on a Ray cluster. `redraft enhance` is the command.
"""
