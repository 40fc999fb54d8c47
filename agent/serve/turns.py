"""Works on turns of conversations: those that were just posted, and those that a server left behind."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from agent.chat.conversation import Conversation, View, list_conversations
from agent.chat.values import Brought, Clarify, Replied, TalkEvent, TurnBegan
from agent.events import Event, ImageDrawn, Judged, Planned, RunFinished, RunStarted
from agent.runfolder import RunFolder
from agent.serve.database import LEASE_S, ConversationRow, TurnRow
from agent.serve.events import Told, run_id, tell
from agent.serve.metrics import log, log_mistake
from agent.types import Attempt
from evaluator.types import Report
from redraft.errors import BackendError, RedraftError
from redraft.images import open_image
from redraft.journal import Occupied
from redraft.limits import Limits
from redraft.store import ImageStore

if TYPE_CHECKING:
    from agent.serve.service import Service

_REPORT = TypeAdapter(Report)
_NOWHERE = Path()
_SCAN_S = 2.0
"""How often a server looks for turns that nobody holds any more, where there are several servers."""
_OCCUPIED_S = 30.0
"""How long a turn waits for the folder of its conversation: a server that lost it may not have noticed yet."""


@dataclass
class _UnderWay:
    turn: TurnRow
    task: asyncio.Task[None]
    talk: Conversation | None = None
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True
        if self.talk is not None:
            self.talk.cancel()


class TurnWorker:
    """One task for each turn. A turn ends in the database in the same moment in which its last event is kept."""

    def __init__(self, service: Service) -> None:
        self.owner = secrets.token_hex(8)
        self._service = service
        self._turns: dict[str, _UnderWay] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._alone = True

    def __len__(self) -> int:
        return len(self._turns)

    async def start(self, *, alone: bool) -> None:
        """Takes up what is left behind. `alone`: no other server uses this database."""
        self._alone = alone
        await self._claim(everything=alone)
        self._keeper = asyncio.create_task(self._keep())

    async def _claim(self, *, everything: bool) -> None:
        for turn in await self._service.database.claim_turns(self.owner, everything=everything):
            if turn.id in self._turns:
                continue
            if turn.number == 0:  # it was never said to anybody that this turn was taken
                await self._service.database.end_turn(turn.id)
                continue
            log("turn taken up", conversation=turn.conversation, turn=turn.number)
            self.take(turn)

    def take(self, turn: TurnRow) -> None:
        """Begins to work on a turn that this server holds."""
        task = asyncio.create_task(self._work(turn))
        self._turns[turn.id] = _UnderWay(turn, task, cancelled=turn.cancelled)
        task.add_done_callback(lambda _: self._turns.pop(turn.id, None))

    def cancel(self, conversation: str) -> None:
        for one in list(self._turns.values()):
            if one.turn.conversation == conversation:
                one.cancel()

    async def finish(self, seconds: float) -> None:
        """Waits until all turns are done, at most so long; then leaves the rest where it is."""
        tasks = [one.task for one in self._turns.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        await self.stop()

    async def stop(self) -> None:
        """Leaves the turns under way where they are, for the next server."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        tasks = [one.task for one in self._turns.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=10)
            log("turns left for the next start", turns=len(tasks))
        await self._service.database.release(self.owner)

    async def _keep(self) -> None:
        """Renews the leases, hears of cancellations at other servers, and looks for turns that are left behind."""
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(LEASE_S / 4 if self._alone else min(_SCAN_S, LEASE_S / 4))
            try:
                held = await self._service.database.renew(self.owner)
                renewed = time.monotonic()
                for id, one in list(self._turns.items()):
                    if held.get(id) and not one.cancelled:
                        one.cancel()
                    if id not in held and not one.task.done():
                        one.task.cancel()  # another server has taken it, or it has just ended
                if not self._alone and not self._service.draining:
                    await self._claim(everything=False)
            except BackendError as error:
                log_mistake("database", error)
                if time.monotonic() - renewed > LEASE_S:
                    for one in list(self._turns.values()):
                        one.task.cancel()  # others take them for left by now

    async def _work(self, turn: TurnRow) -> None:
        service, started = self._service, time.monotonic()
        end = "failed"
        try:
            row = await service.database.conversation(turn.client, turn.conversation)
            if row is None:
                await service.database.end_turn(turn.id)
                return
            end = await self._converse(turn, row)
        except asyncio.CancelledError:
            end = "left"
            raise
        except RedraftError as error:
            log("turn failed", conversation=turn.conversation, turn=turn.number, error=type(error).__name__)
            await self._fail(turn, str(error))
        except Exception as error:  # noqa: BLE001 - the boundary: one turn's mistake must not be another's
            mistake = secrets.token_hex(4)
            log_mistake("turn", error, conversation=turn.conversation, turn=turn.number, id=mistake)
            await self._fail(turn, f"a mistake of the server's (log entry {mistake})")
        finally:
            service.metrics.turn(end)
            seconds = round(time.monotonic() - started, 3)
            log("turn", client=turn.client, conversation=turn.conversation, turn=turn.number, end=end, seconds=seconds)

    async def _fail(self, turn: TurnRow, error: str) -> None:
        await self._service.broker.tell(
            turn.conversation, turn.number, f"failed {turn.id}", "failed", {"error": error}, ends=turn.id
        )

    async def _converse(self, turn: TurnRow, row: ConversationRow) -> str:
        """Works on a turn to its end: "replied" or "clarify"."""
        service, body = self._service, turn.body
        served = service.served(row.profile)
        limits = served.limits.changed(**body["limits"])
        brought = Brought(body["image"], body["mask"], body["seed"], limits, body["accept_at"])
        loop = asyncio.get_running_loop()

        def queued(ahead: int) -> None:
            loop.call_soon_threadsafe(
                lambda: service.broker.whisper(turn.conversation, turn.number, "queue", {"ahead": ahead})
            )

        talk = service.conversation(row, served.for_run(turn.client, queued))
        if turn.id in self._turns:
            self._turns[turn.id].talk = talk
        view = await talk.view()
        limits = limits.changed(accept_at=body["accept_at"] or view.accept_at)
        last = _over(view, turn)
        if last is None:
            said = body["text"] if view.turn < turn.number or view.waiting is not None else None
            last = await self._follow(turn, talk, said, brought, limits)
        file = None
        if isinstance(last, Replied):
            if last.entry.kind == "fork" and not last.entry.error:
                last = await asyncio.to_thread(_with_fork, last, talk)
            if last.fork is not None:
                await service.adopt_branch(row, last.fork)
            if (made := last.file) is not None and last.entry.kind == "compare":
                file = await asyncio.to_thread(lambda: talk.store.put(open_image(made)))
            pictures = (*view.pictures, *(picture for picture, _ in last.shown))
            thumb = next((p.image for p in reversed(pictures) if p.number == last.entry.current), None)
            await service.database.change_conversation(row.id, turns=turn.number, thumb=thumb)
        told = tell(last, row.id, limits, file=file)
        key = f"{told.key} {turn.id}" if isinstance(last, Clarify) else str(told.key)
        await service.broker.tell(row.id, turn.number, key, told.name, told.data, ends=turn.id)
        return "replied" if isinstance(last, Replied) else "clarify"

    async def _follow(
        self, turn: TurnRow, talk: Conversation, said: str | None, brought: Brought, limits: Limits
    ) -> Replied | Clarify:
        """The turn's last event, when the conversation is at rest again; the others are told as they come."""
        teller = _Teller(self._service, turn, talk, limits)
        deadline = time.monotonic() + _OCCUPIED_S
        last: Replied | Clarify | None = None
        while True:
            try:
                async with aclosing(talk.turn(said, brought)) as events:
                    async for event in events:
                        if turn.id in self._turns and self._turns[turn.id].cancelled:
                            talk.cancel()
                        if isinstance(event, Replied | Clarify):
                            last = event
                        else:
                            await teller(event)
                # A kill may have kept the reply of a step whose results were saved: it is not made, nor told, again.
                last = last or _over(await talk.view(), turn)
                if last is None:
                    raise BackendError("the turn came to no end; say it again")
                return last
            except Occupied:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.5)


def _over(view: View, turn: TurnRow) -> Replied | Clarify | None:
    """How a turn ended that is taken up and was over before its end was written down; None where it is not over."""
    if view.turn < turn.number or view.pending is not None:
        return None
    if view.waiting is not None:
        return None if turn.body["answers"] else view.waiting
    entry = view.entries[-1]
    return Replied(entry, tuple((view.pictures[n - 1], _NOWHERE) for n in entry.pictures))


def _with_fork(replied: Replied, talk: Conversation) -> Replied:
    """With the name of the copy, where a kill has left nothing of it but the words of the reply."""
    if replied.fork is not None:
        return replied
    copies = (known.name for known in list_conversations(talk.home) if known.parent == talk.name)
    return replace(replied, fork=next((name for name in copies if replied.entry.reply.endswith(name)), None))


class _Teller:
    """Tells the events of one turn, and has the pictures they speak of where the client can get them."""

    def __init__(self, service: Service, turn: TurnRow, talk: Conversation, limits: Limits) -> None:
        self._service = service
        self._turn = turn
        self._talk = talk
        self._limits = limits
        self._meter = service.metrics.run()
        self._run: RunFolder | None = None
        self._told: set[int] = set()
        """Numbers of the attempts of which this server has told."""

    async def __call__(self, event: TalkEvent) -> None:
        source = None
        if not isinstance(event, TurnBegan | Clarify | Replied):
            self._meter.see(event)
            source = await self._kept(event)
        await self._tell(tell(event, self._turn.conversation, self._limits, source=source))

    async def _tell(self, told: Told) -> None:
        broker, conversation, number = self._service.broker, self._turn.conversation, self._turn.number
        if told.key is None:
            broker.whisper(conversation, number, told.name, told.data)
        else:
            await broker.tell(conversation, number, told.key, told.name, told.data)

    async def _kept(self, event: Event) -> str | None:
        store = self._talk.store
        match event:
            case RunStarted():
                self._run = RunFolder(event.folder)
                id = run_id(self._turn.conversation, event.run)
                await self._service.runs.note(self._turn.client, id, self._turn.conversation, event.folder)
                if event.source is not None:
                    source = event.source
                    return await asyncio.to_thread(lambda: store.put(open_image(source)))
            case ImageDrawn():
                await asyncio.to_thread(store.adopt, event.image, self._images())
            case Planned():
                for step in event.plan.steps:
                    for picture in (step.area, step.drafted):
                        if picture is not None:
                            await asyncio.to_thread(store.adopt, picture, self._images())
            case Judged():
                # Again: of a picture that was drawn before a kill, it may be the first that is heard.
                await asyncio.to_thread(store.adopt, event.attempt.image, self._images())
                self._told.add(event.number)
            case RunFinished():
                await self._catch_up()
        return None

    async def _catch_up(self) -> None:
        """Tells of attempts that were made, and of which a kill kept the word from going out."""
        assert self._run is not None
        record = await asyncio.to_thread(self._run.read_record)
        for one in record["attempts"]:
            if one["number"] not in self._told:
                made = _judged(one, self._run)
                await asyncio.to_thread(self._talk.store.adopt, made.attempt.image, self._images())
                await self._tell(tell(made, self._turn.conversation, self._limits))

    def _images(self) -> ImageStore:
        assert self._run is not None
        return ImageStore(self._run.images)


def _judged(record: dict[str, Any], run: RunFolder) -> Judged:
    """The event of an attempt, from run.json."""
    given = {"image": record["sha256"], "report": _REPORT.validate_python(record["report"])}
    names = ("round", "kind", "prompt", "seed", "parent", "negative_prompt", "root", "steps", "unchanged")
    attempt = Attempt(**given, **{name: record[name] for name in names if name in record})
    return Judged(record["number"], attempt, run.picture(record["number"], attempt))
