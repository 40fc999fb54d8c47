"""What the tests of batches share: a small batch from end to end, without a model."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from redraft.profiles import ModelConfig, RewriterConfig
from rewriter.batch.engines import BatchEngine
from rewriter.batch.maker import Maker, ScoreSelector, Selector, load_scorer, open_kit, own_columns
from rewriter.batch.run import FLUSH_S, BatchPlan, Counts, Notify, run_batch, work_path
from rewriter.batch.tables import open_source
from rewriter.batch.work import Shard, WorkFolder

CONFIG = RewriterConfig(
    model=ModelConfig(kind="transformers", model="fake"), style="promptenhancer", temperature=0.7, max_tokens=300
)


def run(
    source: Path,
    out: Path,
    engine: BatchEngine,
    *,
    config: RewriterConfig = CONFIG,
    field: str | None = None,
    target: str = "generic",
    n: int = 1,
    select: str | None = None,
    selector: Selector | None = None,
    thought: bool = False,
    seed: int = 0,
    shard: str = "1/1",
    limit: int | None = None,
    work: Path | None = None,
    fresh: bool = False,
    workers: int = 0,
    tell: Notify = lambda _: None,
    flush_s: float = FLUSH_S,
) -> Counts:
    """A batch with its engine closed behind it."""
    selector = selector or (None if select is None else ScoreSelector(load_scorer(select)))

    async def go() -> Counts:
        kit = open_kit(config, target=target, engine=engine, n=n, workers=workers)
        own = own_columns(kit.target, thought=thought, n=n, scored=selector is not None)
        plan = BatchPlan({**kit.settings, "select": select}, own, seed, Shard.parse(shard), limit)
        maker = Maker(kit.rewriter, plan.keys, n=n, selector=selector)
        try:
            with WorkFolder(work or work_path(out), plan.shard, fresh=fresh) as opened:
                rows = open_source(str(source), field)
                return await run_batch(
                    rows, out, opened, plan, maker, window=engine.window, notify=tell, flush_s=flush_s
                )
        finally:
            await kit.aclose()

    return asyncio.run(go())


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
