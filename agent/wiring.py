"""From a profile to the models of a run. Importing this is cheap; model libraries load when they are needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from agent.answering import Answerer, ChatAnswerer, JudgeAnswerer
from agent.edit_judging import EditEvaluator, LookingEditChecks
from agent.parts import CallLimit, Chooser, Parts
from editors.models import open_backend
from editors.types import ImageBackend
from evaluator.align import AlignEvaluator, open_evaluator
from evaluator.edits.checks import EditChecklistBuilder
from evaluator.edits.types import EditChecklistMaker
from evaluator.grounding import Grounder, open_grounder
from evaluator.pairs.judges import LikertJudge, ThurstoneRanks, WinRates, YesNoPairJudge
from mini.phrasebook.phrases import load_phrases
from redraft.chat import ChatModel
from redraft.models import open_chat
from redraft.profiles import ModelConfig, Profile
from rewriter.chat_plan import open_planner
from rewriter.cot import CoTRewriter
from rewriter.plan import Planner
from rewriter.turns import open_turn_reader

OpenChat = Callable[[ModelConfig], ChatModel]


class _Editing(TypedDict, total=False):
    grounder: Grounder
    editor: ImageBackend
    planner: Planner
    edit_checks: EditChecklistMaker
    edit_evaluator: EditEvaluator


def open_parts(profile: Profile, chat: OpenChat = open_chat) -> Parts:
    """The parts that `profile` describes. A model that serves two roles is opened once. `chat` opens chat models.

    Raises ConfigError for settings that cannot be used, ModelMissing where weights are not in their place.
    """
    rewriting = chat(profile.rewriter.model)
    own = profile.checklist.model
    listing = rewriting if own is None or own == profile.rewriter.model else chat(own)
    backend = open_backend(profile.generator)
    builder, evaluator = open_evaluator(profile, listing)
    editing = _open_editing(profile, rewriting, evaluator, chat)
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
        turn_reader=open_turn_reader(rewriting, profile.rewriter),
        answerer=_open_answerer(profile, evaluator, chat),
        chooser=_open_chooser(profile),
        **editing,
    )


def _open_answerer(profile: Profile, evaluator: AlignEvaluator, chat: OpenChat) -> Answerer:
    if profile.judge.model.kind == "openai":
        return ChatAnswerer(chat(profile.judge.model))
    # A judge in this process need not be able to do more than say yes or no.
    return JudgeAnswerer(evaluator.judge, load_phrases(profile.rewriter.style))


def _open_chooser(profile: Profile) -> Chooser | None:
    if profile.evaluator.ties == "first":
        return None
    chat, least = open_chat(profile.judge.model), profile.judge.min_label_mass
    likert = profile.evaluator.ties == "likert"
    judge = ThurstoneRanks(LikertJudge(chat, least)) if likert else WinRates(YesNoPairJudge(chat, least))
    return Chooser(judge, profile.evaluator.tie_margin)


def _open_editing(profile: Profile, rewriting: ChatModel, evaluator: AlignEvaluator, chat: OpenChat) -> _Editing:
    """The parts that edit, none where the profile has no editor."""
    if profile.editor is None:
        return {}
    phrases = load_phrases(profile.rewriter.style)
    checks: EditChecklistMaker = LookingEditChecks(phrases, evaluator.judge, profile.limits.pass_at)
    if profile.judge.model.kind == "openai":
        checks = EditChecklistBuilder(chat(profile.judge.model))
    editing: _Editing = {} if profile.grounder is None else {"grounder": open_grounder(profile.grounder)}
    return {
        **editing,
        "editor": open_backend(profile.editor),
        "planner": open_planner(rewriting, profile.rewriter),
        "edit_checks": checks,
        "edit_evaluator": EditEvaluator(evaluator.judge, aggregation=profile.evaluator.edit_aggregation),
    }
