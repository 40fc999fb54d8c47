"""A turn of a conversation as a LangGraph graph; the conversation is the thread.

    understand -+-> clarify (asks the user) -> understand
                +-> act -> end

What a turn draws is a run of its own (`agent.run`) in a folder that follows from the turn's number, so that a turn that
was killed takes its run up again. State holds small values and hashes; pictures lie in the conversation's store.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from agent import talk_actions as actions
from agent import talk_runs as runs
from agent.talk_commands import Command, help_text, parse_command
from agent.talk_state import Node, Outcome, TalkContext, TalkState, current, shows
from agent.talk_types import Entry, EntryKind, Replied, TurnBegan
from redraft.errors import InputError, RedraftError
from rewriter.turns import Talk, Turn

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
        if ctx.parts.turn_reader is None:
            raise InputError("these parts read no free text; use the commands, /help lists them")
        async with ctx.parts.calls:
            wanted = await ctx.parts.turn_reader(await asyncio.to_thread(_talk, state, ctx))
    except RedraftError as error:
        return {"problem": str(error)}
    return {"wanted": wanted}


def _talk(state: TalkState, ctx: TalkContext) -> Talk:
    now = current(state)
    return Talk(
        said=state["said"],
        pictures=len(state["pictures"]),
        current=state["current"],
        shows="" if now is None else shows(state, now),
        earlier=tuple(entry.said for entry in state["entries"][-EARLIER:]),
        may_ask=state["may_ask"] and not state["question"],
        asked=state["question"],
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
            return await runs.draw(state, runtime, wanted.text)
        case "edit":
            return await runs.edit(state, runtime, wanted.text)
        case "ask":
            return await actions.answer(state, ctx, wanted.text)
        case "undo":
            return actions.undo(state)
        case "back":
            return actions.back(state, wanted.numbers[0])
        case "compare":
            return await asyncio.to_thread(actions.compare, state, ctx, wanted.numbers[0], wanted.numbers[1])
        case "accept":
            return actions.accept(state)
        case "save":
            return await asyncio.to_thread(actions.save, state, ctx, wanted.text or None)
    return Outcome("unclear", wanted.question or "I do not understand; /help lists what I know.")


async def _command(state: TalkState, runtime: Node, command: Command) -> Outcome:
    ctx, given = runtime.context, command.arguments
    first = given[0] if given else None
    match command.name:
        case "draw":
            return await runs.draw(state, runtime, given[0])
        case "edit":
            return await runs.edit(state, runtime, given[0])
        case "ask":
            return await actions.answer(state, ctx, given[0])
        case "undo":
            return actions.undo(state)
        case "back":
            return actions.back(state, actions.picture_number(given[0], state))
        case "compare":
            one, other = (actions.picture_number(text, state) for text in given)
            return await asyncio.to_thread(actions.compare, state, ctx, one, other)
        case "accept":
            return actions.accept(state) if first is None else actions.accept_from(first)
        case "save":
            return await asyncio.to_thread(actions.save, state, ctx, first)
        case "fork":
            name = await ctx.fork(state, first)
            return Outcome("fork", f"from here on this is the conversation {name}", fork=name)
        case "seed":
            return actions.seed(state, first)
        case "questions":
            if first not in ("on", "off"):
                raise InputError("/questions is used so: /questions on|off")
            may = "may" if first == "on" else "will not"
            return Outcome("setting", f"you {may} be asked where something is unclear", {"may_ask": first == "on"})
        case "open":
            return await asyncio.to_thread(actions.given, state, ctx, given[0])
        case "mask":
            return await asyncio.to_thread(actions.mask, state, ctx, given[0])
        case "again":
            return await runs.again(state, runtime)
        case "list":
            return Outcome("setting", actions.listing(state, ctx))
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
