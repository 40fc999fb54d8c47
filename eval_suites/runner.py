"""One runner for every suite of pictures: draws, judges, keeps, and says what came out."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from eval_suites.conditions import Answered, Condition, Work
from eval_suites.sources import sha256
from eval_suites.types import Item, Suite
from redraft.errors import BackendError, InputError

T = TypeVar("T")

GIVE_UP = 20
"""So many items in a row that fail end the run."""

Results = dict[str, dict[str, Answered | str]]
"""Condition to item id to its answers, or to what went wrong."""


class Loaded(Protocol):
    """What was read from files."""

    @property
    def files(self) -> tuple[Path, ...]: ...


def spread(items: Sequence[T], limit: int | None) -> tuple[T, ...]:
    """`limit` items at even distances: benchmarks are sorted by category, and the first few would be all of one."""
    if limit is None or limit >= len(items):
        return tuple(items)
    return tuple(items[i * len(items) // limit] for i in range(limit))


def data_settings(data: Loaded) -> dict[str, str]:
    """File name to hash of what was loaded; many files are one entry."""
    if len(data.files) <= 8:
        names = [path.name for path in data.files]
        return {n if names.count(n) == 1 else str(p): sha256(p) for n, p in zip(names, data.files, strict=True)}
    every = hashlib.sha256("".join(sha256(path) for path in data.files).encode()).hexdigest()
    return {f"{data.files[0].parent} and others, {len(data.files)} files": every}


async def evaluate(
    work: Work, items: Sequence[Item], rows: Sequence[Condition], done: Callable[[str], None] = lambda _: None
) -> Results:
    """Every condition on every item. `done` is called with a condition's name at each item that is through.

    A model or server that fails on an item makes that item a failure of its condition; GIVE_UP of them in a row, or
    three batches of pictures in a row, raise BackendError. What is finished stays in the journal in any case.
    """
    results: Results = {row.name: {} for row in rows}
    failures = 0
    errors: list[BackendError] = []
    unwritten: dict[str, BackendError] = {}

    async def one(row: Condition, item: Item) -> None:
        nonlocal failures
        try:
            if item.id in unwritten and row.name.startswith("rewritten"):
                raise unwritten[item.id]
            made = await work.maker(row.name)(item)
            results[row.name][item.id] = await work.answer(item, made)
            failures = 0
            errors.clear()
        except BackendError as error:
            results[row.name][item.id] = str(error)
            # The pictures of a batch fail together, with one error, and the easel has a patience of its own.
            failures += all(error is not known for known in errors)
            errors.append(error)
            if failures >= GIVE_UP:
                raise BackendError(f"{failures} items in a row failed; the last: {error}") from error
        done(row.name)

    async def side(names: Sequence[str], rewritten: bool) -> None:
        """Draws the pictures that these conditions share, and judges them as they come."""
        mine = [row for row in rows if row.name in names]
        if not mine:
            return
        draws = [draw for item in items for draw in work.draws(item, item.prompt)]
        promised = work.easel.promise(draws) if not rewritten else []
        if rewritten:
            made = await asyncio.gather(*(work.rewrite(item) for item in items), return_exceptions=True)
            for item, rewrite in zip(items, made, strict=True):
                if isinstance(rewrite, BackendError):
                    unwritten[item.id] = rewrite
                    continue
                if isinstance(rewrite, BaseException):
                    raise rewrite
                promised += work.easel.promise(work.draws(item, rewrite["prompt"], rewrite["negative_prompt"]))
        await _together([work.easel.work(promised), *(one(row, item) for item in items for row in mine)])

    loops = [row for row in rows if row.name in ("loop", "given")]
    await _together(
        [
            side(("raw", "raw_best"), False),
            side(("rewritten", "rewritten_best"), True),
            *(one(row, item) for row in loops for item in items),
        ]
    )
    return {name: {item.id: found[item.id] for item in items} for name, found in results.items()}


async def _together(jobs: Sequence[Awaitable[None]]) -> None:
    """Waits for all; the first error cancels the others and is raised."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def lay_out(work: Work, suite: Suite, items: Sequence[Item], rows: Sequence[Condition], results: Results) -> None:
    """Puts each condition's pictures where the benchmark's own scripts look for them: OUT/images/<condition>/...

    A picture that is there with other bytes (half a copy, another run's) is replaced. Only complete items are laid out.
    """
    for row in rows:
        if row.name == "given":
            continue
        folder = work.out / "images" / row.name
        whole = []
        for item in items:
            answered = results[row.name][item.id]
            if isinstance(answered, str):
                continue
            for k, picture in enumerate(answered.made.pictures):
                _link(work.store.path(picture), folder / suite.place(item, k))
            whole.append(item)
        if suite.finish is not None and whole:
            suite.finish(folder, whole, row.shown)


def _link(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            if target.samefile(source):
                return
            target.unlink()
        try:
            os.link(source, target)
        except OSError:  # another disk, or a file system without hard links
            shutil.copyfile(source, target)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}; choose another --out") from error


def cost(work: Work) -> dict[str, Any]:
    """What the run has spent: pictures, tokens of the rewriter, seconds by kind of work (summed over its pieces)."""
    usages = [value["usage"] for value in work.journal.values("rewrite")]
    judged = work.journal.values("judged")
    return {
        "pictures_drawn": len(work.journal.values("picture")) + sum(v["drawn"] for v in work.journal.values("loop")),
        "pictures_judged": len(judged),
        "answers": sum(len(value["verdicts"]) for value in judged),
        "rewriter_tokens": {
            side: sum(usage[f"{side}_tokens"] for usage in usages) for side in ("prompt", "completion")
        },
        "seconds": {kind: round(seconds, 3) for kind, seconds in sorted(work.journal.seconds().items()) if seconds > 0},
    }


def failures(results: Results) -> Mapping[str, Mapping[str, str]]:
    """Condition to item id to what went wrong."""
    return {
        name: {item: found for item, found in answers.items() if isinstance(found, str)}
        for name, answers in results.items()
    }
