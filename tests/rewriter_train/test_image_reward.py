"""The reward pipeline, with the fakes of its parts: values, order, overlap, cache, failures."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from editors.backend import ImageTask, StepCallback
from editors.testing import FakeBackend
from evaluator.combine import WeightedSum
from evaluator.reward import checks_reward
from evaluator.testing import FakeChecklistBuilder, FakeJudge, JudgeAnswer
from evaluator.types import Case, Check, Checklist, Need, Outcome, Reading, Shot, Verdict
from redraft.errors import BackendError, InputError, ModelMissing, ServerError
from rewriter.guard import GuardSettings
from rewriter.reply import Rules
from rewriter.target import Target
from rewriter.train.image_reward import ImageReward, RewardCache, RewardSample, RewardSettings, Scores, Wish, seeds_of

STARS = "two red stars"
CHECKS: Checklist = (Check("counting", "Are there two stars?"), Check("negation", "Are there no hearts?"))
RULES = Rules()


def reply(rewrite: str) -> str:
    return f"<think>stars</think><answer>{rewrite}</answer>"


def paint(task: ImageTask) -> Image.Image:
    """A picture that carries its prompt and seed, so that a judge can tell them apart."""
    image = Image.new("RGB", (8, 8))
    image.info["drawn"] = json.dumps([task.prompt, task.seed])
    return image


class Painter(FakeBackend):
    """Draws pictures by `paint`."""

    def __init__(self, *, name: str = "fake", script: Sequence[Exception | None] = ()) -> None:
        super().__init__(name=name, script=script, paint=paint)


def drawn(image: Image.Image) -> tuple[str, int]:
    prompt, seed = json.loads(image.info["drawn"])
    return prompt, seed


BUILDER = FakeChecklistBuilder(lambda prompt: CHECKS)


def by_length(image: Image.Image, prompt: str, check: Check) -> float:
    """The longer the rewrite, the better: a score that differs between rewrites."""
    return min(1.0, len(drawn(image)[0]) / 100)


async def score(
    replies: Sequence[str],
    judge: Callable[[Image.Image, str, Check], JudgeAnswer] = by_length,
    settings: RewardSettings | None = None,
    backend: FakeBackend | None = None,
    cache: RewardCache | None = None,
) -> Scores:
    reward = ImageReward(backend or Painter(), BUILDER, checks_reward(FakeJudge(judge)), RULES, settings, cache=cache)
    try:
        return await reward([RewardSample(STARS, one) for one in replies])
    finally:
        reward.close()


async def test_rewards_by_hand_and_in_order() -> None:
    def judge(image: Image.Image, prompt: str, check: Check) -> float:
        wide = "wide" in drawn(image)[0]
        return {"counting": 0.9 if wide else 0.3, "negation": 0.5}[check.key_point]

    scores = await score(
        [
            reply("two red stars, wide apart"),  # (0.9 + 0.5) / 2 + 0.1
            reply("two red stars"),  # (0.3 + 0.5) / 2 + 0.1
            "<answer>two red stars, wide apart</answer>",  # half the format term
            "<think>two red",  # unreadable: nothing drawn, the whole penalty
        ],
        judge,
    )
    assert [one.reward for one in scores.samples] == pytest.approx([0.8, 0.5, 0.75, -0.5])
    assert [one.alignment for one in scores.samples] == pytest.approx([0.7, 0.4, 0.7, 0.0])
    assert [one.prompt for one in scores.samples][3] is None
    assert (scores.judgements, scores.failed, scores.cached, scores.reasons) == (2, 0, 0, ())


async def test_the_guards_findings_cost() -> None:
    scores = await score([reply("two red stars"), reply("five red stars")], lambda *_: 0.6)
    kept, broken = scores.samples
    assert kept.findings == ()
    assert len(broken.findings) >= 1
    assert broken.reward == pytest.approx(0.6 + 0.1 - 0.1 * len(broken.findings))


async def test_no_readable_reply_has_less_than_an_unreadable_one() -> None:
    broken = reply("seven blue hearts with the word HELLO, not 'stars', and 3 don’t")
    worst, unreadable = (await score([broken, "<think>"], lambda *_: 0.0)).samples
    assert worst.reward is not None
    assert unreadable.reward is not None
    assert worst.reward >= unreadable.reward


async def test_the_judge_sees_the_users_prompt_and_its_checklist() -> None:
    judge = FakeJudge(by_length)
    reward = ImageReward(Painter(), BUILDER, checks_reward(judge), RULES)
    await reward([RewardSample(STARS, reply("two red stars on a sheet"))])
    reward.close()
    assert [(prompt, checks) for _, prompt, checks in judge.calls] == [(STARS, CHECKS)]


async def test_mean_over_seeds_that_a_group_shares() -> None:
    settings = RewardSettings(seeds=3, batch_size=4)
    seeds = seeds_of(STARS, settings)
    assert len(set(seeds)) == 3
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert set(seeds).isdisjoint(seeds_of("one circle", settings))

    def judge(image: Image.Image, prompt: str, check: Check) -> float:
        return {seeds[0]: 0.2, seeds[1]: 0.6, seeds[2]: 1.0}[drawn(image)[1]]

    backend = Painter()
    scores = await score([reply("two red stars"), reply("two stars, both red")], judge, settings, backend)
    assert [one.alignment for one in scores.samples] == pytest.approx([0.6, 0.6])
    assert [len(call) for call in backend.calls] == [4, 2]
    assert sorted(task.seed for call in backend.calls for task in call) == sorted(seeds * 2)


async def test_equal_rewrites_are_drawn_once() -> None:
    backend = Painter()
    scores = await score([reply("two red stars")] * 5, backend=backend)
    assert scores.judgements == 1
    assert sum(len(call) for call in backend.calls) == 1
    assert len({one.reward for one in scores.samples}) == 1


async def test_a_negative_prompt_is_drawn_with_its_rewrite_and_tells_pictures_apart() -> None:
    target = Target(name="t", description="d", form="any", max_tokens=200, negative_prompt=True)
    backend = Painter()
    reward = ImageReward(backend, BUILDER, checks_reward(FakeJudge(by_length)), Rules.of(GuardSettings(), target))
    replies = [reply("two red stars"), reply("two red stars\nNegative prompt: blur, noise")]
    scores = await reward([RewardSample(STARS, one) for one in replies])
    [again] = await reward.draw([Wish(STARS, "two red stars", "blur, noise")])
    reward.close()
    assert [one.prompt for one in scores.samples] == ["two red stars"] * 2
    assert [one.negative_prompt for one in scores.samples] == [None, "blur, noise"]
    assert [task.negative_prompt for task in backend.calls[0]] == [None, "blur, noise"]
    assert backend.calls[1] == (backend.calls[0][1],)
    assert again is not None


async def test_pictures_are_judged_more_than_once_and_doubt_is_told() -> None:
    seen: list[bytes] = []

    def judge(image: Image.Image, prompt: str, check: Check) -> float:
        seen.append(image.tobytes())
        return (0.9 if len(seen) <= 2 else 0.5) if check.key_point == "counting" else 0.6

    scores = await score([reply("two red stars")], judge, RewardSettings(passes=2))
    [one] = scores.samples
    assert one.alignment == pytest.approx(((0.9 + 0.6) / 2 + (0.5 + 0.6) / 2) / 2)
    # The first check's answers are 0.9 and 0.5, the second's agree; the mean of exp(-KL), KL both ways.
    kl = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    back = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert one.certainty == pytest.approx((math.exp(-(kl + back) / 2) + 1) / 2)
    assert (scores.judgements, len(seen)) == (1, 4)


async def test_certainty_is_cached_with_the_score() -> None:
    answers = iter([0.9, 0.9, 0.5, 0.5])
    cache, settings = RewardCache(), RewardSettings(passes=2)
    first = await score([reply("two red stars")], lambda *_: next(answers), settings, cache=cache)
    again = await score([reply("two red stars")], lambda *_: 0.0, settings, cache=cache)
    assert first.samples[0].certainty < 1
    assert again.samples == first.samples
    once = await score([reply("two red stars")], lambda *_: 0.4, RewardSettings(), cache=cache)
    assert (once.cached, once.samples[0].certainty) == (0, 1.0)


async def test_one_checklist_a_prompt() -> None:
    builder = FakeChecklistBuilder(lambda prompt: CHECKS)
    reward = ImageReward(Painter(), builder, checks_reward(FakeJudge(by_length)), RULES)
    for _ in range(2):
        await reward([RewardSample(p, reply(p)) for p in (STARS, "one circle", STARS)])
    reward.close()
    assert builder.requests == [STARS, "one circle"]


class _Gate:
    """Counts the generator's calls, and lets a judge wait for the n-th to begin."""

    def __init__(self) -> None:
        self.begun = 0
        self._changed = threading.Condition()

    def enter(self) -> None:
        with self._changed:
            self.begun += 1
            self._changed.notify_all()

    async def reaches(self, count: int) -> bool:
        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(lambda: self.begun >= count, timeout=120)

        return await asyncio.to_thread(wait)


class _Waiting:
    """A judge that answers 1 once `before` has let it."""

    name = "waiting"

    def __init__(self, before: Callable[[], object]) -> None:
        self._before = before

    async def __call__(self, image: Image.Image, request: str, checks: Sequence[Check]) -> list[Verdict]:
        waited = self._before()
        if asyncio.iscoroutine(waited):
            await waited
        return await FakeJudge(lambda *_: 1.0)(image, request, checks)


class _Gated(Painter):
    def __init__(self, gate: _Gate) -> None:
        super().__init__()
        self._gate = gate

    def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
        self._gate.enter()
        return super().render(tasks, on_step)


def _many(count: int) -> list[RewardSample]:
    return [RewardSample(STARS, reply(f"two red stars {'by night ' * i}")) for i in range(1, count + 1)]


async def test_the_next_batch_is_drawn_while_one_is_judged() -> None:
    gate = _Gate()
    overlapped: list[bool] = []

    async def second_batch_begins() -> None:
        overlapped.append(await gate.reaches(2))

    judge = _Waiting(second_batch_begins)
    align = checks_reward(judge)
    reward = ImageReward(_Gated(gate), BUILDER, align, RULES, RewardSettings(batch_size=2))
    scores = await reward(_many(4))
    reward.close()
    assert overlapped == [True] * 4
    assert scores.failed == 0


async def test_a_slow_judge_holds_the_generator_back() -> None:
    gate, most = _Gate(), []

    async def until_no_more_comes() -> None:
        # One picture is with the judge, one waits, one is drawn and finds no room.
        await gate.reaches(min(6, len(most) + 3))
        await asyncio.sleep(0.02)
        most.append(gate.begun - len(most))

    align = checks_reward(_Waiting(until_no_more_comes))
    reward = ImageReward(_Gated(gate), BUILDER, align, RULES, RewardSettings(batch_size=1, ahead=1, judging=1))
    await reward(_many(6))
    reward.close()
    assert most == [3, 3, 3, 3, 2, 1]


async def test_overlap_shows_in_the_times() -> None:
    class Slow(Painter):
        def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
            time.sleep(0.1)
            return super().render(tasks, on_step)

    judge = _Waiting(lambda: asyncio.sleep(0.1))
    align = checks_reward(judge)
    reward = ImageReward(Slow(), BUILDER, align, RULES, RewardSettings(batch_size=1))
    scores = await reward(_many(4))
    reward.close()
    # One by one the two would come to no more than the whole; here three of four drawings hide behind judgements.
    assert scores.draw_s + scores.judge_s > scores.wall_s


async def test_what_the_cache_knows_is_neither_drawn_nor_judged(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "scores.jsonl"
    replies = [reply("two red stars"), reply("two stars, both red")]
    cache = RewardCache(path)
    first = await score(replies, cache=cache)
    cache.close()
    backend, cache = Painter(), RewardCache(path)
    again = await score([*replies, reply("two red stars, side by side")], backend=backend, cache=cache)
    cache.close()
    assert [one.reward for one in again.samples[:2]] == [one.reward for one in first.samples]
    assert (again.cached, again.judgements) == (2, 3)
    assert [task.prompt for call in backend.calls for task in call] == ["two red stars, side by side"]


async def test_the_cache_tells_models_seeds_sizes_and_checklists_apart() -> None:
    cache, one = RewardCache(), [RewardSample(STARS, reply("two red stars"))]

    async def cached(
        backend: FakeBackend, settings: RewardSettings, checks: Checklist = CHECKS, judge: str = "a"
    ) -> int:
        builder, judged = FakeChecklistBuilder(lambda prompt: checks), checks_reward(FakeJudge(by_length, name=judge))
        reward = ImageReward(backend, builder, judged, RULES, settings, cache=cache, names=(judge,))
        try:
            return (await reward(one)).cached
        finally:
            reward.close()

    plain = RewardSettings()
    assert await cached(Painter(), plain) == 0
    assert await cached(Painter(name="other"), plain) == 0
    assert await cached(Painter(), plain, judge="b") == 0
    assert await cached(Painter(), plain, CHECKS[:1]) == 0
    assert await cached(Painter(), RewardSettings(seed=1)) == 0
    assert await cached(Painter(), RewardSettings(size=(32, 32))) == 0
    assert await cached(Painter(), plain) == 1


async def test_failed_judgements_are_none_counted_and_tried_again() -> None:
    failing = True

    def judge(image: Image.Image, prompt: str, check: Check) -> JudgeAnswer:
        bad = failing and "apart" in drawn(image)[0] and check.key_point == "negation"
        return ServerError("the judge is out of memory") if bad else 0.5

    cache = RewardCache()
    settings = RewardSettings(max_failed=0.5)
    replies = [reply("two red stars"), reply("two red stars apart")]
    scores = await score(replies, judge, settings, cache=cache)
    assert [one.reward for one in scores.samples] == [pytest.approx(0.6), None]
    assert [one.alignment for one in scores.samples] == [pytest.approx(0.5), None]
    assert [one.failed for one in scores.samples] == [0, 1]
    assert (scores.failed, scores.reasons) == (1, ("the judge is out of memory",))

    failing = False
    scores = await score(replies, judge, settings, cache=cache)
    assert [one.reward for one in scores.samples] == pytest.approx([0.6, 0.6])
    assert (scores.failed, scores.cached) == (0, 1)


async def test_a_rewrite_keeps_the_mean_of_the_seeds_that_were_judged() -> None:
    settings = RewardSettings(seeds=2, max_failed=0.5)
    broken = seeds_of(STARS, settings)[0]

    def judge(image: Image.Image, prompt: str, check: Check) -> JudgeAnswer:
        return ServerError("gone") if drawn(image)[1] == broken else 0.4

    [one] = (await score([reply("two red stars")], judge, settings)).samples
    assert (one.alignment, one.failed) == (pytest.approx(0.4), 1)


async def test_too_many_failures_stop_with_the_cause() -> None:
    with pytest.raises(BackendError, match=r"1 of 4 judgements .* share of 0\.2 .* max_failed.*the judge is away"):
        await score(
            [reply(f"two red stars {'by night ' * i}") for i in range(1, 5)],
            lambda image, *_: ServerError("the judge is away") if drawn(image)[0].count("night") == 2 else 0.5,
        )


async def test_a_share_that_is_allowed_does_not_stop() -> None:
    scores = await score(
        [reply(f"two red stars {'by night ' * i}") for i in range(1, 6)],
        lambda image, *_: ServerError("away") if drawn(image)[0].count("night") == 2 else 0.5,
    )
    assert [one.reward is None for one in scores.samples] == [False, True, False, False, False]


class _Refusing(Painter):
    """Fails on any batch with a picture that it refuses."""

    def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
        if any("refused" in task.prompt for task in tasks):
            self.calls.append(tuple(tasks))
            raise ServerError("refused by the server")
        return super().render(tasks, on_step)


async def test_a_picture_that_cannot_be_drawn_costs_no_other() -> None:
    replies = [reply("two red stars"), reply("two red stars, refused"), reply("two stars, both red")]
    backend = _Refusing()
    scores = await score(replies, settings=RewardSettings(max_failed=0.4), backend=backend)
    assert [one.reward is None for one in scores.samples] == [False, True, False]
    assert scores.reasons == ("refused by the server",)
    assert [len(call) for call in backend.calls] == [3, 1, 1, 1]


async def test_a_missing_generator_stops_at_once() -> None:
    with pytest.raises(ModelMissing, match="no weights"):
        await score([reply("two red stars")], backend=Painter(script=[ModelMissing("no weights")]))


async def test_a_prompt_without_a_checklist_fails_alone_and_draws_nothing() -> None:
    def checks(prompt: str) -> Checklist | BackendError:
        return ServerError("no checklist") if prompt == "one circle" else CHECKS

    backend = Painter()
    align = checks_reward(FakeJudge(by_length))
    reward = ImageReward(backend, FakeChecklistBuilder(checks), align, RULES, RewardSettings(max_failed=0.5))
    scores = await reward([RewardSample(STARS, reply(STARS)), RewardSample("one circle", reply("one circle"))])
    reward.close()
    assert [one.reward is None for one in scores.samples] == [False, True]
    assert [task.prompt for call in backend.calls for task in call] == [STARS]


async def test_mistakes_of_ours_come_through_as_they_are() -> None:
    def judge(image: Image.Image, prompt: str, check: Check) -> JudgeAnswer:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await score([reply("two red stars")], judge)


def test_one_reward_serves_several_event_loops() -> None:
    reward = ImageReward(Painter(), BUILDER, checks_reward(FakeJudge(by_length)), RULES)
    results = [asyncio.run(reward([RewardSample(STARS, reply(STARS))])) for _ in range(2)]
    reward.close()
    assert [one.cached for one in results] == [0, 1]


async def test_nothing_to_score() -> None:
    scores = await score([])
    assert (scores.samples, scores.judgements) == ((), 0)


def test_a_cache_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text("these are no scores" * 100, encoding="utf-8")
    with pytest.raises(InputError, match=r"scores\.jsonl.*delete it"):
        RewardCache(path)


@pytest.mark.parametrize("bad", [{"seeds": 0}, {"ahead": 0}, {"max_failed": 1.5}])
def test_settings_that_cannot_be(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must each|share"):
        RewardSettings(**bad)  # type: ignore[arg-type]


class ByRank:
    """A criterion that sees the whole group: the longest prompt wins. `groups` are the prompts that it saw together."""

    name = "rank"
    needs: frozenset[Need] = frozenset({"group"})

    def __init__(self, absolute: bool) -> None:
        self.absolute = absolute
        self.groups: list[list[str]] = []

    async def __call__(self, case: Case, shots: Sequence[Shot]) -> list[Reading]:
        prompts = [shot.prompt for shot in shots]
        self.groups.append(prompts)
        ranks = [sum(len(other) < len(prompt) for other in prompts) / max(1, len(prompts) - 1) for prompt in prompts]
        return [Reading(Outcome.SCORED, rank) for rank in ranks]


@pytest.mark.parametrize("absolute", [True, False])
async def test_a_criterion_of_groups_sees_all_pictures_of_a_request_in_whatever_batches_they_are_drawn(
    absolute: bool,
) -> None:
    rank = ByRank(absolute)
    judged = checks_reward(FakeJudge(lambda *_: 0.5))
    combined = replace(judged, criteria=(*judged.criteria, (rank, 3.0)), combine=WeightedSum())
    reward = ImageReward(Painter(), BUILDER, combined, RULES, RewardSettings(batch_size=2))
    stars = [reply("two red stars"), reply("two big red stars"), reply("two big red stars there")]
    samples = [RewardSample(STARS, stars[0]), RewardSample("one circle", reply("one circle"))]
    samples += [RewardSample(STARS, each) for each in stars[1:]]
    for _ in range(2):  # what a picture is worth in its group is not kept from call to call
        scores = await reward(samples)
        assert [one.alignment for one in scores.samples] == [
            pytest.approx(value) for value in (0.125, 0.125, 0.5, 0.875)
        ]
        assert [one.readings["rank"] for one in scores.samples] == [0.0, 0.0, 0.5, 1.0]
    reward.close()
    assert sorted(map(len, rank.groups)) == [1, 1, 3, 3]
    assert scores.weights == {"checks": 1.0, "rank": 3.0}


async def test_a_picture_that_cannot_be_drawn_is_missing_from_its_group_and_holds_nobody_up() -> None:
    rank = ByRank(absolute=True)
    judged = checks_reward(FakeJudge(lambda *_: 0.5))
    combined = replace(judged, criteria=(*judged.criteria, (rank, 1.0)), combine=WeightedSum())
    backend = Painter(script=[ServerError("down")])
    settings = RewardSettings(batch_size=1, max_failed=0.5)
    reward = ImageReward(backend, BUILDER, combined, RULES, settings)
    scores = await reward(
        [RewardSample(STARS, reply(text)) for text in ("two red stars", "two big red stars", "stars, red")]
    )
    reward.close()
    assert [one.reward is None for one in scores.samples] == [True, False, False]
    assert [len(group) for group in rank.groups] == [2]
