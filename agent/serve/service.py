"""What all doors of a server share: models, conversations with their turns and events, pictures. Single drawings and the
records of runs are parts of it (`agent.serve.runs`, `agent.serve.runs`)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path

from PIL import Image

from agent.chat.conversation import Conversation, Storage
from agent.chat.journal import ConversationState, fold_records, opening_record
from agent.chat.values import Enclosed
from agent.models import Models
from agent.serve.database import (
    ConversationRow,
    Database,
    EventRow,
    Postgres,
    Sqlite,
    TurnRow,
    load_text,
    sole_server,
)
from agent.serve.errors import Busy, Draining, NotFound, TooMany
from agent.serve.events import Broker, describe_entry, describe_picture
from agent.serve.files import ClientFiles, new_id
from agent.serve.metrics import Metrics, log
from agent.serve.models import Served, ServedRewriter
from agent.serve.pictures import PictureReader
from agent.serve.runs import Drawings, Runs
from agent.serve.settings import ServerSettings
from agent.serve.turns import TurnWorker
from agent.serve.wire import (
    ConversationInfo,
    ConversationView,
    GalleryPicture,
    NewTurn,
    ProfileInfo,
    ServerEvent,
    Uploaded,
    Waiting,
    Working,
)
from evaluator.reward import case_of
from evaluator.types import Report
from redraft.errors import InputError, RedraftError
from redraft.images import ImageStore, fit_mask, is_digest
from redraft.journal import Occupied
from redraft.limits import CLIENT_LIMITS, Limits
from redraft.options import DrawOptions
from redraft.profiles import load_profile
from rewriter.request import clean_request
from rewriter.types import Rewrite

_TITLE = 60
_GALLERY = 200
"""Pictures that the gallery shows at once; a search finds the others."""
_REPLIES = 5000
_POLL_S = 0.5


class Service:
    """Use it as `async with Service(settings) as service`. It belongs to one event loop.

    `client` is always the name of the client whose request it is; nothing of another client can be reached.
    `models`: profiles that are open already, instead of those that the settings name.
    """

    def __init__(
        self, settings: ServerSettings, *, models: Iterable[Served] | None = None, metrics: Metrics | None = None
    ) -> None:
        self.settings = settings
        self.bounds = settings.bounds
        self.metrics = metrics or Metrics()
        self.pictures = PictureReader(settings)
        self.files = ClientFiles(settings)
        self.drawings = Drawings(self)
        self.draining = False
        self.ready = False
        self._given = None if models is None else tuple(models)
        self._models: dict[str, Served] = {}
        self._rewriters: dict[str, ServedRewriter] = {}
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Service:
        """Opens models and database, and continues the turns that were under way. Raises RedraftError."""
        stack = self._opened
        try:
            await self._open(stack)
        except BaseException:
            await stack.aclose()
            raise
        return self

    async def _open(self, stack: AsyncExitStack) -> None:
        stack.callback(self.pictures.close)
        url = self.settings.database
        if url is None:
            stack.enter_context(sole_server(self.settings.data))
            engine: Sqlite | Postgres = Sqlite(self.settings.data / "server.sqlite")
        else:
            engine = await asyncio.to_thread(Postgres, url)
        self.database = Database(engine)
        stack.push_async_callback(self.database.close)
        self.runs = Runs(self.database, self.settings.data)
        if self._given is None:
            opened = []
            for profile in map(load_profile, self.settings.profiles):
                if "draw" in profile.abilities():
                    opened.append(await asyncio.to_thread(Served.open, profile, self.metrics))
                else:
                    self._rewriters[profile.name] = await asyncio.to_thread(ServedRewriter.open, profile, self.metrics)
        else:
            opened = list(self._given)
        for served in opened:
            stack.callback(served.close)
            self._models[served.name] = served
        self.default = next(iter(self._models or self._rewriters))
        self.broker = Broker(self.database, None if url is None else _POLL_S)
        self.turns = TurnWorker(self)
        m = self.metrics
        m.gauge("redraft_image_queue", "Pictures that wait to be drawn.", lambda: sum(s.waiting() for s in opened))
        m.gauge("redraft_turns_under_way", "Turns that this server works on.", lambda: len(self.turns))
        m.gauge("redraft_draws_under_way", "Drawings outside of conversations.", lambda: len(self.drawings))
        m.gauge("redraft_listeners", "Streams of events that are open.", self.broker.count_listeners)
        await self.turns.start(alone=url is None)
        for client in await self.database.leftover_clients():
            await self.sweep(client)

    async def warm(self) -> None:
        """Loads the models; `ready` from then on. Raises BackendError."""
        for served in self._models.values():
            await served.warm()
        for alone in self._rewriters.values():
            if alone.profile.rewriter.model.kind == "transformers":
                await alone.rewriter("a circle", n=1)
        self.ready = True

    async def drain(self) -> None:
        """Takes nothing new, and waits for what is under way, `drain_s` at most; turns that are not done by then stay
        at their last record, for the next start; single drawings end with the best picture so far."""
        self.draining = True
        async with asyncio.TaskGroup() as both:
            both.create_task(self.turns.finish(self.bounds.drain_s))
            both.create_task(self.drawings.finish(self.bounds.drain_s))
        self.broker.close()

    async def __aexit__(self, *_: object) -> None:
        self.draining = True
        self.broker.close()
        await self.turns.stop()
        await self._opened.aclose()

    # Profiles and limits

    def profiles(self) -> list[ProfileInfo]:
        return [served.info() for served in self._models.values()]

    def served(self, profile: str | None) -> Served:
        """Raises InputError for a profile that this server does not serve, ConfigError for one that only rewrites."""
        name = profile or self.default
        served = self._models.get(name)
        if served is not None:
            return served
        if name in self._rewriters:
            self._rewriters[name].profile.need_generator()
        raise InputError(f"there is no profile {profile!r} here; there are: {', '.join(self._models)}")

    def info(self, profile: str | None) -> ProfileInfo:
        """What there is to know of a profile, also of one that only rewrites. Raises InputError."""
        rewriter = self._rewriters.get(profile or self.default)
        return self.served(profile).info() if rewriter is None else rewriter.info()

    def rewriters(self) -> list[ProfileInfo]:
        """The profiles that only rewrite."""
        return [rewriter.info() for rewriter in self._rewriters.values()]

    def limits(self, profile: str | None, options: DrawOptions) -> Limits:
        """The profile's limits, changed as `options` say, and within the server's bounds. Raises InputError for more than
        these; what the profile cannot do is refused when the run begins."""
        limits, wanted = self.served(profile).limits, options.limit_changes()
        bounds = {name: bound for name, bound in asdict(self.bounds).items() if name in CLIENT_LIMITS}
        for name, bound in bounds.items():
            if wanted.get(name, 0) > bound:
                raise InputError(f"{name} is {bound:g} at most here, not {wanted[name]:g}")
        if (options.steps or 0) > self.bounds.max_image_steps:
            raise InputError(f"steps are {self.bounds.max_image_steps} at most here, not {options.steps}")
        width, height = options.pixels(None) or (0, 0)
        if width * height > self.bounds.max_size_pixels:
            raise InputError(f"size {options.size}: pictures have {self.bounds.max_size_pixels:,} pixels at most here")
        within = {name: min(bound, getattr(limits, name)) for name, bound in bounds.items()}
        return limits.changed(**(within | wanted))

    # Conversations

    async def create(
        self, client: str, title: str | None = None, profile: str | None = None, may_ask: bool = True
    ) -> ConversationInfo:
        self.require_open()
        served = self.served(profile)
        await self._require_room(client)
        id = new_id()
        # Before its row: a conversation that can be found is whole.
        await Conversation.create(
            self.files.home(client), id, served.models, limits=served.limits, profile=served.profile, may_ask=may_ask,
            storage=self._storage(client),
        )  # fmt: skip
        await self.database.add_conversation(id, client, title or "", served.name, None)
        return _info(await self.conversation_row(client, id))

    async def _require_room(self, client: str) -> None:
        if len(await self.database.conversations(client)) >= self.bounds.max_conversations:
            raise TooMany(f"you have {self.bounds.max_conversations} conversations, which is the most; delete one")

    async def conversations(self, client: str) -> list[ConversationInfo]:
        return [_info(row) for row in await self.database.conversations(client)]

    async def conversation_row(self, client: str, id: str) -> ConversationRow:
        row = await self.database.conversation(client, id)
        if row is None:
            raise NotFound(f"there is no conversation {id!r}")
        return row

    def conversation(self, row: ConversationRow, models: Models | None = None) -> Conversation:
        """The conversation of a row, with its profile as it is now."""
        served = self.served(row.profile)
        return Conversation(
            self.files.home(row.client), row.id, models or served.models, limits=served.limits,
            profile=served.profile, storage=self._storage(row.client),
        )  # fmt: skip

    def _storage(self, client: str) -> Storage:
        """Where the client's conversations are kept."""

        async def name_branch(name: str, wish: str | None) -> str:
            await self._require_room(client)
            return new_id()

        return Storage(
            open_log=self.database.log, store=self.files.store(client), own_files=False, name_branch=name_branch
        )

    async def view(self, client: str, id: str) -> ConversationView:
        stand = await self.database.stand(client, id)
        if stand is None:
            raise NotFound(f"there is no conversation {id!r}")
        row, records, under_way = stand
        view = self.conversation(row).view_of(fold_records(records))
        working = None if under_way is None else Working(turn=under_way.number, request=under_way.body["request"])
        waiting = view.waiting
        return ConversationView(
            **_info(row).model_dump(exclude={"turns", "working", "thumb"}),
            turns=[describe_entry(entry) for entry in view.entries],
            pictures=[describe_picture(picture) for picture in view.pictures],
            current=view.current,
            accept_at=view.accept_at,
            seed=view.seed,
            may_ask=view.may_ask,
            working=working,
            waiting=None
            if waiting is None or working is not None
            else Waiting(turn=waiting.turn, question=waiting.question, choices=list(waiting.choices)),
            last_event=row.last_event,
        )

    async def change(self, client: str, id: str, title: str | None, may_ask: bool | None) -> ConversationInfo:
        row = await self.conversation_row(client, id)
        if title is not None:
            await self.database.change_conversation(id, title=title)
        if may_ask is not None:
            await self.conversation(row).set_may_ask(may_ask)
        return _info(await self.conversation_row(client, id))

    async def branch(self, client: str, id: str, title: str | None = None) -> ConversationInfo:
        self.require_open()
        row = await self.conversation_row(client, id)
        if row.working:
            raise Busy("a turn is under way; wait for it, or cancel it")
        async with self.files.shelf(client):
            copy = await self.conversation(row).branch()
            await self.adopt_branch(row, copy.name, title)
        return _info(await self.conversation_row(client, copy.name))

    async def adopt_branch(self, row: ConversationRow, id: str, title: str | None = None) -> None:
        """Makes a conversation of a copy that the conversation of `row` has made of itself."""
        await self.database.add_conversation(
            id, row.client, title or f"{row.title} (copy)".strip(), row.profile, row.id
        )
        await self.database.change_conversation(id, turns=row.turns, thumb=row.thumb)

    async def delete(self, client: str, id: str) -> None:
        """Deletes a conversation with its runs, and with the pictures that nothing else of the client's has."""
        await self.conversation_row(client, id)
        await self.database.delete_conversation(client, id)
        self.broker.end(id)
        await asyncio.to_thread(shutil.rmtree, self.files.home(client) / id, ignore_errors=True)
        await self.sweep(client)

    async def sweep(self, client: str) -> None:
        """Removes the pictures that deleted conversations of a client left behind. While a turn of the client is under
        way, which may draw one of them again before it is written down, it does nothing; the end of the turn does it."""
        try:
            async with self.files.shelf(client):
                left = await self.database.leftovers(client)
                if left is None:
                    return
                images, folders = left
                if images:
                    await asyncio.to_thread(self.files.remove, client, images, folders)
                await self.database.forget_leftovers(client)
        except RedraftError as error:  # they stay for the next time
            log("pictures left", client=client, error=type(error).__name__)

    async def export(self, client: str, id: str) -> Path:
        """The conversation as one HTML page."""
        row = await self.conversation_row(client, id)
        if row.working:
            raise Busy("a turn is under way; wait for it, or cancel it")
        return await self.conversation(row).export()

    # Turns

    async def post(self, client: str, id: str, new: NewTurn) -> tuple[int, int]:
        """Accepts a turn: its number, and that of the latest event before it. Raises RedraftError, and then there is no
        turn (if the answer of the database was lost, there may be)."""
        self.require_open()
        request = clean_request(new.request, self.bounds.max_prompt)
        row = await self.conversation_row(client, id)
        if row.working:
            raise Busy("a turn is under way; wait for it, or cancel it")
        limits = self.limits(row.profile, new.options.whole)
        async with self.files.shelf(client):  # the pictures that it brings stay until it is accepted
            return await self._accept(row, new, request, limits)

    async def _accept(self, row: ConversationRow, new: NewTurn, request: str, limits: Limits) -> tuple[int, int]:
        store = self.files.store(row.client)
        brought = [("image", new.image), ("mask", new.mask), *(("reference", each) for each in new.references)]
        for what, digest in brought:
            if digest is not None and not await asyncio.to_thread(store.__contains__, digest):
                raise InputError(f"there is no {what} {digest}; upload it first")
        conversation = self.conversation(row)
        while True:
            state = await conversation.read()
            mask = await asyncio.to_thread(_fitted_mask, store, new, state)
            options = new.options.whole
            enclosed = Enclosed(
                image=new.image, mask=mask, references=tuple(new.references), limits=limits, accept_at=options.accept_at,
                options=options, n=new.n,
            )  # fmt: skip
            record = opening_record(state, request, enclosed)
            answers = record["is"] == "answer"
            if answers and (new.image is not None or new.mask is not None or new.references):
                raise InputError("a question waits; answer it first, or start over with /draw or /edit")
            turn = TurnRow(
                new_id(), row.id, row.client, record["turn"], {"request": request, "answers": answers}, cancelled=False
            )
            said = {
                "request": request, "image": new.image, "mask": new.mask, "references": new.references,
                "options": options.set_fields(), "n": new.n,
            }  # fmt: skip
            event = EventRow(0, turn.number, "turn_queued", said)
            try:
                seq = await self.database.accept_turn(
                    turn, record, state.records, event=event, key="answered" if answers else "queued",
                    title="" if request.startswith("/") else _title(request), owner=self.turns.owner,
                    most=self.bounds.max_turns - self.drawings.begun(row.client),
                )  # fmt: skip
            except Occupied:
                if (await conversation.read()).records == state.records:
                    raise
                continue  # a setting was changed meanwhile
            self.turns.take(turn)
            self.broker.send(row.id, ServerEvent(id=seq, event=event.name, data={"turn": turn.number, **said}))
            return turn.number, seq - 1

    async def cancel(self, client: str, id: str) -> bool:
        """Ends the turn under way with the best picture so far; False if there is none."""
        await self.conversation_row(client, id)
        under_way = await self.database.cancel(id)
        self.turns.cancel(id)
        return under_way

    async def events(self, client: str, id: str, after: int) -> AsyncGenerator[ServerEvent | None]:
        """As `Broker.follow`. Raises NotFound at once."""
        await self.conversation_row(client, id)
        return self.broker.follow(id, after)

    # Pictures

    async def upload(self, client: str, data: bytes, mask: bool = False) -> Uploaded:
        self.require_open()
        picture = await (self.pictures.read_mask(data) if mask else self.pictures.read(data))
        return await self.keep(client, picture)

    async def keep(self, client: str, picture: Image.Image) -> Uploaded:
        """Puts a picture into the client's store."""
        async with self.files.shelf(client):
            digest = await asyncio.to_thread(self.files.store(client).put, picture)
            await self.database.forget_leftovers(client, [digest])
        return Uploaded(image=digest, width=picture.width, height=picture.height)

    async def image(self, client: str, digest: str) -> Path:
        """The file of one of the client's pictures. Raises NotFound, for whatever else is named too."""
        store = self.files.store(client)
        if is_digest(digest) and await asyncio.to_thread(store.__contains__, digest):
            return store.path(digest)
        raise NotFound("there is no such picture")

    async def gallery(self, client: str, query: str = "") -> list[GalleryPicture]:
        """The pictures that were drawn in all conversations, from the latest conversation on. `query`: words that all stand in
        what the picture was made from, or in the title."""
        rows = await self.database.replies(client, _REPLIES)
        return await asyncio.to_thread(_find_pictures, rows, query.casefold().split())

    # Single questions to models

    async def judge(self, client: str, image: Image.Image, request: str, profile: str | None = None) -> Report:
        """The judge's verdicts on a picture."""
        del client
        request = clean_request(request, self.bounds.max_prompt)
        self.require_open()
        models = self.served(profile).models
        async with models.calls:
            checks = await models.checklist_maker(request)
        return await models.reward.judge(image, case_of(request, checks), calls=models.calls)

    async def enhance(self, client: str, request: str, profile: str | None = None, seed: int | None = None) -> Rewrite:
        """A better prompt; the request itself if it has words that the profile does not know."""
        del client
        request = clean_request(request, self.bounds.max_prompt)
        self.require_open()
        alone = self._rewriters.get(profile or self.default)
        models = self.served(profile).models if alone is None else alone
        outside = () if models.scope is None else await asyncio.to_thread(models.scope.words_outside, request)
        if models.scope is not None and outside:
            return Rewrite(request, findings=(f"scope: {models.scope.warn(outside)}",), fallback=True)
        async with models.calls:
            [rewrite] = await models.rewriter(request, n=1, seed=seed or 0)
        return rewrite

    # What its models ask

    def require_open(self) -> None:
        """Raises Draining."""
        if self.draining:
            raise Draining("the server is going down; ask again in a moment")


def _info(row: ConversationRow) -> ConversationInfo:
    return ConversationInfo(
        id=row.id, title=row.title or "New conversation", profile=row.profile, created=row.created, updated=row.updated,
        parent=row.parent, turns=row.turns, working=bool(row.working), thumb=row.thumb,
    )  # fmt: skip


def _find_pictures(replies: Iterable[tuple[str, str, str]], words: list[str]) -> list[GalleryPicture]:
    found: list[GalleryPicture] = []
    for conversation, title, text in replies:
        data = load_text(text)
        if data is None or data["entry"]["kind"] not in ("draw", "edit"):
            continue
        for picture in data["pictures"]:
            here = f"{title} {picture['made_from']}".casefold()
            if all(word in here for word in words):
                found.append(
                    GalleryPicture(conversation=conversation, title=title, turn=data["entry"]["turn"], **picture)
                )
        if len(found) >= _GALLERY:
            break
    return found[:_GALLERY]


def _title(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TITLE else f"{line[: _TITLE - 1]}…"


def _fitted_mask(store: ImageStore, new: NewTurn, state: ConversationState) -> str | None:
    """The mask that a turn brings, at the size of its picture. Raises InputError if there is no such picture."""
    if new.mask is None:
        return None
    image = new.image or (state.current_picture.image if state.current_picture is not None else None)
    if image is None:
        raise InputError("a mask needs a picture that it belongs to")
    return store.put(fit_mask(store.get(new.mask), store.get(image).size))
