"""GEPA of a style's texts: a scripted proposer, the held-out check, interruptions, texts that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redraft.chat import ChatRequest
from redraft.errors import BackendError, ConfigError, InputError
from redraft.testing import FakeChat, text_of
from rewriter.reply import Rules
from rewriter.styles import load_style
from rewriter.train.data import DataArguments
from rewriter.train.gepa import GepaArguments, evolve_style, find_mistake, main, read_text
from rewriter.train.image_reward import RewardSample
from rewriter.train.text_reward import TextReward
from tests.rewriter_train.fake_reward import FakeReward

pytest.importorskip("gepa")
REQUESTS = [f"{n} red stars" for n in range(12)]
BETTER = "Count every thing that the request counts."


def rewriter() -> FakeChat:
    """Writes a better prompt if its system text tells it to count."""

    def answer(request: ChatRequest) -> str:
        prompt = "a counted scene" if "Count every" in str(request.messages[0].content) else "a scene"
        return f"<think>as told</think><answer>{prompt}</answer>"

    return FakeChat(answer)


def counted(sample: RewardSample, prompt: str) -> float:
    return 0.9 if "counted" in prompt else 0.4


def proposer(text: str = BETTER) -> FakeChat:
    return FakeChat(lambda _: f"I would write: <text>{text}</text>")


def arguments(out: Path) -> GepaArguments:
    return GepaArguments(output_dir=str(out), budget=24, examples=2)


def test_a_better_text_becomes_a_style_that_loads(tmp_path: Path) -> None:
    asked = proposer()
    evolved = evolve_style(
        arguments(tmp_path), DataArguments(), REQUESTS, source=FakeReward(counted), chat=rewriter(), proposer=asked
    )
    assert (evolved.before, evolved.after) == (pytest.approx(0.5), pytest.approx(1.0)), "with the format term"
    style, parent = load_style(str(tmp_path)), load_style("promptenhancer")
    assert (style.system, style.rewrite, style.settings) == (BETTER, parent.rewrite, parent.settings)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["written"]
    assert report["gain"][0] == pytest.approx(0.5)
    assert report["proposals"]["unusable"] < report["proposals"]["made"]
    read = text_of(asked.requests[0])
    assert parent.system is not None
    assert parent.system in read, "the proposer reads the text that it is to better"
    assert "red stars" in read


def test_texts_evolve_by_the_rewards_of_the_rewrites_alone(tmp_path: Path) -> None:
    """Their sum is above what a perfect picture gives, and still teaches."""

    def answer(request: ChatRequest) -> str:
        said = text_of(request)
        wanted = next(each for each in sorted(REQUESTS, key=len, reverse=True) if each in said)
        return f"<answer>{wanted if 'Count every' in said else 'three stars'} on a wall</answer>"

    evolved = evolve_style(
        arguments(tmp_path),
        DataArguments(),
        REQUESTS,
        source=TextReward({"coverage": 3.0, "guard": 1.0}, Rules()),
        chat=FakeChat(answer),
        proposer=proposer(),
        perfect=4.0,
    )
    assert 1.1 < evolved.before < evolved.after == pytest.approx(4.0)
    assert load_style(str(tmp_path)).system == BETTER


def test_a_text_that_gains_nothing_on_held_out_requests_is_not_written(tmp_path: Path) -> None:
    lucky = set(REQUESTS)

    def script(sample: RewardSample, prompt: str) -> float:
        """Better only on requests that chose it."""
        return 0.4 if sample.request in held_out or "counted" not in prompt else 0.9

    held_out: set[str] = set()
    from rewriter.train.gepa import split_requests

    held_out |= set(split_requests(REQUESTS, arguments(tmp_path))[2])
    evolved = evolve_style(
        arguments(tmp_path), DataArguments(), REQUESTS, source=FakeReward(script), chat=rewriter(), proposer=proposer()
    )
    assert held_out < lucky
    assert evolved.gain == pytest.approx(0.0)
    assert not (tmp_path / "style.toml").exists()
    assert not json.loads((tmp_path / "report.json").read_text())["written"]


def test_an_interrupted_search_asks_for_nothing_twice(tmp_path: Path) -> None:
    first = FakeReward(lambda sample, prompt: BackendError("gone") if "counted" in prompt else 0.4)
    with pytest.raises(BackendError):
        evolve_style(arguments(tmp_path), DataArguments(), REQUESTS, source=first, chat=rewriter(), proposer=proposer())
    asked, again = proposer(), FakeReward(counted)
    evolve_style(arguments(tmp_path), DataArguments(), REQUESTS, source=again, chat=rewriter(), proposer=asked)
    assert all("counted" in sample.reply for call in again.calls for sample in call), "the parent was not drawn again"
    keys = [(sample.request, sample.reply) for call in again.calls for sample in call]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("part", "text", "mistake"),
    [
        ("system", "Count {{request}}.", "takes no placeholder"),
        ("rewrite", "Rewrite it.", "must hold {{request}}"),
        ("rewrite", "Rewrite {{request}} {{more}}", "must hold {{request}}"),
        ("system", "{{ broken", "must begin a placeholder"),
        ("system", "  ", "characters"),
    ],
)
def test_texts_that_no_style_could_have(part: str, text: str, mistake: str) -> None:
    assert mistake in (find_mistake(part, text) or "")
    assert read_text(f"<text>{text}</text>", part) is None


def test_a_reply_without_tags_is_the_text_if_it_is_whole() -> None:
    assert read_text("```\nCount them.\n```", "system") == "Count them."
    assert read_text("Count them.", "system", truncated=True) is None
    assert read_text("<text>Count them.", "system") is None
    assert read_text("Count them.</text>", "system") is None


def test_a_reply_without_a_text_leaves_the_text_as_it_is_and_is_counted(tmp_path: Path) -> None:
    silent = FakeChat(lambda _: "<text></text>")
    evolved = evolve_style(
        arguments(tmp_path), DataArguments(), REQUESTS, source=FakeReward(counted), chat=rewriter(), proposer=silent
    )
    assert evolved.texts == {"system": load_style("promptenhancer").system}
    proposals = json.loads((tmp_path / "report.json").read_text())["proposals"]
    assert proposals["unusable"] == proposals["made"] > 0


def test_what_cannot_be_evolved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="at least 6"):
        evolve_style(
            arguments(tmp_path), DataArguments(), ["a", "b"], source=FakeReward(), chat=rewriter(), proposer=proposer()
        )
    with pytest.raises(ConfigError, match=r"no system\.txt"):
        evolve_style(
            arguments(tmp_path),
            DataArguments(style="package:mini/rewriter/style"),
            REQUESTS,
            source=FakeReward(),
            chat=rewriter(),
            proposer=proposer(),
        )
    assert main(["--parts", "cover", "--output_dir", str(tmp_path)]) == 2
    assert "there are system" in capsys.readouterr().err
