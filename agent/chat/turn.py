"""A turn of a conversation as a LangGraph graph; the conversation is the thread.

    understand -+-> clarify (asks the user) -> understand
                +-> act -> end

What a turn draws is a run of its own (`agent.run`) in a folder that follows from the turn's number, so that a turn that
was killed takes its run up again. State holds small values and hashes; pictures lie in the conversation's store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from PIL import Image

from agent.chat.commands import Command, help_text, number_of, parse_command
from agent.chat.values import (
    Entry,
    EntryKind,
    Node,
    Outcome,
    Picture,
    Replied,
    TalkContext,
    TalkState,
    TurnBegan,
    current,
    looked_at,
    looking_at,
    shows,
)
from agent.detached import detached
from agent.run import Run, RunResult
from agent.types import StopReason
from redraft.errors import BackendError, InputError, RedraftError
from redraft.images import open_image, open_mask, save_png
from redraft.limits import Limits
from redraft.store import ImageStore
from rewriter.turns import Turn, TurnContext

EARLIER = 6
"""Turns of which the reader is told what the user said."""


async def understand(state: TalkState, runtime: Node) -> TalkState:
    ctx = runtime.context
    try:
        command = parse_command(state["said"])
        if command is not None:
            return {"command": command}
        if not state["said"].strip():
            raise InputError("say what you want, or /help")
        if ctx.models.turn_reader is None:
            raise InputError("these models read no free text; use the commands, /help lists them")
        async with ctx.models.calls:
            wanted = await ctx.models.turn_reader(await asyncio.to_thread(_talk, state, ctx))
    except RedraftError as error:
        return {"problem": str(error)}
    return {"wanted": wanted}


def _talk(state: TalkState, ctx: TalkContext) -> TurnContext:
    now = current(state)
    return TurnContext(
        request=state["said"],
        pictures=len(state["pictures"]),
        current=state["current"],
        made_from="" if now is None else shows(state, now),
        earlier=tuple(entry.said for entry in state["entries"][-EARLIER:]),
        may_ask=state["may_ask"] and not state["question"],
        question=state["question"],
        answer=state["answer"],
        picture=None if now is None else ctx.store.get(now.image),
    )


async def clarify(state: TalkState, runtime: Node) -> TalkState:
    """Waits for the user, in this process or a later one."""
    wanted = state["wanted"]
    assert wanted is not None
    answer: str = interrupt({"question": wanted.question, "choices": list(wanted.choices)})
    return {"question": wanted.question, "answer": answer, "wanted": None}


def after_understand(state: TalkState) -> str:
    wanted = state.get("wanted")
    unclear = wanted is not None and wanted.kind == "unclear"
    return "clarify" if unclear and state["may_ask"] and not state["question"] else "act"


async def act(state: TalkState, runtime: Node) -> TalkState:
    ctx = runtime.context
    wanted, command = state.get("wanted"), state.get("command")
    kind: EntryKind = "mistake"
    text = reason = by = ""
    if command is not None:
        kind, text, by = _kind_of(command), " ".join(command.arguments), "command"
    elif wanted is not None:
        kind, text, reason, by = wanted.kind, wanted.text, wanted.reason, wanted.by
    runtime.stream_writer(TurnBegan(state["turn"], state["said"], kind, text, reason, by))
    try:
        if state["problem"]:
            raise InputError(state["problem"])
        outcome = await _follow(state, runtime, wanted, command)
    except RedraftError as error:
        outcome = Outcome(kind, str(error), error=True)
    changes = outcome.changes
    entry = Entry(
        turn=state["turn"],
        said=state["said"],
        kind=outcome.kind,
        reply=outcome.reply,
        current=changes.get("current", state["current"]),
        pictures=outcome.shown,
        reason=reason,
        by=by,
        question=state["question"],
        answer=state["answer"],
        run=outcome.run,
        error=outcome.error,
    )
    pictures = changes.get("pictures", state["pictures"])
    shown = tuple((pictures[n - 1], ctx.store.path(pictures[n - 1].image)) for n in outcome.shown)
    runtime.stream_writer(Replied(entry, shown, outcome.file, outcome.fork))
    return {**changes, "entries": [*state["entries"], entry]}


def _kind_of(command: Command) -> EntryKind:
    match command.name:
        case "draw" | "edit" | "ask" | "undo" | "back" | "compare" | "accept" | "save" | "fork" | "again":
            return command.name
        case "open":
            return "given"
    return "setting"


async def _follow(state: TalkState, runtime: Node, wanted: Turn | None, command: Command | None) -> Outcome:
    ctx = runtime.context
    if command is not None:
        return await _command(state, runtime, command)
    assert wanted is not None
    match wanted.kind:
        case "draw":
            return await draw(state, runtime, wanted.text)
        case "edit":
            return await edit(state, runtime, wanted.text)
        case "ask":
            return await answer(state, ctx, wanted.text)
        case "undo":
            return undo(state)
        case "back":
            return back(state, wanted.numbers[0])
        case "compare":
            return await asyncio.to_thread(compare, state, ctx, wanted.numbers[0], wanted.numbers[1])
        case "accept":
            return accept(state)
        case "save":
            return await asyncio.to_thread(save, state, ctx, wanted.text or None)
    return Outcome("unclear", wanted.question or "I do not understand; /help lists what I know.")


async def _command(state: TalkState, runtime: Node, command: Command) -> Outcome:
    ctx, arguments = runtime.context, command.arguments
    first = arguments[0] if arguments else None
    match command.name:
        case "draw":
            return await draw(state, runtime, arguments[0])
        case "edit":
            return await edit(state, runtime, arguments[0])
        case "ask":
            return await answer(state, ctx, arguments[0])
        case "undo":
            return undo(state)
        case "back":
            return back(state, picture_number(arguments[0], state))
        case "compare":
            one, other = (picture_number(text, state) for text in arguments)
            return await asyncio.to_thread(compare, state, ctx, one, other)
        case "accept":
            return accept(state) if first is None else accept_from(first)
        case "save":
            return await asyncio.to_thread(save, state, ctx, first)
        case "fork":
            name = await ctx.fork(state, first)
            return Outcome("fork", f"from here on this is the conversation {name}", fork=name)
        case "seed":
            return seed(state, first)
        case "questions":
            if first not in ("on", "off"):
                raise InputError("/questions is used so: /questions on|off")
            may = "may" if first == "on" else "will not"
            return Outcome("setting", f"you {may} be asked where something is unclear", {"may_ask": first == "on"})
        case "open":
            return await asyncio.to_thread(given, state, ctx, arguments[0])
        case "mask":
            return await asyncio.to_thread(mask, state, ctx, arguments[0])
        case "again":
            return await again(state, runtime)
        case "list":
            return Outcome("setting", listing(state, ctx))
        case "export":
            if not ctx.own_files:
                raise InputError("files of the server cannot be named here; download the conversation")
            path = await asyncio.to_thread(ctx.export, state, None if first is None else Path(first))
            return Outcome("setting", f"exported to {path}", file=path)
        case "help":
            return Outcome("setting", help_text())
        case "quit":
            return Outcome("setting", "everything is kept")


def build_talk_graph() -> StateGraph[TalkState, TalkContext, TalkState, TalkState]:
    """The graph of a turn, to be compiled with a checkpointer."""
    graph: StateGraph[TalkState, TalkContext, TalkState, TalkState] = StateGraph(TalkState, context_schema=TalkContext)
    graph.add_node("understand", understand)
    graph.add_node("clarify", clarify)
    graph.add_node("act", act)
    graph.add_edge(START, "understand")
    graph.add_conditional_edges("understand", after_understand, ["clarify", "act"])
    graph.add_edge("clarify", "understand")
    graph.add_edge("act", END)
    return graph


async def answer(state: TalkState, ctx: TalkContext, question: str) -> Outcome:
    now = looked_at(state)
    if ctx.models.answerer is None:
        raise BackendError("there is no model here that answers questions about pictures")
    picture = await asyncio.to_thread(ctx.store.get, now.image)
    async with ctx.models.calls:
        return Outcome("ask", await ctx.models.answerer(picture, question))


def undo(state: TalkState) -> Outcome:
    if not state["trail"]:
        raise InputError("there is nothing to undo")
    *rest, before = state["trail"]
    changes: TalkState = {"current": before, "trail": rest}
    if before == 0:
        return Outcome("undo", "back at the beginning, before any picture", changes)
    return Outcome("undo", f"back at picture {before}", changes, (before,))


def back(state: TalkState, number: int) -> Outcome:
    changes: TalkState = {"current": number, "trail": [*state["trail"], state["current"]]}
    return Outcome("back", f"back at picture {number}", changes, (number,))


def compare(state: TalkState, ctx: TalkContext, one: int, other: int) -> Outcome:
    from editors.changes import change_between

    left, right = (state["pictures"][n - 1] for n in (one, other))
    a, b = ctx.store.get(left.image).convert("RGB"), ctx.store.get(right.image).convert("RGB")
    b = b.resize((max(1, round(b.width * a.height / b.height)), a.height)) if b.height != a.height else b
    both = Image.new("RGB", (a.width + b.width + 8, a.height), "white")
    both.paste(a, (0, 0))
    both.paste(b, (a.width + 8, 0))
    path = ctx.runs / f"compare-{one}-{other}.png"
    save_png(both, path, {"Software": "redraft"})
    lines = [f"picture {p.number} ({p.made}): {_scored(p)}, from: {shows(state, p)}" for p in (left, right)]
    change = change_between(a, ctx.store.get(right.image))
    lines.append("they look the same" if change.unchanged else f"they differ by {100 * change.mean:.1f}% on the whole")
    return Outcome("compare", "\n".join(lines), shown=(one, other), file=path)


def accept(state: TalkState) -> Outcome:
    now = looked_at(state)
    pictures = [replace(p, accepted=True) if p.number == now.number else p for p in state["pictures"]]
    return Outcome("accept", f"picture {now.number} is accepted", {"pictures": pictures})


def accept_from(text: str) -> Outcome:
    bar = number_of(text, "the score", 0.01, 1)
    return Outcome("setting", f"pictures are accepted from a score of {bar:g} on", {"accept_at": bar})


def save(state: TalkState, ctx: TalkContext, target: str | None) -> Outcome:
    now = looked_at(state)
    if not ctx.own_files:
        return Outcome("save", f"picture {now.number} is kept here; download it", shown=(now.number,))
    path = Path(target).expanduser() if target else Path(f"{ctx.name}-{now.number}.png")
    if path.is_dir():
        path = path / f"{ctx.name}-{now.number}.png"
    if path.suffix.lower() != ".png":
        path = path.with_name(f"{path.name}.png")
    text = {"Software": "redraft", "redraft:conversation": ctx.name, "redraft:made-from": shows(state, now)}
    save_png(ctx.store.get(now.image), path, text)
    return Outcome("save", f"saved as {path}", file=path)


def seed(state: TalkState, text: str | None) -> Outcome:
    if text is None:
        now = state["seed"]
        return Outcome("setting", "each drawing has a seed of its own" if now is None else f"the seed is {now}")
    if text == "off":
        return Outcome("setting", "each drawing has a seed of its own", {"seed": None})
    seed = int(number_of(text, "the seed", 0, 2**31 - 1))
    return Outcome("setting", f"the seed is {seed}", {"seed": seed})


def given(state: TalkState, ctx: TalkContext, file: str) -> Outcome:
    path = _own_file(ctx, file)
    image = ctx.store.put(open_image(path))
    made = Picture(len(state["pictures"]) + 1, image, "given", path.name)
    return Outcome("given", f"picture {made.number} is {path.name}", looking_at(state, made), (made.number,))


def mask(state: TalkState, ctx: TalkContext, file: str) -> Outcome:
    if file == "off":
        return Outcome("setting", "changes may be anywhere", {"mask": None})
    now = looked_at(state)
    mask = open_mask(_own_file(ctx, file), ctx.store.get(now.image).size)
    return Outcome("setting", "changes only where the mask is white", {"mask": ctx.store.put(mask)})


def listing(state: TalkState, ctx: TalkContext) -> str:
    lines = []
    for p in state["pictures"]:
        here = "> " if p.number == state["current"] else "  "
        of = f" of {p.parent}" if p.parent else ""
        lines.append(f"{here}{p.number} {p.made}{of}, {_scored(p)}{', accepted' if p.accepted else ''}: {p.told}")
    lines = lines or ["no pictures yet"]
    if ctx.own_files:
        lines.append("conversations: " + ", ".join(ctx.others()))
    return "\n".join(lines)


def _own_file(ctx: TalkContext, file: str) -> Path:
    if not ctx.own_files:
        raise InputError("files of the server cannot be named here; give the picture along with what you say")
    return Path(file).expanduser()


def _scored(picture: Picture) -> str:
    return "no score" if picture.score is None else f"score {picture.score:.2f}"


def picture_number(text: str, state: TalkState) -> int:
    if not state["pictures"]:
        raise InputError("there is no picture yet")
    value = number_of(text, "a picture's number", 1, len(state["pictures"]))
    if value != int(value):
        raise InputError(f"there is no picture {text}")
    return int(value)


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
) -> Run:
    ctx = runtime.context
    return Run.start(
        prompt, ctx.models, limits=limits, out=ctx.runs, folder=run, profile=ctx.profile, seed=seed, source=source,
        mask=mask,
    )  # fmt: skip


async def _run(
    state: TalkState,
    runtime: Node,
    kind: EntryKind,
    folder: Path,
    start: Callable[[Limits, int | None], Run] | None,
) -> Outcome:
    """Works on a run to its end, taking it up where a kill has left it. `start` None: it is there already."""
    ctx = runtime.context
    if start is None or (folder / "run.json").is_file():
        run = Run.open(folder, ctx.models)
    else:
        accept = state["accept_at"]
        limits = ctx.limits.changed(accept_at=accept)
        seed = state["seed"] if ctx.seed is None else ctx.seed
        run = await asyncio.to_thread(start, limits, seed)
    async for event in detached(run.stream()):
        runtime.stream_writer(event)
        if ctx.stop.is_set():
            run.cancel()
    result = run.result
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
        told=result.request,
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
