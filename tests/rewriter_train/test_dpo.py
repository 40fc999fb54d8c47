"""DPO on exported preferences: what a pair is, two steps on a tiny model, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mini.rewriter.model import build_model, save, train_tokenizer
from redraft.errors import InputError
from rewriter.styles import load_style
from rewriter.train import dpo
from rewriter.train.dpo import dpo_rows, read_pairs

STYLE = "package:mini/rewriter/style"


def pair(number: str, **changes: Any) -> dict[str, Any]:
    row = {
        "request": f"{number} stars",
        "chosen_prompt": f"{number} red stars",
        "chosen_thought": f"{number} of them",
        "rejected_prompt": f"{number} blue moons",
        "rejected_thought": "moons",
        "margin": 0.4,
        "chosen_image": "images/a.png",
    }
    return row | changes


def test_scored_candidates_of_enhance_give_their_best_and_their_worst() -> None:
    row = {
        "request": "two stars",
        "prompt": "two red stars",
        "candidates": ["two stars at sea", "two red stars", "stars", "two stars above"],
        "scores": [0.5, 3.0, 1.0, None, 9.0],
        "candidate_thoughts": ["sea", "red", "", "above"],
    }
    [found] = read_pairs(row)
    assert (found.chosen.prompt, found.chosen.thought, found.rejected.prompt) == (
        "two red stars",
        "red",
        "two stars at sea",
    )
    assert found.margin == 2.5
    with pytest.raises(InputError, match="no two candidates have different scores"):
        read_pairs({**row, "scores": [1.0, None, 1.0, None]})
    with pytest.raises(InputError, match=r"scores: .*--select"):
        read_pairs({key: value for key, value in row.items() if key != "scores"})


def test_more_pairs_of_a_request_go_from_the_outside_in() -> None:
    scored = {"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.7, "e": 0.5}
    row = {"request": "two stars", "candidates": list(scored), "scores": list(scored.values())}
    pairs = [(pair.chosen.prompt, pair.rejected.prompt) for pair in read_pairs(row, most=9)]
    assert pairs == [("b", "a"), ("d", "c")]
    row["scores"] = [0.1, 0.9, 0.5, 0.5, 0.5]
    assert len(read_pairs(row, most=9)) == 1, "equal scores teach nothing"


def test_negative_prompts_are_learnt_as_part_of_the_reply() -> None:
    row = {
        "request": "two stars",
        "candidates": ["two red stars", "stars"],
        "scores": [0.9, 0.1],
        "candidate_negative_prompts": ["moons", None],
    }
    exported = pair("two", chosen_negative_prompt="moons", rejected_negative_prompt="")
    style = load_style(STYLE)
    for pairs in (read_pairs(row), read_pairs(exported)):
        [made] = dpo_rows(pairs, style)
        assert made["chosen"][0]["content"].endswith("<answer>two red stars\nNegative prompt: moons</answer>")
        assert "Negative" not in made["rejected"][0]["content"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    rows = [pair(number) for number in ("two", "three", "four", "five")]
    rows += [pair("six", rejected_prompt="six stars", rejected_thought=""), pair("seven", margin=0.01)]
    rows += [pair("eight", rejected_prompt="eight red stars")]
    records = tmp_path / "pairs.jsonl"
    records.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tokenizer = train_tokenizer([str(text) for row in rows for text in row.values()], size=300)
    save(build_model(tokenizer, width=32, layers=1), tokenizer, tmp_path / "model")
    settings = {
        "model_name_or_path": str(tmp_path / "model"),
        "train_files": [str(records)],
        "style": STYLE,
        "least_margin": 0.1,
        "output_dir": str(tmp_path / "out"),
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "learning_rate": "1e-2",
        "save_steps": 1,
        "logging_steps": 1,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "disable_tqdm": True,
    }
    path = tmp_path / "dpo.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def test_two_steps_learn_from_pairs_of_rewrites_alone(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dpo.main(["--config", str(config)]) == 0
    printed = capsys.readouterr().err
    assert "4 pairs of rewrites to learn from, of 6" in printed
    assert "pairs.jsonl:7: both prompts are the same" in printed
    out = config.parent / "out"
    assert (out / "model.safetensors").read_bytes() != (config.parent / "model" / "model.safetensors").read_bytes()
    state = json.loads((out / "checkpoint-2" / "trainer_state.json").read_text())
    assert any("rewards/margins" in line for line in state["log_history"])
    assert dpo.main(["--config", str(config), "--max_steps", "3", "--typed", "true"]) == 0
    printed = capsys.readouterr().err
    assert "resuming from" in printed
    assert "5 pairs of rewrites" in printed


def test_both_sides_are_replies_in_the_rewriters_own_words() -> None:
    style = load_style(STYLE)
    [row] = dpo_rows(read_pairs(pair("two")), style)
    assert row["prompt"][-1]["content"] == style.rewrite_messages("two stars")[-1].content
    assert row["chosen"][0]["content"] == "<think>two of them</think><answer>two red stars</answer>"
    assert row["rejected"][0]["content"] == "<think>moons</think><answer>two blue moons</answer>"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"margin": 2}, "'margin'"),
        ({"chosen_prompt": None}, "chosen_prompt"),
        ({"chosen_prompt": "</answer>"}, "prompt"),
    ],
)
def test_rows_that_are_no_pairs(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_pairs(pair("two", **changes))


def test_nothing_to_learn_from(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dpo.main(["--config", str(config), "--least_margin", "0.9"]) == 2
    assert "no pair is left" in capsys.readouterr().err
