"""From a profile to the models of a run. Importing this is cheap; model libraries load when they are needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from agent.edit_judging import EditEvaluator
from agent.parts import CallLimit, Chooser, Parts
from editors.models import open_backend
from editors.types import ImageBackend
from evaluator.align import AlignEvaluator, open_evaluator
from evaluator.answering import Answerer, ChatAnswerer, JudgeAnswerer
from evaluator.edits.checks import EditChecklistBuilder, OverallEditChecks
from evaluator.edits.types import EditChecklistMaker
from evaluator.grounding import Grounder, open_grounder
from evaluator.pairs.judges import LikertJudge, ThurstoneRanks, WinRates, YesNoPairJudge
from redraft.chat import ChatModel
from redraft.models import open_chat
from redraft.profiles import BackendConfig, ModelConfig, Profile, load_part
from rewriter.cot import CoTRewriter
from rewriter.plan import Planner, open_planner
from rewriter.turns import TurnReader, open_turn_reader

OpenChat = Callable[[ModelConfig], ChatModel]


class _MoreParts(TypedDict, total=False):
    grounder: Grounder
    editor: ImageBackend
    planner: Planner
    edit_checks: EditChecklistMaker
    edit_evaluator: EditEvaluator
    turn_reader: TurnReader
    answerer: Answerer


def open_parts(profile: Profile, chat: OpenChat = open_chat, *, editing: bool = True, conversing: bool = True) -> Parts:
    """The parts that `profile` describes. A model that serves two roles is opened once. `chat` opens chat models.

    Without `editing` nothing is opened that only edits need, without `conversing` nothing that only conversations do.
    Raises ConfigError for settings that cannot be used, ModelMissing if weights are not in their place.
    """
    rewriting = chat(profile.rewriter.model)
    own = profile.checklist.model
    listing = rewriting if own is None or own == profile.rewriter.model else chat(own)
    backend = open_backend(profile.generator)
    builder, evaluator = open_evaluator(profile, listing)
    more: _MoreParts = {}
    if editing and profile.editor is not None:
        more |= _open_editing(profile, profile.editor, rewriting, evaluator, chat)
    if conversing:
        more |= _open_conversing(profile, rewriting, evaluator, chat)
    models = [model for model in (profile.rewriter.model, own, profile.judge.model) if model is not None]
    return Parts(
        builder=builder,
        rewriter=CoTRewriter(rewriting, profile.rewriter),
        backend=backend,
        evaluator=evaluator,
        batch_size=profile.generator.batch_size,
        pass_at=profile.limits.pass_at,
        names={
            "rewriter": rewriting.name,
            "generator": backend.name,
            "judge": evaluator.judge.name,
            "checklist": listing.name,
            **({} if profile.editor is None else {"editor": profile.editor.model}),
        },
        # A model in this process answers those who wait together as one batch.
        calls=CallLimit(max(m.server.concurrency if m.server else m.local.micro_batch for m in models)),
        chooser=_open_chooser(profile),
        **more,
    )


def _open_chooser(profile: Profile) -> Chooser | None:
    if profile.evaluator.ties == "first":
        return None
    chat, least = open_chat(profile.judge.model), profile.judge.min_label_mass
    likert = profile.evaluator.ties == "likert"
    judge = ThurstoneRanks(LikertJudge(chat, least)) if likert else WinRates(YesNoPairJudge(chat, least))
    return Chooser(judge, profile.evaluator.tie_margin)


def _open_editing(
    profile: Profile, editor: BackendConfig, rewriting: ChatModel, evaluator: AlignEvaluator, chat: OpenChat
) -> _MoreParts:
    checks: EditChecklistMaker
    if profile.edit_checks is not None:
        checks = load_part(profile.edit_checks)(evaluator.judge, profile.limits.pass_at)
    elif profile.judge.model.kind == "openai":
        checks = EditChecklistBuilder(chat(profile.judge.model))
    else:
        checks = OverallEditChecks()
    planner: Planner = (
        load_part(profile.planner)() if profile.planner is not None else open_planner(rewriting, profile.rewriter)
    )
    more: _MoreParts = {
        "editor": open_backend(editor),
        "planner": planner,
        "edit_checks": checks,
        "edit_evaluator": EditEvaluator(evaluator.judge, aggregation=profile.evaluator.edit_aggregation),
    }
    if profile.grounder is not None:
        more["grounder"] = open_grounder(profile.grounder)
    return more


def _open_conversing(profile: Profile, rewriting: ChatModel, evaluator: AlignEvaluator, chat: OpenChat) -> _MoreParts:
    answerer: Answerer
    if profile.answerer is not None:
        answerer = load_part(profile.answerer)(evaluator.judge)
    elif profile.judge.model.kind == "openai":
        answerer = ChatAnswerer(chat(profile.judge.model))
    else:
        answerer = JudgeAnswerer(evaluator.judge)
    reader: TurnReader = (
        open_turn_reader(rewriting, profile.rewriter)
        if profile.turn_reader is None
        else load_part(profile.turn_reader)()
    )
    return {"turn_reader": reader, "answerer": answerer}
