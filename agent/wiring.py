"""From a profile to the models of a run. Importing this is cheap; model libraries load when they are needed."""

from __future__ import annotations

from agent.parts import CallLimit, Parts
from core.models import open_chat
from core.profiles import Profile
from editors.models import open_backend
from evaluator.models import open_evaluator
from rewriter.cot import CoTRewriter


def open_parts(profile: Profile) -> Parts:
    """The parts that `profile` describes. A model that serves two roles is opened once.

    Raises ConfigError for settings that cannot be used, ModelMissing where weights are not in their place.
    """
    rewriting = open_chat(profile.rewriter.model)
    own = profile.checklist.model
    listing = rewriting if own is None or own == profile.rewriter.model else open_chat(own)
    backend = open_backend(profile.generator)
    builder, evaluator = open_evaluator(profile, listing)
    servers = [m.server for m in (profile.rewriter.model, own, profile.judge.model) if m is not None and m.server]
    return Parts(
        builder=builder,
        rewriter=CoTRewriter(rewriting, profile.rewriter),
        backend=backend,
        evaluator=evaluator,
        batch_size=profile.generator.batch_size,
        pass_at=profile.judge.pass_at,
        names={
            "rewriter": rewriting.name,
            "generator": backend.name,
            "judge": evaluator.judge.name,
            "checklist": listing.name,
        },
        calls=CallLimit(max((server.concurrency for server in servers), default=8)),
    )
