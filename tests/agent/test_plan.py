"""What a round draws."""

from __future__ import annotations

from agent.strategies import derive_seed
from agent.strategies.rounds import feedback_on, plan_round, rewrites_wanted
from agent.types import Attempt, Task
from evaluator.types import Check, Outcome, Report, Verdict
from redraft.limits import Limits
from rewriter.types import Rewrite


def plan(
    *prompts: str, number: int = 1, spent: int = 0, best: Attempt | None = None, rewrites: int = 1, **limits: int
) -> list[Task]:
    return plan_round(
        "ask",
        [Rewrite(p) for p in prompts],
        number=number,
        seed=7,
        limits=Limits(rewrites=rewrites, **limits),  # type: ignore[arg-type]
        spent=spent,
        best=best,
    )


def best_attempt(prompt: str, *ps: float) -> Attempt:
    verdicts = tuple(Verdict(Check("counting", f"{i}?"), Outcome.SCORED, p, 1.0) for i, p in enumerate(ps))
    return Attempt(1, "generate", prompt, 1, "h", None, Report(verdicts, 0.5, 0))


def prompts(tasks: list[Task]) -> list[str]:
    return [task.prompt for task in tasks]


def test_the_original_is_drawn_first_and_once() -> None:
    assert prompts(plan("a", images_per_round=4)) == ["ask", "a", "a", "a"]


def test_rewrites_take_turns() -> None:
    assert prompts(plan("a", "b", images_per_round=6, rewrites=2)) == ["ask", "a", "b", "a", "b", "a"]


def test_equal_rewrites_count_once() -> None:
    assert prompts(plan("a", "a", "b", images_per_round=3, rewrites=3)) == ["ask", "a", "b"]


def test_a_rewriter_that_gives_the_original_back_gets_it_with_fresh_seeds() -> None:
    tasks = plan("ask", images_per_round=3)
    assert prompts(tasks) == ["ask"] * 3
    assert len({task.seed for task in tasks}) == 3


def test_later_rounds_hedge_the_repair_with_what_worked_best() -> None:
    assert prompts(plan("b", number=2, spent=2, best=best_attempt("a", 0.1), images_per_round=2)) == ["b", "a"]


def test_a_repeated_prompt_gets_fresh_seeds() -> None:
    first, second = plan("a"), plan("a", number=2, spent=2, best=best_attempt("a", 0.1))
    assert prompts(second) == ["a", "a"]
    assert len({task.seed for task in first + second}) == 4


def test_the_original_is_not_drawn_again_where_there_is_a_rewrite() -> None:
    assert prompts(plan("b", number=2, spent=2, best=best_attempt("ask", 0.1), images_per_round=2)) == ["b", "b"]


def test_never_more_than_the_budget_leaves() -> None:
    assert len(plan("a", number=2, spent=7, max_images=8, images_per_round=4)) == 1
    assert len(plan("a", images_per_round=4, max_images=2)) == 2


def test_one_picture_in_all_is_drawn_from_the_rewrite() -> None:
    assert prompts(plan("a", max_images=1)) == ["a"]
    assert rewrites_wanted(Limits(max_images=1), 1, 0) == 1


def test_one_picture_a_round_starts_with_the_original_alone() -> None:
    limits = Limits(images_per_round=1)
    assert rewrites_wanted(limits, 1, 0) == 0
    assert rewrites_wanted(limits, 2, 1) == 1
    assert prompts(plan(images_per_round=1)) == ["ask"]


def test_seeds_are_the_same_everywhere_and_differ_by_place() -> None:
    assert derive_seed(7, 1, 0) == 7
    assert derive_seed(7, 2, 0) == 535020905
    seeds = {derive_seed(s, r, i) for s in (1, 2) for r in range(1, 6) for i in range(-1, 8)}
    assert len(seeds) == 2 * 5 * 9
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_task_keys_tell_tasks_apart_and_are_stable() -> None:
    task = Task(1, "generate", "p", 3)
    assert task.key == "7b320006c26c3a81f93b4c6e981f8b69"
    others = [Task(2, "generate", "p", 3), Task(1, "edit", "p", 3, source="h"), Task(1, "generate", "p", 3, "dark")]
    assert len({task.key, *(other.key for other in others)}) == 4


def test_feedback_names_the_questions_that_failed_the_surest_no_first() -> None:
    feedback = feedback_on(best_attempt("a", 0.4, 0.9, 0.1), Limits())
    assert (feedback.prompt, feedback.failed) == ("a", ("2?", "0?"))


def test_feedback_hands_on_the_judges_reason() -> None:
    said = Verdict(Check("counting", "Three?"), Outcome.SCORED, 0.1, 1.0, "There are two.")
    best = Attempt(1, "generate", "a", 1, "h", None, Report((said,), 0.1, 0))
    assert feedback_on(best, Limits()).failed == ("Three? There are two.",)


def test_feedback_names_the_weakest_check_where_all_passed() -> None:
    assert feedback_on(best_attempt("a", 0.8, 0.6, 0.9), Limits()).failed == ("1?",)
