"""What strategies say, of views that no run made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from pydantic import ValidationError

from agent.decide import best_of, decide, rounds_without_gain
from agent.strategies import MakePictures, MakeRewrites, Move, Stop, View, loop, room, then
from agent.strategies.choose import limits_of, open_strategy
from agent.strategies.drafts import best_of_n, draft, rank
from agent.strategies.evolution import evolve
from agent.strategies.galleries import gallery, remember, route, shrink
from agent.types import Attempt, StopReason, Task, cost_of
from editors.backend import Ability
from evaluator.types import Check, Outcome, Report, Verdict
from redraft.errors import ConfigError, InputError
from redraft.limits import Limits
from redraft.profiles import Profile, SearchConfig, load_profile
from rewriter.types import Rewrite

GENEROUS = Limits(max_images=100, max_rounds=100, patience=100, accept_at=1.0)


@dataclass(frozen=True)
class Generator:
    abilities: frozenset[Ability] = frozenset({"steps", "noise"})
    steps: int | None = 30


def report(score: float | None) -> Report:
    outcome = Outcome.FAILED if score is None else Outcome.SCORED
    return Report((Verdict(Check("counting", "?"), outcome, score, 1.0),), score, int(score is None))


def view(limits: Limits = GENEROUS, **more: object) -> View:
    return replace(View("ask", 7, limits, backends={"": Generator()}), **more)  # type: ignore[arg-type]


def make(before: View, move: Move, *scores: float | None) -> View:
    """The view after the pictures of a move were judged."""
    assert isinstance(move, MakePictures)
    latest = {}
    for task, score in zip(move.tasks, scores or (0.5,) * len(move.tasks), strict=True):
        latest[task.key] = Attempt(
            task.round, "generate", task.prompt, task.seed, f"picture {task.key}", task.parent, report(score),
            draft=task.draft, denoiser_steps=max(1, round(30 * task.effort)), noise=task.noise,
        )  # fmt: skip
    attempts = {**before.attempts, **latest}
    return replace(
        before, round=before.round + 1, attempts=attempts, latest=latest, rewrites=None, phase=move.phase,
        began=move.began, spent=cost_of(list(attempts.values())),
    )  # fmt: skip


def tasks(move: Move) -> tuple[Task, ...]:
    assert isinstance(move, MakePictures)
    return move.tasks


class TestTheBudget:
    def test_images_steps_and_judgements_each_bound_what_is_left(self) -> None:
        spent = cost_of([Attempt(1, "generate", "p", 1, "h", None, report(0.1), denoiser_steps=30)])
        assert (spent.images, spent.steps, spent.judgements) == (1, 30, 1)
        assert room(view(Limits(max_images=8), spent=spent)) == 7
        assert room(view(Limits(max_images=8, max_steps=100), spent=spent)) == 2
        assert room(view(Limits(max_images=8, max_steps=100), spent=spent), effort=0.2) == 7
        assert room(view(Limits(max_images=8, max_judgements=3), spent=spent)) == 2

    def test_equal_pictures_are_judged_once_and_unchanged_ones_never(self) -> None:
        same = Attempt(1, "edit", "p", 1, "h", None, report(0.1), denoiser_steps=5)
        spent = cost_of([same, same, replace(same, image="i", unchanged=True)])
        assert (spent.images, spent.steps, spent.judgements) == (3, 15, 1)

    def test_a_backend_that_names_no_steps_costs_one_a_picture(self) -> None:
        blind = {"": Generator(frozenset(), None)}
        assert room(view(Limits(max_images=8, max_steps=3), backends=blind)) == 3

    def test_the_loop_stops_where_no_picture_can_be_paid(self) -> None:
        move = loop(view(Limits(max_steps=29)))
        assert isinstance(move, Stop)
        assert move.reason is StopReason.BUDGET
        assert "29 of 29 steps" in move.why

    def test_the_loop_draws_as_many_as_the_steps_pay(self) -> None:
        assert len(tasks(loop(view(Limits(images_per_round=4, max_steps=60), rewrites=(Rewrite("a"),))))) == 2

    @pytest.mark.parametrize(
        ("limits", "why"), [(Limits(max_steps=60), "60 steps spent"), (Limits(max_judgements=2), "2 judgements spent")]
    )
    def test_a_run_ends_when_they_are_spent(self, limits: Limits, why: str) -> None:
        made = [Attempt(1, "generate", "p", n, f"h{n}", None, report(0.1), denoiser_steps=30) for n in range(2)]
        decision = decide(made, limits, 0.0)
        assert decision.stop is StopReason.BUDGET
        assert decision.why.startswith(why)


class TestDrafts:
    search = staticmethod(draft(4, 0.2, 1, rewrite=False))

    def test_the_best_draft_is_finished_from_its_own_noise(self) -> None:
        before = view()
        drafted = self.search(before)
        assert [(task.draft, task.effort) for task in tasks(drafted)] == [(True, 0.2)] * 4
        after = make(before, drafted, 0.2, 0.9, None, 0.4)
        (finished,) = tasks(self.search(after))
        best = tasks(drafted)[1]
        assert (finished.prompt, finished.seed, finished.effort, finished.draft) == (best.prompt, best.seed, 1.0, False)
        assert finished.parent == f"picture {best.key}"
        assert after.spent.steps == 24

    def test_it_rewrites_as_the_loop_does(self) -> None:
        search = draft(4, 0.2, 1)
        assert isinstance(search(view()), MakeRewrites)
        assert [task.prompt for task in tasks(search(view(rewrites=(Rewrite("a"),))))] == ["ask", "a", "a", "a"]

    def test_after_a_finished_picture_come_new_drafts_with_other_seeds(self) -> None:
        first = view()
        drafted = self.search(first)
        second = make(first, drafted)
        third = make(second, self.search(second))
        again = self.search(third)
        assert all(task.draft for task in tasks(again))
        assert not {task.seed for task in tasks(again)} & {task.seed for task in tasks(drafted)}

    def test_fewer_drafts_where_the_budget_pays_no_more(self) -> None:
        assert len(tasks(self.search(view(Limits(max_images=4))))) == 3
        assert len(tasks(self.search(view(Limits(max_steps=43))))) == 2
        assert len(tasks(self.search(view(Limits(max_judgements=3))))) == 2

    def test_whole_pictures_where_it_pays_no_two_drafts(self) -> None:
        assert [task.draft for task in tasks(self.search(view(Limits(max_images=1), rewrites=())))] == [False]

    def test_without_the_ability_it_is_the_loop_and_says_so(self) -> None:
        blind = view(backends={"": Generator(frozenset(), None)})
        move = self.search(blind)
        assert replace(move, note="") == loop(blind)
        assert "no drafts" in move.note

    def test_a_few_step_model_can_draw_them(self) -> None:
        search = draft(4, 1.0, 1, rewrite=False, drafter="fast")
        both = view(Limits(max_steps=46, max_images=99), backends={"": Generator(), "fast": Generator(frozenset(), 4)})
        drafted = search(both)
        assert [(task.backend, task.effort, task.draft) for task in tasks(drafted)] == [("fast", 1.0, True)] * 4
        (finished,) = tasks(search(make(both, drafted)))
        assert (finished.backend, finished.draft) == ("", False)

    def test_a_draft_is_never_the_best_and_ends_no_run(self) -> None:
        drafted = Attempt(1, "generate", "p", 1, "h", None, report(1.0), draft=True)
        poor = Attempt(2, "generate", "p", 1, "i", "h", report(0.3))
        assert best_of([drafted], GENEROUS) is None
        assert best_of([drafted, poor], GENEROUS) == 1
        tight = Limits(max_rounds=1, max_images=1, max_seconds=1)
        assert decide([drafted], tight, 99.0).stop is None
        assert decide([drafted], tight, 99.0, cancelled=True).stop is StopReason.CANCELLED
        assert decide([drafted, poor], tight, 0.0).stop is StopReason.BUDGET

    def test_rounds_of_drafts_are_no_rounds_without_gain(self) -> None:
        made = [Attempt(n, "generate", "p", n, f"h{n}", None, report(0.3), draft=n % 2 == 1) for n in range(1, 7)]
        assert rounds_without_gain(made) == 2


class TestBestOf:
    def test_one_round_and_no_other(self) -> None:
        search = best_of_n(5, rewrite=False)
        first = search(view())
        assert len(tasks(first)) == 5
        move = search(make(view(), first))
        assert isinstance(move, Stop)
        assert move.reason is StopReason.BUDGET


class TestThen:
    def test_each_part_has_its_share_and_the_next_goes_on(self) -> None:
        search = then((loop, 0.5), (best_of_n(3, rewrite=False), 0.5))
        limits = Limits(max_images=4, images_per_round=2, accept_at=1.0)
        at = view(limits, rewrites=())
        first = search(at)
        assert (first.phase, len(tasks(first))) == (0, 2)
        at = make(at, first)
        second = search(at)
        assert (second.phase, second.began, len(tasks(second))) == (1, 2, 2), "two of the four are left"
        assert isinstance(search(make(at, second)), Stop)

    def test_what_a_part_leaves_falls_to_the_next(self) -> None:
        search = then((best_of_n(1, rewrite=False), 0.9), (best_of_n(20, rewrite=False), 0.1))
        at = view(Limits(max_images=10))
        at = make(at, search(at))
        assert len(tasks(search(at))) == 9

    def test_shares_have_to_be_positive(self) -> None:
        with pytest.raises(ValueError, match="share"):
            then((loop, 0.0))


class TestProfiles:
    def test_a_search_by_its_name(self) -> None:
        profile = load_profile("mini").searching("draft")
        move = open_strategy(profile.search)(view(rewrites=()))
        assert all(task.draft for task in tasks(move))
        assert load_profile("mini").searching(None).search.strategy == "loop"

    @pytest.mark.parametrize(("name", "editing"), [("nonsense", False), ("tree", False), ("draft", True)])
    def test_a_name_that_is_none_is_refused(self, name: str, editing: bool) -> None:
        with pytest.raises(InputError, match=name):
            load_profile("mini").searching(name, editing=editing)

    def test_a_tree_branches_whatever_the_profile_says(self) -> None:
        limits = load_profile("mini").limits
        assert limits_of(SearchConfig(edit="tree"), limits).tree.width == 2
        assert limits_of(SearchConfig(), limits) == limits

    @pytest.mark.parametrize(
        ("search", "word"),
        [
            ({"drafter": "nobody"}, "nobody"),
            ({"effort": 1.0}, "dear"),
            ({"strategy": "gallery"}, "gallery"),
            ({"parts": [{"strategy": "gallery", "share": 1}]}, "gallery"),
            ({"strategy": "nonsense"}, "strategy"),
            ({"n": 0}, "n"),
            ({"effort": 0}, "effort"),
            ({"keep": "pareto"}, "keep"),
        ],
    )
    def test_a_search_that_the_profile_cannot_serve_is_refused_at_load(
        self, search: dict[str, object], word: str
    ) -> None:
        profile = load_profile("mini").model_dump()
        with pytest.raises(ValidationError, match=word):
            Profile.model_validate(profile | {"search": search})

    @pytest.mark.parametrize("strategy", ["draft", "evolve"])
    def test_an_image_server_draws_no_drafts_and_a_profile_that_wants_some_is_refused(self, strategy: str) -> None:
        remote = load_profile("remote")
        with pytest.raises(ValidationError, match="image server cannot"):
            Profile.model_validate(remote.model_dump() | {"search": {"strategy": strategy}})
        with pytest.raises(ConfigError, match="image server cannot"):
            remote.searching(strategy)
        assert remote.searching("best_of").search.strategy == "best_of"

    def test_a_drafter_shares_its_noise_with_the_generator(self) -> None:
        remote = load_profile("remote").model_dump()
        gallery = [remote["generator"] | {"name": "fast"}]
        with pytest.raises(ValidationError, match="noise"):
            Profile.model_validate(
                load_profile("mini").model_dump() | {"gallery": gallery, "search": {"drafter": "fast"}}
            )

    def test_parts_share_the_budget(self) -> None:
        parts = ({"strategy": "draft", "share": 0.6}, {"strategy": "loop", "share": 0.4})
        search = SearchConfig.model_validate({"parts": parts, "rewrite": False})
        at = view(Limits(max_images=10))
        move = open_strategy(search)(at)
        assert [task.draft for task in tasks(move)] == [True] * 5


class TestEvolve:
    search = staticmethod(evolve(4, 0.2, 1, generations=2, rewrite=False))

    def test_children_are_recipes_of_their_parents_noise(self) -> None:
        first = view()
        drafted = self.search(first)
        second = make(first, drafted, 0.1, 0.9, 0.2, 0.3)
        children = tasks(self.search(second))
        assert children[0].seed == tasks(drafted)[1].seed
        assert all(child.draft and len(child.noise) == 1 and child.noise[0][1] == 0.2 for child in children)
        assert len({child.noise for child in children}) == 4
        assert children[0].parent == f"picture {tasks(drafted)[1].key}"
        assert tasks(self.search(second)) == children, "by lot, but always the same one"
        third = make(second, self.search(second), 0.95, 0.2, 0.2, 0.2)
        (finished,) = tasks(self.search(third))
        assert (finished.noise, finished.draft, finished.effort) == (children[0].noise, False, 1.0)

    def test_a_parent_of_an_earlier_generation_can_be_the_one_that_is_finished(self) -> None:
        first = view()
        drafted = self.search(first)
        second = make(first, drafted, 0.1, 0.9, 0.2, 0.3)
        third = make(second, self.search(second), 0.5, 0.2, 0.2, 0.2)
        (finished,) = tasks(self.search(third))
        assert (finished.seed, finished.noise) == (tasks(drafted)[1].seed, ())

    def test_without_the_ability_it_drafts(self) -> None:
        plain = view(backends={"": Generator(frozenset({"steps"}))})
        move = self.search(plain)
        assert all(task.draft for task in tasks(move))
        assert "nothing evolves" in move.note


class TestGallery:
    backends: ClassVar[dict[str, Generator]] = {"": Generator(), "b": Generator(), "c": Generator()}
    checks = (Check("counting", "?"),)

    def test_each_generator_draws_once_and_then_the_best_draws_all(self) -> None:
        limits = Limits(max_images=9, images_per_round=3, accept_at=1.0)
        first = view(limits, backends=self.backends, checks=self.checks, rewrites=())
        drawn = gallery(first)
        assert sorted({task.backend for task in tasks(drawn)}) == ["", "b", "c"]
        scores = {"": 0.2, "b": 0.9, "c": 0.4}
        second = replace(first, round=2, rewrites=())
        attempts = {
            task.key: Attempt(1, "generate", "p", 1, task.key, None, report(scores[task.backend]), backend=task.backend)
            for task in tasks(drawn)
        }
        second = replace(second, attempts=attempts, spent=cost_of(list(attempts.values())))
        assert {task.backend for task in tasks(gallery(second))} == {"b"}

    def test_what_earlier_runs_showed_saves_the_trial(self) -> None:
        known = {"": {"counting": (50.0, 100)}, "b": {"counting": (40.0, 100)}, "c": {"counting": (95.0, 100)}}
        first = view(backends=self.backends, checks=self.checks, experience=known, rewrites=())
        assert {task.backend for task in tasks(gallery(first))} == {"c"}

    def test_few_answers_are_pulled_towards_the_mean(self) -> None:
        table = {"": {"counting": (30.0, 50)}, "b": {"counting": (1.0, 1)}}
        assert route(["", "b"], table, ["counting"]) == "b"
        assert shrink(1.0, 1, 0.5) == pytest.approx(5 / 9)
        by_point = {"": {"counting": (9.0, 10), "color": (1.0, 10)}, "b": {"counting": (1.0, 10), "color": (9.0, 10)}}
        assert route(["", "b"], by_point, ["color"]) == "b"
        assert route(["", "b"], by_point, ["counting"]) == ""

    def test_records_of_runs_are_what_it_learns_from(self) -> None:
        verdict = {"check": {"key_point": "counting"}, "probability": 0.5}
        attempt = {"kind": "generate", "backend": "b", "report": {"verdicts": [verdict, verdict]}}
        assert remember([{"attempts": [attempt]}, {}]) == {"b": {"counting": (1.0, 2)}}

    def test_one_generator_is_the_loop_and_says_so(self) -> None:
        move = gallery(view(rewrites=()))
        assert replace(move, note="") == loop(view(rewrites=()))
        assert "no gallery" in move.note

    def test_a_profile_without_one_refuses_it(self) -> None:
        with pytest.raises(ConfigError, match="gallery"):
            load_profile("mini").searching("gallery")


def test_drafts_are_ranked_by_their_score_and_equal_ones_by_their_order() -> None:
    def drafted(seed: int, score: float | None) -> Attempt:
        return Attempt(1, "generate", "p", seed, f"h{seed}", None, report(score), draft=True)

    first, second, best, unread = drafted(1, 0.5), drafted(2, 0.5), drafted(3, 0.9), drafted(4, None)
    assert rank([unread, first, second, best], GENEROUS) == [best, first, second, unread]
