"""The pure decisions: which attempt is best, when to stop, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.decide import acceptable, best_of, decide, rounds_without_gain, tied
from agent.types import Attempt, StopReason, missed
from evaluator.types import Check, Outcome, Report, Verdict
from redraft.limits import Limits

LIMITS = Limits(accept_at=0.9, max_rounds=4, max_images=8, max_seconds=60, patience=3)


def report(*answers: float | Outcome, score: float | None = -1.0) -> Report:
    verdicts = tuple(
        Verdict(Check("counting", f"{i}?"), a)
        if isinstance(a, Outcome)
        else Verdict(Check("counting", f"{i}?"), Outcome.SCORED, a, 1.0)
        for i, a in enumerate(answers)
    )
    given = [a for a in answers if not isinstance(a, Outcome)]
    if score == -1.0:
        score = sum(given) / len(given) if given else None
    return Report(verdicts, score, sum(v.outcome is Outcome.FAILED for v in verdicts))


def attempt(*answers: float | Outcome, round: int = 1, score: float | None = -1.0) -> Attempt:
    return Attempt(round, "generate", "p", 1, "h", None, report(*answers, score=score))


class TestAcceptable:
    def test_all_right_and_high_enough(self) -> None:
        assert acceptable(report(0.9, 0.95), LIMITS)

    def test_high_average_does_not_buy_off_a_wrong_check(self) -> None:
        assert not acceptable(report(0.99, 0.99, 0.2, score=0.97), LIMITS)

    def test_an_unanswered_check_bars_acceptance(self) -> None:
        assert not acceptable(report(0.99, Outcome.FAILED), LIMITS)

    def test_a_check_that_does_not_apply_is_no_bar(self) -> None:
        assert acceptable(report(0.99, Outcome.NOT_APPLICABLE), LIMITS)

    def test_nothing_that_applies_is_no_pass(self) -> None:
        assert not acceptable(report(Outcome.NOT_APPLICABLE, score=1.0), LIMITS)

    def test_all_right_but_not_sure_enough(self) -> None:
        assert not acceptable(report(0.7, 0.8), LIMITS)


class TestBest:
    def test_highest_score_not_the_last(self) -> None:
        assert best_of([attempt(0.3), attempt(0.8), attempt(0.5)], LIMITS) == 1

    def test_ties_go_to_the_earlier(self) -> None:
        assert best_of([attempt(0.5), attempt(0.8), attempt(0.8)], LIMITS) == 1

    def test_a_score_of_zero_beats_no_score(self) -> None:
        assert best_of([attempt(Outcome.FAILED), attempt(0.0)], LIMITS) == 1

    def test_without_any_score_the_first(self) -> None:
        assert best_of([attempt(Outcome.FAILED), attempt(Outcome.FAILED)], LIMITS) == 0

    def test_a_higher_score_with_holes_does_not_beat_an_acceptable_one(self) -> None:
        assert best_of([attempt(0.99, Outcome.FAILED), attempt(0.92, 0.92)], LIMITS) == 1

    def test_nothing_drawn(self) -> None:
        assert best_of([], LIMITS) is None
        assert tied([], LIMITS, 0.1) == []

    def test_ties_are_as_acceptable_as_the_best_and_nearly_as_high(self) -> None:
        some = [attempt(0.8), attempt(0.79), attempt(0.7), attempt(Outcome.FAILED), attempt(0.79)]
        assert tied(some, LIMITS, 0.02) == [0, 1, 4]
        some = [attempt(0.92, 0.92), attempt(0.99, Outcome.FAILED), attempt(0.91, 0.91)]
        assert tied(some, LIMITS, 0.1) == [0, 2]
        assert tied([attempt(Outcome.FAILED)], LIMITS, 0.1) == []

    def test_who_won_most_comparisons_is_the_best_of_those_compared(self) -> None:
        some = [replace(attempt(0.8), standing=0.25), replace(attempt(0.79), standing=0.75), attempt(0.5)]
        assert best_of(some, LIMITS) == 1
        assert best_of([*some, attempt(0.85)], LIMITS) == 3, "a later one that is better by its score was not compared"
        level = [replace(one, standing=0.5) for one in some[:2]]
        assert best_of(level, LIMITS) == 0, "equal there too: the higher score"
        assert best_of([replace(one, standing=None) for one in some], LIMITS) == 0


class TestStops:
    def test_accepted(self) -> None:
        decision = decide([attempt(0.2), attempt(0.95)], LIMITS, 1.0)
        assert (decision.stop, decision.best) == (StopReason.ACCEPTED, 1)

    def test_accepted_comes_before_every_other_reason(self) -> None:
        attempts = [attempt(0.95, round=r) for r in range(1, 9)]
        assert decide(attempts, LIMITS, 1e9, cancelled=True).stop is StopReason.ACCEPTED

    def test_goes_on_and_says_what_is_missing(self) -> None:
        decision = decide([attempt(0.2, 0.9, 0.9)], LIMITS, 1.0)
        assert decision.stop is None
        assert decision.why == "1 of 3 checks did not pass"

    def test_says_that_checks_could_not_be_judged(self) -> None:
        assert "1 check could not be judged" in decide([attempt(0.95, Outcome.FAILED)], LIMITS, 1.0).why

    def test_cancelled(self) -> None:
        assert decide([attempt(0.2)], LIMITS, 1.0, cancelled=True).stop is StopReason.CANCELLED

    def test_cancelled_before_anything_was_drawn(self) -> None:
        decision = decide([], LIMITS, 1.0, cancelled=True)
        assert (decision.stop, decision.best) == (StopReason.CANCELLED, None)

    def test_failed_where_nothing_could_be_scored(self) -> None:
        decision = decide([attempt(Outcome.FAILED), attempt(Outcome.FAILED)], LIMITS, 1.0)
        assert decision.stop is StopReason.FAILED

    def test_one_scored_picture_is_enough_to_go_on(self) -> None:
        assert decide([attempt(Outcome.FAILED), attempt(0.4)], LIMITS, 1.0).stop is None

    def test_time(self) -> None:
        assert decide([attempt(0.2)], LIMITS, 60.0).stop is StopReason.TIME

    def test_images(self) -> None:
        assert decide([attempt(0.2)] * 8, LIMITS, 1.0).stop is StopReason.BUDGET

    def test_rounds(self) -> None:
        attempts = [attempt(r / 10, round=r) for r in range(1, 5)]
        assert decide(attempts, LIMITS, 1.0).stop is StopReason.BUDGET

    def test_plateau(self) -> None:
        attempts = [attempt(0.5, round=r) for r in range(1, 5)]
        limits = Limits(accept_at=0.9, max_rounds=9, patience=3)
        assert decide(attempts[:3], limits, 1.0).stop is None
        assert decide(attempts, limits, 1.0).stop is StopReason.PLATEAU


@pytest.mark.parametrize(
    ("scores", "idle"),
    [
        ([], 0),
        ([0.5], 0),
        ([0.5, 0.5], 1),
        ([0.5, 0.6], 0),
        ([0.5, 0.6, 0.2, 0.6], 2),
        ([None, None], 2),
        ([None, 0.1], 0),
    ],
)
def test_rounds_without_gain(scores: list[float | None], idle: int) -> None:
    attempts = [attempt(Outcome.FAILED if s is None else s, round=r) for r, s in enumerate(scores, start=1)]
    assert rounds_without_gain(attempts) == idle


def test_missed_names_the_surest_no_first_and_no_failed_check() -> None:
    questions = [v.check.question for v in missed(report(0.4, 0.9, Outcome.FAILED, 0.1), 0.5)]
    assert questions == ["3?", "0?"]
