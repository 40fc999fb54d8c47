"""Which evaluator a profile means. Importing this is cheap: model libraries load when models are first needed."""

from __future__ import annotations

from evaluator.align import AlignEvaluator
from evaluator.checklist import ChecklistBuilder
from evaluator.judges import open_judge
from redraft.chat import ChatModel
from redraft.models import open_chat
from redraft.profiles import Profile


def open_evaluator(profile: Profile, listing: ChatModel | None = None) -> tuple[ChecklistBuilder, AlignEvaluator]:
    """Checklist maker and AlignEvaluator of `profile`; `listing` is its checklist model where that is open already.

    Raises ConfigError for settings that cannot be used, ModelMissing where weights are not in their place.
    """
    listing = listing or open_chat(profile.checklist.model or profile.rewriter.model)
    builder = ChecklistBuilder(listing, profile.checklist)
    judge = open_judge(profile.judge)
    return builder, AlignEvaluator(builder, judge, profile.evaluator, pass_at=profile.judge.pass_at)
