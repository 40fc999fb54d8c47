"""A stand-in for the reward's models, for tests and dry runs of everything around them: no weights, no network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image

from redraft.errors import RedraftError
from rewriter.reply import parse_reply
from rewriter.train.image_reward import RewardSample, ScoredSample, Scores, Wish
from rewriter.train.rewards import format_term

Alignment = float | None
Answer = Alignment | RedraftError


class FakeReward:
    """A RewardSource that gives each rewrite the alignment that `script` says: a function of (sample, rewrite).

    None is a failed judgement; an error is raised for the whole call. A reply that cannot be read has reward -0.5, any
    other its alignment and a tenth of its format term. Pictures are of one grey. `calls` keeps the samples of each
    call, `drawn` what was asked for by `draw`.
    """

    def __init__(self, script: Callable[[RewardSample, str], Answer] | None = None) -> None:
        self.calls: list[tuple[RewardSample, ...]] = []
        self.drawn: list[Wish] = []
        self.closed = False
        self._script = script or (lambda sample, rewrite: min(1.0, len(rewrite) / 100))

    async def __call__(self, samples: Sequence[RewardSample]) -> Scores:
        self.calls.append(tuple(samples))
        scored = tuple(self._scored(sample) for sample in samples)
        wanted = {(sample.request, one.prompt): one for sample, one in zip(samples, scored, strict=True)}.values()
        failed = sum(one.failed for one in wanted)
        return Scores(
            samples=scored,
            judgements=sum(one.pictures for one in wanted),
            failed=failed,
            cached=0,
            reasons=("as scripted",) if failed else (),
            draw_s=0.0,
            judge_s=0.0,
            wall_s=0.0,
        )

    async def draw(self, wishes: Sequence[Wish]) -> list[Image.Image | None]:
        self.drawn += wishes
        return [Image.new("RGB", (16, 16), "grey") for _ in wishes]

    def close(self) -> None:
        self.closed = True

    def _scored(self, sample: RewardSample) -> ScoredSample:
        parsed = parse_reply(sample.reply, truncated=sample.truncated)
        form = format_term(sample.reply, readable=parsed.prompt is not None)
        if parsed.prompt is None:
            return ScoredSample(
                -0.5, 0.0, form, None, parsed.thought, penalty=0.5, findings=(f"reply: {parsed.problem}",)
            )
        answer = self._script(sample, parsed.prompt)
        if isinstance(answer, RedraftError):
            raise answer
        reward = None if answer is None else answer + 0.1 * form
        return ScoredSample(reward, answer, form, parsed.prompt, parsed.thought, pictures=1, failed=int(answer is None))
