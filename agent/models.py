"""The models a run works with, behind the protocols of rewriter, editors and evaluator, and how a profile opens them.

    models = open_models(load_profile("mini"))  # opened once, shared by many runs

Importing this is cheap; model libraries load when they are needed.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from editors.backend import ImageBackend, open_backend, open_party
from evaluator.answering import Answerer, ChatAnswerer, JudgeAnswerer
from evaluator.checklist import open_checklists
from evaluator.criteria import Parts
from evaluator.edits.checks import EditChecklistBuilder, OverallEditChecks
from evaluator.edits.types import EditChecklistMaker
from evaluator.grounding import Grounder, open_grounder
from evaluator.judge import open_judge
from evaluator.reward import Reward, open_reward
from evaluator.types import ChecklistMaker, Judge
from redraft.chat import ChatModel, ChatRequest, Message, open_chat
from redraft.errors import ConfigError
from redraft.gpu import GpuLease, Party, ServerParty, find_gpu_gb, put_under, release, require_memory
from redraft.profiles import BackendConfig, ModelConfig, Profile, load_part
from redraft.scope import Scope, open_scope
from redraft.servers import ServedRole, ServerProbe
from rewriter.cot import CoTRewriter, infer_target
from rewriter.guard import detect_language
from rewriter.plan import Planner, open_planner
from rewriter.turns import TurnReader, open_turn_reader
from rewriter.types import Rewriter

OpenChat = Callable[[ModelConfig], ChatModel]


def _one_worker() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="redraft-render")


class CallLimit:
    """Lets at most `most` calls run at once: `async with limit: ...`. May serve one event loop after another."""

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._gates: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        await self._gates.setdefault(loop, asyncio.Semaphore(self._most)).acquire()

    async def __aexit__(self, *_: object) -> None:
        self._gates[asyncio.get_running_loop()].release()


@dataclass(frozen=True)
class Editing:
    """What a run needs to edit pictures.

    reward:   scores the results of an edit of a picture that the user gave.
    grounder: says where a step is to change something, if neither the user, the planner nor the judge does.
    """

    editor: ImageBackend
    planner: Planner
    checks: EditChecklistMaker
    reward: Reward
    grounder: Grounder | None = None


async def _no_servers() -> None:
    """All models are in this process."""


@dataclass(frozen=True)
class Models:
    """What nodes reach through LangGraph's runtime context. One object may serve many runs at once.

    batch_size:  pictures drawn in one call of the backend; a kill loses at most one such batch.
    names:       role to model name, written to run.json and into the pictures.
    renderer:    the one thread in which the backends work.
    calls:       shared by all chat and judge calls.
    judge:       answers checks by itself, for the planner and for questions about pictures.
    reward:      scores what is drawn.
    editing:     None: a run only ever draws.
    gallery:     further generators by name, for the strategies that use several.
    one_at_a_time: whether the weights of the other generators are let go before one draws.
    turn_reader: reads a person's turns in a conversation; None: only commands are understood.
    answerer:    answers questions about pictures; None: there are no answers.
    scope:       what the models know; None: everything.
    lease:       of models that take turns on one GPU; None: there are none.
    writer:      a chat model that answers what front ends ask beside pictures (titles, tags); None: rules do.
    probe:       raises ServerError if a server is not there, or does not serve its model, before anything is drawn.
    """

    checklist_maker: ChecklistMaker
    rewriter: Rewriter
    generator: ImageBackend
    judge: Judge
    reward: Reward
    batch_size: int = 4
    names: Mapping[str, str] = field(default_factory=dict)
    renderer: ThreadPoolExecutor = field(default_factory=_one_worker)
    calls: CallLimit = field(default_factory=CallLimit)
    editing: Editing | None = None
    gallery: Mapping[str, ImageBackend] = field(default_factory=dict)
    one_at_a_time: bool = False
    turn_reader: TurnReader | None = None
    answerer: Answerer | None = None
    scope: Scope | None = None
    probe: Callable[[], Awaitable[None]] = _no_servers
    lease: GpuLease | None = None
    writer: ChatModel | None = None

    def close(self) -> None:
        """Stops a drawing under way, if the backend can, and lets go of the render thread without waiting for it."""
        self.generator.interrupt()
        for backend in self.gallery.values():
            backend.interrupt()
        if self.editing is not None:
            self.editing.editor.interrupt()
        self.renderer.shutdown(wait=False, cancel_futures=True)
        if self.lease is not None:
            release(self.lease)


@dataclass(frozen=True)
class RewritingModels:
    """What a conversation needs of a profile that only rewrites: its turns give prompts, and no pictures."""

    profile: Profile
    rewriter: Rewriter
    turn_reader: TurnReader
    calls: CallLimit
    scope: Scope | None = None
    answerer: None = None

    def close(self) -> None:
        """Nothing is to be let go."""


ConversationModels = Models | RewritingModels


def open_rewriting_models(profile: Profile, chat: OpenChat = open_chat) -> RewritingModels:
    """The rewriter of a profile without a generator. Raises ConfigError, and ModelMissing as `open_models` does."""
    model = chat(profile.rewriter.model)
    config = profile.rewriter.model
    return RewritingModels(
        profile=profile,
        rewriter=CoTRewriter(model, profile.rewriter),
        turn_reader=_open_turn_reader(profile, model),
        calls=CallLimit(config.server.concurrency if config.server else config.local.micro_batch),
        scope=open_scope(profile),
    )


def open_models(
    profile: Profile, chat: OpenChat = open_chat, *, editing: bool = True, conversing: bool = True
) -> Models:
    """The models that `profile` describes. A model that serves two roles is opened once. `chat` opens chat models.

    Without `editing` nothing is opened that only edits need, without `conversing` nothing that only conversations do.
    Raises ConfigError for settings that cannot be used, ModelMissing if weights are not in their place.
    """
    drawing, judging = profile.need_generator(), profile.need_judge()
    require_memory(profile, find_gpu_gb())
    if profile.gallery:
        from agent.doctor import require_room_for_gallery

        require_room_for_gallery(profile)
    rewriting = chat(profile.rewriter.model)
    own = profile.checklist.model
    listing = rewriting if own is None or own == profile.rewriter.model else chat(own)
    generator, lease = _open_generator(profile, drawing)
    editor: ImageBackend | None = None
    if profile.editor is not None and editing:
        # One model that draws and edits is loaded once.
        editor = generator if profile.editor == drawing else open_backend(profile.editor)
    judge = open_judge(judging, profile.limits.pass_at, profile.grounder)
    parts = Parts(profile, judge, chat)
    served = [model for model in (profile.rewriter.model, own, judging.model) if model is not None]
    return Models(
        checklist_maker=open_checklists(profile, listing, detect_language=detect_language),
        rewriter=CoTRewriter(rewriting, profile.rewriter, target=infer_target(profile.rewriter, drawing)),
        generator=generator,
        judge=judge,
        reward=open_reward(profile, parts),
        batch_size=drawing.at_once,
        names={
            "rewriter": rewriting.name,
            "generator": generator.name,
            "judge": judge.name,
            "checklist": listing.name,
            **({} if profile.editor is None else {"editor": profile.editor.model}),
        },
        # A model in this process answers the calls that wait at the same time in one batch.
        calls=CallLimit(max(m.server.slots if m.server else m.local.micro_batch for m in served)),
        editing=_open_editing(profile, editor, rewriting, parts) if editor is not None else None,
        gallery={each.name: open_backend(each) for each in profile.gallery},
        one_at_a_time=profile.search.one_at_a_time,
        turn_reader=_open_turn_reader(profile, rewriting) if conversing else None,
        answerer=_open_answerer(profile, parts) if conversing else None,
        scope=open_scope(profile),
        probe=ServerProbe(served_roles(profile, editing=editing)),
        lease=lease,
        # The small ones of this process were trained to rewrite, and to nothing else.
        writer=rewriting if profile.rewriter.model.kind == "openai" else None,
    )


def _open_generator(profile: Profile, drawing: BackendConfig) -> tuple[ImageBackend, GpuLease | None]:
    """The generator, and the lease under which it takes turns with the servers on its GPU, if the profile says so."""
    if profile.gpu is None or profile.gpu.share == "none":
        return open_backend(drawing), None
    parties: list[Party] = [ServerParty(server) for server in profile.gpu.servers]
    if drawing.server is None:
        generator, party = open_party(drawing, profile.gpu.generator_gb)
        parties.append(party)
    else:
        generator = open_backend(drawing)
    have = profile.gpu.memory_gb or find_gpu_gb()
    if have is None:
        raise ConfigError("[gpu]: no GPU is found here; say how large it is with memory_gb, or leave share out")
    lease = GpuLease(parties, have - profile.gpu.reserve_gb, stay_s=profile.gpu.stay_s)
    put_under(lease)
    return generator, lease


def served_roles(profile: Profile, *, editing: bool = True) -> list[ServedRole]:
    """The models of a profile that servers have, each server and model once."""
    roles: dict[tuple[tuple[str, ...], str], ServedRole] = {}
    chats = {
        "judge": None if profile.judge is None else profile.judge.model,
        "rewriter": profile.rewriter.model,
        "checklist": profile.checklist.model,
    }
    for name, model in chats.items():
        if model is not None and model.server is not None:
            asks = functools.partial(_ask_anything, model)
            roles.setdefault((model.server.addresses, model.model), ServedRole(name, model.server, model.model, asks))
    backends = {"generator": profile.generator, "editor": profile.editor if editing else None}
    backends |= {f"gallery {each.name}": each for each in profile.gallery}
    for name, backend in backends.items():
        if backend is not None and backend.server is not None:
            roles.setdefault((backend.server.addresses, backend.model), ServedRole(name, backend.server, backend.model))
    return list(roles.values())


async def _ask_anything(model: ModelConfig) -> None:
    chat = open_chat(model)
    try:
        await chat(ChatRequest((Message("user", "Say yes."),), max_tokens=16))
    finally:
        await chat.aclose()


def _open_editing(profile: Profile, editor: ImageBackend, rewriting: ChatModel, parts: Parts) -> Editing:
    checks: EditChecklistMaker
    if profile.edit_checks is not None:
        checks = load_part(profile.edit_checks)(parts.judge, profile.limits.pass_at)
    elif profile.need_judge().model.kind == "openai":
        checks = EditChecklistBuilder(parts.chat)
    else:
        checks = OverallEditChecks()
    planner = load_part(profile.planner)() if profile.planner else open_planner(rewriting, profile.rewriter)
    return Editing(
        editor=editor,
        planner=planner,
        checks=checks,
        reward=open_reward(profile, parts, edits=True),
        grounder=None if profile.grounder is None else open_grounder(profile.grounder),
    )


def _open_turn_reader(profile: Profile, rewriting: ChatModel) -> TurnReader:
    if profile.turn_reader is None:
        return open_turn_reader(rewriting, profile.rewriter)
    reader: TurnReader = load_part(profile.turn_reader)()
    return reader


def _open_answerer(profile: Profile, parts: Parts) -> Answerer:
    if profile.answerer is not None:
        answerer: Answerer = load_part(profile.answerer)(parts.judge)
        return answerer
    if profile.need_judge().model.kind == "openai":
        return ChatAnswerer(parts.chat)
    return JudgeAnswerer(parts.judge)
