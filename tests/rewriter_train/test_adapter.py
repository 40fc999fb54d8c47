"""The reward as TRL calls it, what it logs, and the page of samples that is made from it."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from redraft.errors import BackendError
from rewriter.train.data import Chat
from rewriter.train.image_reward import RewardSample, Wish
from rewriter.train.pages import write_page
from rewriter.train.rewards import Shaper, ShapingArguments
from rewriter.train.trl_reward import RewriteReward
from tests.rewriter_train.fake_reward import FakeReward

END, OTHER = 2, 7


def said(text: str) -> Chat:
    return [{"role": "assistant", "content": text}]


def reply(rewrite: str, thought: str = "stars") -> str:
    return f"<think>{thought}</think><answer>{rewrite}</answer>"


def ask(reward: RewriteReward, prompts: list[str], replies: list[str], ids: list[list[int]] | None = None) -> Any:
    metrics: dict[str, float] = {}
    columns: dict[str, list[Any]] = defaultdict(list)
    given = reward(
        prompts=[said(prompt) for prompt in prompts],
        completions=[said(one) for one in replies],
        completion_ids=ids or [[OTHER, END]] * len(replies),
        request=prompts,
        task=[""] * len(replies),
        trainer_state=None,
        log_metric=metrics.__setitem__,
        log_extra=columns.__setitem__,
        checks=["other columns of the data are no matter"] * len(replies),
    )
    return given, metrics, columns


def rewarded(source: FakeReward, **settings: object) -> RewriteReward:
    return RewriteReward(source, Shaper(ShapingArguments(**settings)))  # type: ignore[arg-type]


def test_the_users_prompt_the_reply_and_its_end_reach_the_reward() -> None:
    source = FakeReward(lambda sample, rewrite: 0.4)
    reward = rewarded(source)
    reward.ends = frozenset([END])
    replies = [reply("two red stars"), "<think>two", reply("a moon")]
    given, metrics, columns = ask(reward, ["two stars", "two stars", "moon"], replies, [[END], [OTHER], []])
    reward.close()
    assert source.calls == [
        (
            RewardSample("two stars", replies[0]),
            RewardSample("two stars", replies[1], True),
            RewardSample("moon", replies[2], True),
        )
    ]
    assert given == [pytest.approx(0.5), -0.5, pytest.approx(0.5)]
    assert metrics["reward/cut_off"] == pytest.approx(2 / 3)
    assert metrics["reward/unreadable"] == pytest.approx(1 / 3)
    assert columns["rewrite"] == ["two red stars", "", "a moon"]
    assert source.closed


def test_failed_judgements_are_none_and_counted() -> None:
    source = FakeReward(lambda sample, rewrite: None if "blue" in rewrite else 0.4)
    given, metrics, _ = ask(rewarded(source), ["x", "x"], [reply("a blue x"), reply("a red x")])
    assert given == [None, pytest.approx(0.5)]
    assert metrics["reward/failed"] == 0.5
    assert metrics["reward/unscored"] == 0.5
    assert metrics["reward/alignment"] == 0.4  # the mean of those that are known


def test_parts_lengths_and_waiting_are_logged() -> None:
    reward = rewarded(FakeReward(lambda sample, rewrite: 0.25))
    _, first, _ = ask(reward, ["x"], [reply("a red x", "so")])
    _, second, _ = ask(reward, ["x"], [reply("a red x", "so")])
    assert first["reward/total"] == pytest.approx(0.35)
    assert (first["reward/format"], first["reward/penalty"]) == (1.0, 0.0)
    assert (first["reward/prompt_chars"], first["reward/thought_chars"]) == (7.0, 2.0)
    assert {"reward/draw_s", "reward/judge_s", "reward/wall_s", "reward/cached"} <= first.keys()
    assert "reward/wait_share" not in first
    assert 0 < second["reward/wait_share"] <= 1


def test_a_template_that_opens_the_thought_costs_no_format() -> None:
    source = FakeReward(lambda sample, rewrite: 0.0)
    reward = RewriteReward(source, Shaper(ShapingArguments()), opening="<think>")
    given, _, _ = ask(reward, ["x"], ["stars</think><answer>a red x</answer>"])
    assert given == [pytest.approx(0.1)]


def test_shaping_sees_whole_groups() -> None:
    source = FakeReward(lambda sample, rewrite: {"a": 0.1, "b": 0.5, "c": 0.95}[rewrite])
    reward = rewarded(source, win_rate=True, skip_settled=True)
    given, metrics, _ = ask(reward, ["x", "x", "y", "y"], [reply("a"), reply("b"), reply("c"), reply("c")])
    assert given == [0.0, 1.0, 0.5, 0.5]
    assert metrics["reward/settled"] == 0.5


def test_errors_of_the_source_come_through() -> None:
    reward = rewarded(FakeReward(lambda sample, rewrite: BackendError("too many failed")))
    with pytest.raises(BackendError, match="too many failed"):
        ask(reward, ["x"], [reply("a red x")])


def _page(reward: RewriteReward, folder: Path, **more: Any) -> str:
    history = [{"reward/alignment": 0.2, "kl": 0.0}, {"reward/alignment": 0.4, "kl": 0.01}, {"loss": 1.0}]
    write_page(folder / "samples" / "step-7.html", reward, history, **({"count": 2, "step": 7, "steps": 9} | more))
    return (folder / "samples" / "step-7.html").read_text(encoding="utf-8")


def test_a_page_shows_best_and_worst_of_each_group(tmp_path: Path) -> None:
    source = FakeReward()
    reward = rewarded(source)
    prompts = ["a <b>star</b> & moon"] * 3 + ["one hat"] * 2 + ["not shown"]
    replies = [reply("a star"), reply("a star with a moon", "2 < 3 & <i>"), reply("a star, a moon")]
    ask(reward, prompts, [*replies, reply("hat"), "<think>one & only", reply("x")])
    page = _page(reward, tmp_path)
    assert source.drawn == [Wish(prompts[0], "a star with a moon"), Wish(prompts[0], "a star"), Wish("one hat", "hat")]
    assert page.count('<img src="data:image/webp;base64,') == 3
    assert "a &lt;b&gt;star&lt;/b&gt; &amp; moon" in page
    assert "2 &lt; 3 &amp; &lt;i&gt;" in page
    assert "a star, a moon" not in page  # the middle one
    assert "could not be read" in page
    assert "&lt;think&gt;one &amp; only" in page
    assert "not shown" not in page
    assert "alignment: 0.2 &rarr; 0.4" in page
    assert not re.search(r"<script|https?://|<b>|<i>", page)


def test_a_page_without_pictures_says_why(tmp_path: Path) -> None:
    class Broken(FakeReward):
        async def draw(self, rewrites: Any) -> Any:
            raise BackendError("the generator is away")

    reward = rewarded(Broken())
    ask(reward, ["one hat"], [reply("a hat")])
    page = _page(reward, tmp_path)
    assert "No pictures: the generator is away" in page
    assert "<img" not in page
