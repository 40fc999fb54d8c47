"""Turns that draw: runs of `agent.run` inside of a conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PIL import Image

from agent.detached import detached
from agent.run import RunResult, Session
from agent.talk_state import Node, Outcome, TalkContext, TalkState, looked_at, looking_at
from agent.talk_types import EntryKind, Picture
from agent.types import Limits, StopReason
from redraft.errors import InputError
from redraft.store import ImageStore


async def draw(state: TalkState, runtime: Node, prompt: str) -> Outcome:
    run = _run_folder(state, runtime.context)
    return await _run(state, runtime, "draw", run, lambda limits, seed: _start(runtime, run, prompt, limits, seed))


async def edit(state: TalkState, runtime: Node, instruction: str) -> Outcome:
    ctx, now = runtime.context, looked_at(state)
    source = await asyncio.to_thread(ctx.store.get, now.image)
    mask = None if state["mask"] is None else await asyncio.to_thread(ctx.store.get, state["mask"])
    if mask is not None and mask.size != source.size:
        raise InputError("the mask is for a picture of another size; give another, or /mask off")
    run = _run_folder(state, ctx)
    return await _run(
        state, runtime, "edit", run, lambda limits, seed: _start(runtime, run, instruction, limits, seed, source, mask)
    )


async def again(state: TalkState, runtime: Node) -> Outcome:
    """Takes up the latest run that failed."""
    last = next((entry for entry in reversed(state["entries"]) if entry.run is not None), None)
    if last is None or not last.error or last.run is None:
        raise InputError("the latest drawing did not fail; there is nothing to go on with")
    kind: EntryKind = "edit" if last.kind == "edit" else "draw"
    return await _run(state, runtime, kind, runtime.context.home / last.run, None)


def _start(
    runtime: Node,
    run: Path,
    prompt: str,
    limits: Limits,
    seed: int | None,
    source: Image.Image | None = None,
    mask: Image.Image | None = None,
) -> Session:
    ctx = runtime.context
    return Session.start(
        prompt, ctx.parts, limits=limits, out=ctx.runs, folder=run, profile=ctx.profile, seed=seed, source=source,
        mask=mask,
    )  # fmt: skip


async def _run(
    state: TalkState,
    runtime: Node,
    kind: EntryKind,
    folder: Path,
    start: Callable[[Limits, int | None], Session] | None,
) -> Outcome:
    """Works on a run to its end, taking it up where a kill has left it. `start` None: it is there already."""
    ctx = runtime.context
    if start is None or (folder / "run.json").is_file():
        session = Session.open(folder, ctx.parts)
    else:
        accept = state["accept_at"]
        limits = ctx.limits if accept is None else replace(ctx.limits, accept_at=accept)
        seed = state["seed"] if ctx.seed is None else ctx.seed
        session = await asyncio.to_thread(start, limits, seed)
    async for event in detached(session.stream()):
        runtime.stream_writer(event)
        if ctx.stop.is_set():
            session.cancel()
    result = session.result
    assert result is not None
    where = str(folder.relative_to(ctx.home))
    best = result.best_attempt
    if result.stop is StopReason.FAILED or best is None or best.unchanged:
        why = result.error or result.why
        hint = "; when that is mended, say /again" if result.stop is StopReason.FAILED else ""
        return Outcome(kind, f"{why}{hint}", run=where, error=True)
    image = await asyncio.to_thread(_kept, result, ctx)
    parent = state["current"] if result.source is not None else None
    made = Picture(
        number=len(state["pictures"]) + 1,
        image=image,
        made="drawn" if result.source is None else "edited",
        told=result.prompt,
        parent=parent or None,
        score=best.score,
        accepted=result.stop is StopReason.ACCEPTED,
        run=where,
    )
    return Outcome(kind, _said_of(result, made), looking_at(state, made), (made.number,), where)


def _kept(result: RunResult, ctx: TalkContext) -> str:
    """The best picture of a run in the conversation's own store; its hash."""
    best = result.best_attempt
    assert best is not None
    return ctx.store.put(ImageStore(result.folder / "state" / "images").get(best.image))


def _said_of(result: RunResult, made: Picture) -> str:
    score = "without a score" if made.score is None else f"score {made.score:.2f}"
    count = f"{len(result.attempts)} drawn" if len(result.attempts) != 1 else "1 drawn"
    return f"picture {made.number}: {score}, {result.stop.value} ({result.why}); {count}"


def _run_folder(state: TalkState, ctx: TalkContext) -> Path:
    return ctx.runs / f"turn-{state['turn']:04d}"
