"""Events of conversations, from those who work on turns to those who follow them."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image

from agent.chat.values import Clarify, Entry, Picture, Replied, TalkEvent, TurnBegan
from agent.events import (
    Asked,
    ChecklistMade,
    Decided,
    ImageDrawn,
    Judged,
    Planned,
    Pruned,
    RewriteMade,
    RunFinished,
    RunStarted,
    StepProgress,
    Warned,
)
from agent.serve.database import Database
from agent.serve.wire import Picture as WirePicture
from agent.serve.wire import ServerEvent, Turn
from agent.types import Attempt, passes
from evaluator.types import Verdict
from redraft.limits import CLIENT_LIMITS, Limits

BEAT_S = 15.0
_ROOM = 256
"""Events that wait for a slow listener; beyond that it reads them from the database again."""


class _Listener:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[ServerEvent | None] = asyncio.Queue(_ROOM)

    def tell(self, event: ServerEvent) -> None:
        if self.queue.full():
            return  # kept ones are read from the database, the others are not missed
        self.queue.put_nowait(event)

    def end(self) -> None:
        while self.queue.full():
            self.queue.get_nowait()
        self.queue.put_nowait(None)


class Broker:
    """`poll_s`: how often listeners look for events of other servers; None where there are none.

    All methods belong to one event loop.
    """

    def __init__(self, database: Database, poll_s: float | None) -> None:
        self._database = database
        self._poll_s = poll_s
        self._listeners: defaultdict[str, set[_Listener]] = defaultdict(set)
        self._closed = False

    async def tell(
        self, conversation: str, turn: int, key: str, name: str, data: Mapping[str, Any], *, ends: str | None = None
    ) -> None:
        """Keeps an event, then sends it. One that was kept before under this key is not sent again. `ends`: the id of
        the turn that is over with it."""
        seq = await self._database.add_event(conversation, turn, key, name, data, ends=ends)
        if seq is not None:
            self._send(conversation, ServerEvent(id=seq, event=name, data={"turn": turn, **data}))

    def whisper(self, conversation: str, turn: int, name: str, data: Mapping[str, Any]) -> None:
        """Sends an event to those who listen now, and keeps nothing."""
        self._send(conversation, ServerEvent(id=None, event=name, data={"turn": turn, **data}))

    def end(self, conversation: str) -> None:
        """The conversation is gone."""
        self.whisper(conversation, 0, "deleted", {})
        for listener in self._listeners.get(conversation, ()):
            listener.end()

    def close(self) -> None:
        """Ends all streams."""
        self._closed = True
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.end()

    def listeners(self) -> int:
        return sum(map(len, self._listeners.values()))

    async def follow(self, conversation: str, after: int) -> AsyncGenerator[ServerEvent | None]:
        """The conversation's events behind the one numbered `after`, for as long as the server runs and the conversation is
        there. None: nothing has happened for a while."""
        listener = _Listener()
        self._listeners[conversation].add(listener)
        try:
            last = after
            quiet = 0.0
            while not self._closed:
                # From here on nothing is missed: what comes meanwhile is in the listener's queue.
                for row in await self._database.events(conversation, last):
                    last, quiet = row.seq, 0.0
                    yield ServerEvent(id=row.seq, event=row.name, data={"turn": row.turn, **row.data})
                while True:
                    wait_s = BEAT_S if self._poll_s is None else self._poll_s
                    try:
                        event = await asyncio.wait_for(listener.queue.get(), wait_s)
                    except TimeoutError:
                        quiet += wait_s
                        if quiet >= BEAT_S:
                            quiet = 0.0
                            yield None
                        break
                    if event is None:
                        return
                    if event.id is None:
                        yield event
                    elif event.id == last + 1:
                        last, quiet = event.id, 0.0
                        yield event
                    elif event.id > last:
                        break  # some are missing
        finally:
            self._listeners[conversation].discard(listener)
            if not self._listeners[conversation]:
                del self._listeners[conversation]

    def _send(self, conversation: str, event: ServerEvent) -> None:
        for listener in self._listeners.get(conversation, ()):
            listener.tell(event)


@dataclass(frozen=True)
class Told:
    """One event. `key` names it within its turn: the same thing told again after a restart has the same key. None for
    what is not kept."""

    key: str | None
    name: str
    data: dict[str, Any]


def run_id(conversation: str, folder: str) -> str:
    """The id of a turn's run, from its conversation and the name of its folder."""
    return f"{conversation}.{folder}"


def tell(
    event: TalkEvent, conversation: str, limits: Limits, *, source: str | None = None, file: str | None = None
) -> Told:
    """`source`: hash of the picture that a starting run edits; `file`: that of what a reply made beside pictures."""
    match event:
        case TurnBegan():
            said = {"said": event.said, "kind": event.kind, "text": event.text, "reason": event.reason, "by": event.by}
            return Told("began", "turn_began", said)
        case RunStarted():
            run = run_id(conversation, event.run)
            data = {
                "run": run,
                "request": event.request,
                "seed": event.seed,
                "source": source,
                "limits": bounds(limits),
            }
            return Told(f"run {run}", "run_started", data)
        case StepProgress():
            return Told(None, "progress", asdict(event))
        case ChecklistMade():
            return Told("checklist", "checklist", {"checks": [asdict(check) for check in event.checks]})
        case Planned():
            plan = event.plan
            steps = [
                {
                    "instruction": s.instruction,
                    "region": s.region,
                    "area": s.area,
                    "draft": s.draft,
                    "drafted": s.drafted,
                }
                for s in plan.steps
            ]
            planned = {
                "round": event.round, "choice": plan.choice, "reason": plan.reason, "by": plan.by,
                "steps": steps, "at": plan.at,
            }  # fmt: skip
            return Told(f"planned {event.round}", "planned", planned)
        case RewriteMade():
            one = event.rewrite
            rewrite = {
                "round": event.round, "thought": one.thought, "prompt": one.prompt,
                "negative_prompt": one.negative_prompt, "findings": list(one.findings), "fallback": one.fallback,
                "model": one.model,
            }  # fmt: skip
            return Told(f"rewrite {event.round} {_short(one.prompt, one.thought)}", "rewrite", rewrite)
        case ImageDrawn():
            with Image.open(event.path) as picture:  # its header alone
                width, height = picture.size
            image = {
                "round": event.round, "prompt": event.prompt, "seed": event.seed, "image": event.image,
                "width": width, "height": height,
            }  # fmt: skip
            return Told(f"image {event.round} {event.seed} {_short(event.prompt, event.image)}", "image", image)
        case Judged():
            return Told(f"attempt {event.number}", "attempt", attempt(event.number, event.attempt, limits.pass_at))
        case Pruned():
            branches = [{"number": n, "confidence": b.confidence, "fate": b.fate} for n, b in event.branches]
            return Told(f"pruned {event.round}", "pruned", {"round": event.round, "branches": branches})
        case Decided():
            made = event.decision
            best = None if made.best is None else made.best + 1
            stop = None if made.stop is None else made.stop.value
            decided = {"round": event.round, "stop": stop, "best": best, "why": made.why}
            return Told(f"decided {event.round}", "decided", decided)
        case Warned():
            return Told(f"warning {_short(event.text)}", "warning", {"text": event.text})
        case RunFinished():
            finished = {
                "run": run_id(conversation, event.trace.parent.name), "stop": event.stop.value, "why": event.why,
                "best": event.number, "image": None if event.attempt is None else event.attempt.image,
                "score": None if event.attempt is None else event.attempt.score, "error": event.error,
            }  # fmt: skip
            return Told("finished", "run_finished", finished)
        case Clarify():
            return Told("clarify", "clarify", {"question": event.question, "choices": list(event.choices)})
        case Replied():
            pictures = [picture_of(picture).model_dump() for picture, _ in event.shown]
            replied = {
                "entry": turn(event.entry).model_dump(), "pictures": pictures,
                "current": event.entry.current, "file": file, "branch": event.fork,
            }  # fmt: skip
            return Told("replied", "replied", replied)
        case Asked():  # runs of conversations do not ask
            return Told("asked", "warning", {"text": event.why})


def attempt(number: int, made: Attempt, pass_at: float) -> dict[str, Any]:
    return {
        "number": number,
        "round": made.round,
        "kind": made.kind,
        "prompt": made.prompt,
        "seed": made.seed,
        "image": made.image,
        "parent": made.parent,
        "score": made.score,
        "failed": made.report.failed,
        "unchanged": made.unchanged,
        "verdicts": verdicts(made.report.verdicts, pass_at),
    }


def verdicts(those: Iterable[Verdict], pass_at: float) -> list[dict[str, Any]]:
    return [
        {
            "key_point": v.check.key_point,
            "question": v.check.question,
            "outcome": v.outcome.value,
            "probability": v.probability,
            "passed": passes(v, pass_at),
            "reason": v.reason,
            "region": v.region,
        }
        for v in those
    ]


def bounds(limits: Limits) -> dict[str, float]:
    """Those of the limits that clients may set."""
    return limits.model_dump(include=set(CLIENT_LIMITS))


def turn(entry: Entry) -> Turn:
    data = {name: value for name, value in asdict(entry).items() if name in Turn.model_fields}
    return Turn.model_validate(data | {"run": _run(entry.run), "pictures": list(entry.pictures)})


def picture_of(picture: Picture) -> WirePicture:
    return WirePicture.model_validate(asdict(picture) | {"run": _run(picture.run)})


def _run(folder: str | None) -> str | None:
    """Id of a run from its folder within the home of all conversations: conversation/turn-0001."""
    return None if folder is None else run_id(*folder.split("/", 1))


def _short(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()[:16]
