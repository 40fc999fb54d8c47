"""Batches: files of requests in, better prompts out. Streamed, resumable, each request once.

    from rewriter.batch import BatchPlan, Maker, WorkFolder, open_kit, open_source, own_columns, run_batch, work_path

    kit = open_kit(load_profile("mini").rewriter, n=1)
    plan = BatchPlan({**kit.settings, "select": None}, own_columns(kit.target, thought=False, n=1, scored=False))
    with WorkFolder(work_path(out), plan.shard) as work:
        source, maker = open_source("prompts.csv"), Maker(kit.rewriter, plan.keys)
        counts = await run_batch(source, out, work, plan, maker, window=kit.engine.window)

`tables` reads and writes the files, `engines` answers, `maker` makes a record of a request, `work` keeps the records,
`run` does all of it. `ray_rows` does the same on a Ray cluster. `redraft enhance` is the command.

Importing this imports nothing else: a name is looked up when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from redraft.lazy import find_lazily

if TYPE_CHECKING:
    from rewriter.batch.engines import BatchEngine, ChatEngine, open_engine
    from rewriter.batch.maker import (
        Choice,
        Kit,
        Maker,
        ScoreSelector,
        Selector,
        find_outside,
        load_scorer,
        open_kit,
        own_columns,
    )
    from rewriter.batch.run import BatchPlan, Counts, run_batch, work_path
    from rewriter.batch.tables import InputTable, open_output, open_source
    from rewriter.batch.work import Keys, Record, Shard, Status, WorkFolder

__all__ = [
    "BatchEngine",
    "BatchPlan",
    "ChatEngine",
    "Choice",
    "Counts",
    "InputTable",
    "Keys",
    "Kit",
    "Maker",
    "Record",
    "ScoreSelector",
    "Selector",
    "Shard",
    "Status",
    "WorkFolder",
    "find_outside",
    "load_scorer",
    "open_engine",
    "open_kit",
    "open_output",
    "open_source",
    "own_columns",
    "run_batch",
    "work_path",
]

__getattr__ = find_lazily(
    __name__,
    {
        "rewriter.batch.engines": ("BatchEngine", "ChatEngine", "open_engine"),
        "rewriter.batch.maker": (
            "Choice",
            "Kit",
            "Maker",
            "ScoreSelector",
            "Selector",
            "find_outside",
            "load_scorer",
            "open_kit",
            "own_columns",
        ),
        "rewriter.batch.run": ("BatchPlan", "Counts", "run_batch", "work_path"),
        "rewriter.batch.tables": ("InputTable", "open_output", "open_source"),
        "rewriter.batch.work": ("Keys", "Record", "Shard", "Status", "WorkFolder"),
    },
)
