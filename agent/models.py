"""The models a run works with, behind the protocols of rewriter, editors and evaluator, and how a profile opens them.

    models = open_models(load_profile("mini"))  # opened once, shared by many runs

Importing this is cheap; model libraries load when they are needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakKeyDictionary

from PIL import Image

from agent.edit_judging import EditEvaluator
from editors.backend import ImageBackend, open_backend
from evaluator.align import AlignEvaluator, open_evaluator
from evaluator.answering import Answerer, ChatAnswerer, JudgeAnswerer
from evaluator.edits.checks import EditChecklistBuilder, OverallEditChecks
from evaluator.edits.types import EditChecklistMaker
from evaluator.grounding import Grounder, open_grounder
from evaluator.pairs.judges import GroupJudge, LikertJudge, ThurstoneRanks, WinRates, YesNoPairJudge
from evaluator.types import Checklist, ChecklistMaker, Report, RequestChecks
from redraft.chat import ChatModel, open_chat
from redraft.profiles import BackendConfig, ModelConfig, Profile, load_part
from redraft.scope import Scope, open_scope
from rewriter.cot import CoTRewriter
from rewriter.guard import detect_language
from rewriter.plan import Planner, open_planner
from rewriter.turns import TurnReader, open_turn_reader
from rewriter.types import Rewriter

OpenChat = Callable[[ModelConfig], ChatModel]


class Evaluator(Protocol):
    """Judges one picture against a checklist made from `prompt`, the user's own."""

    async def score(self, image: Image.Image, prompt: str, checklist: RequestChecks | Checklist) -> Report: ...


@dataclass(frozen=True)
class Chooser:
    """Who chooses among pictures whose scores lie within `margin`."""

    judge: GroupJudge
    margin: float = 0.02


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

    grounder: says where a step is to change something, if neither the user, the planner nor the judge does.
    """

    editor: ImageBackend
    planner: Planner
    checks: EditChecklistMaker
    evaluator: EditEvaluator
    grounder: Grounder | None = None


@dataclass(frozen=True)
class Models:
    """What nodes reach through LangGraph's runtime context. One object may serve many runs at once.

    batch_size:  pictures drawn in one call of the backend; a kill loses at most one such batch.
    names:       role to model name, written to run.json and into the pictures.
    renderer:    the one thread in which the backends work.
    calls:       shared by all chat and judge calls.
    editing:     None: a run only ever draws.
    gallery:     further generators by name, for the strategies that use several.
    one_at_a_time: whether the weights of the other generators are let go before one draws.
    chooser:     None: of equally good pictures the first is the best.
    turn_reader: reads a person's turns in a conversation; None: only commands are understood.
    answerer:    answers questions about pictures; None: there are no answers.
    scope:       what the models know; None: everything.
    """

    checklist_maker: ChecklistMaker
    rewriter: Rewriter
    generator: ImageBackend
    evaluator: Evaluator
    batch_size: int = 4
    names: Mapping[str, str] = field(default_factory=dict)
    renderer: ThreadPoolExecutor = field(default_factory=_one_worker)
    calls: CallLimit = field(default_factory=CallLimit)
    editing: Editing | None = None
    gallery: Mapping[str, ImageBackend] = field(default_factory=dict)
    one_at_a_time: bool = False
    chooser: Chooser | None = None
    turn_reader: TurnReader | None = None
    answerer: Answerer | None = None
    scope: Scope | None = None

    def close(self) -> None:
        """Stops a drawing under way, if the backend can, and lets go of the render thread without waiting for it."""
        self.generator.interrupt()
        for backend in self.gallery.values():
            backend.interrupt()
        if self.editing is not None:
            self.editing.editor.interrupt()
        self.renderer.shutdown(wait=False, cancel_futures=True)


def open_models(
    profile: Profile, chat: OpenChat = open_chat, *, editing: bool = True, conversing: bool = True
) -> Models:
    """The models that `profile` describes. A model that serves two roles is opened once. `chat` opens chat models.

    Without `editing` nothing is opened that only edits need, without `conversing` nothing that only conversations do.
    Raises ConfigError for settings that cannot be used, ModelMissing if weights are not in their place.
    """
    drawing, judging = profile.need_generator(), profile.need_judge()
    rewriting = chat(profile.rewriter.model)
    own = profile.checklist.model
    listing = rewriting if own is None or own == profile.rewriter.model else chat(own)
    generator = open_backend(drawing)
    checklist_maker, evaluator = open_evaluator(profile, listing, detect_language=detect_language)
    served = [model for model in (profile.rewriter.model, own, judging.model) if model is not None]
    return Models(
        checklist_maker=checklist_maker,
        rewriter=CoTRewriter(rewriting, profile.rewriter),
        generator=generator,
        evaluator=evaluator,
        batch_size=drawing.batch_size,
        names={
            "rewriter": rewriting.name,
            "generator": generator.name,
            "judge": evaluator.judge.name,
            "checklist": listing.name,
            **({} if profile.editor is None else {"editor": profile.editor.model}),
        },
        # A model in this process answers the calls that wait at the same time in one batch.
        calls=CallLimit(max(m.server.concurrency if m.server else m.local.micro_batch for m in served)),
        editing=_open_editing(profile, profile.editor, rewriting, evaluator, chat)
        if profile.editor and editing
        else None,
        gallery={each.name: open_backend(each) for each in profile.gallery},
        one_at_a_time=profile.search.one_at_a_time,
        chooser=_open_chooser(profile),
        turn_reader=_open_turn_reader(profile, rewriting) if conversing else None,
        answerer=_open_answerer(profile, evaluator, chat) if conversing else None,
        scope=open_scope(profile),
    )


def _open_chooser(profile: Profile) -> Chooser | None:
    if profile.evaluator.ties == "first":
        return None
    judge = profile.need_judge()
    chat, least = open_chat(judge.model), judge.min_label_mass
    likert = profile.evaluator.ties == "likert"
    chooses = ThurstoneRanks(LikertJudge(chat, least)) if likert else WinRates(YesNoPairJudge(chat, least))
    return Chooser(chooses, profile.evaluator.tie_margin)


def _open_editing(
    profile: Profile, editor: BackendConfig, rewriting: ChatModel, evaluator: AlignEvaluator, chat: OpenChat
) -> Editing:
    checks: EditChecklistMaker
    judging = profile.need_judge()
    if profile.edit_checks is not None:
        checks = load_part(profile.edit_checks)(evaluator.judge, profile.limits.pass_at)
    elif judging.model.kind == "openai":
        checks = EditChecklistBuilder(chat(judging.model))
    else:
        checks = OverallEditChecks()
    planner = load_part(profile.planner)() if profile.planner else open_planner(rewriting, profile.rewriter)
    return Editing(
        editor=open_backend(editor),
        planner=planner,
        checks=checks,
        evaluator=EditEvaluator(evaluator.judge, aggregation=profile.evaluator.edit_aggregation),
        grounder=None if profile.grounder is None else open_grounder(profile.grounder),
    )


def _open_turn_reader(profile: Profile, rewriting: ChatModel) -> TurnReader:
    if profile.turn_reader is None:
        return open_turn_reader(rewriting, profile.rewriter)
    reader: TurnReader = load_part(profile.turn_reader)()
    return reader


def _open_answerer(profile: Profile, evaluator: AlignEvaluator, chat: OpenChat) -> Answerer:
    if profile.answerer is not None:
        answerer: Answerer = load_part(profile.answerer)(evaluator.judge)
        return answerer
    judging = profile.need_judge()
    if judging.model.kind == "openai":
        return ChatAnswerer(chat(judging.model))
    return JudgeAnswerer(evaluator.judge)
