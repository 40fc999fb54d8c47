"""A profile without models, for tests of a server's doors."""

from __future__ import annotations

from agent.serve.metrics import Metrics
from agent.serve.models import Served
from agent.testing import Opinion, fake_models
from editors.backend import ImageBackend
from redraft.limits import Limits
from rewriter.plan import Plan, Step
from rewriter.testing import FakePlanner, FakeRewriter

GOOD = (0.97, 0.98, 0.99)
BAD = (0.2, 0.3, 0.4)


def fake_opinion(prompt: str, seed: int) -> tuple[float, ...]:
    """Whatever has a star is good."""
    del seed
    return GOOD if "star" in prompt else BAD


def fake_served(
    metrics: Metrics,
    *,
    name: str = "fake",
    opinion: Opinion = fake_opinion,
    backend: ImageBackend | None = None,
    limits: Limits | None = None,
    batch_size: int = 4,
) -> Served:
    """Draws as `agent.testing.paint` does; prompts with a star are accepted, others run out of rounds."""
    models = fake_models(
        opinion,
        rewriter=FakeRewriter(lambda call: [f"{call.request}, finely"]),
        planner=FakePlanner(lambda situation: Plan("edit", "as told", (Step(situation.request),))),
        backend=backend,
        batch_size=batch_size,
    )
    return Served.of(name, models, limits or Limits(max_rounds=2, max_images=4), metrics)
