"""The small rewriter's lessons: what they teach, what they must not, and what is held out."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from evaluator.keypoints import all_keypoints
from rewriter.small.lessons import Lesson, count_words, faults, make_lesson, uncovered
from rewriter.small.words import is_held_out, load_words, plural, with_article
from rewriter.small.write_data import lessons
from rewriter.styles import load_style
from rewriter.train.data import load_triplets, make_chat, sft_rows

STYLE = "package:rewriter/small/style"


@pytest.fixture(scope="module")
def taught() -> list[Lesson]:
    return list(lessons(300, "train", 5))


def test_every_lesson_keeps_all_the_words_of_its_request(taught: list[Lesson]) -> None:
    assert [lesson.request for lesson in taught if uncovered(lesson.request, lesson.prompt)] == []


def test_rewrites_in_prose_have_40_to_120_words(taught: list[Lesson]) -> None:
    assert all(40 <= count_words(lesson.prompt) <= 120 for lesson in taught if lesson.form == "prose")


def test_rewrites_in_tags_have_a_negative_prompt_of_their_own_line(taught: list[Lesson]) -> None:
    tags = [lesson for lesson in taught if lesson.form == "tags"]
    assert 20 < len(tags) < 80
    assert all("\nNegative prompt: " in lesson.prompt for lesson in tags)


def test_the_lessons_have_all_24_key_points() -> None:
    known = {point for lesson in lessons(1200, "train", 6) for point in lesson.points}
    missing = {point.id for point in all_keypoints()} - known
    assert missing <= {"other", "overall", "own_words"}


def test_a_lesson_that_loses_a_word_or_breaks_the_guard_is_not_taught() -> None:
    prompt = "A red fox sits in fresh snow. " * 6
    lesson = Lesson("a red fox without a tail", "Keep: a red fox.", prompt, "prose", "negated", ())
    assert "coverage" in faults(lesson)


def test_held_out_nouns_and_relations_are_in_no_lesson_of_the_training_split(taught: list[Lesson]) -> None:
    held_out = {noun.word for nouns in load_words("test").by_kind.values() for noun in nouns}
    trained = {noun.word for nouns in load_words("train").by_kind.values() for noun in nouns}
    assert len(held_out) > 100
    assert not held_out & trained
    assert all(is_held_out(word) for word in held_out)
    assert not any("peering at" in lesson.request for lesson in taught)


def test_the_word_lists_have_thousands_of_nouns() -> None:
    words = [noun.word for split in ("train", "test") for nouns in load_words(split).by_kind.values() for noun in nouns]
    assert len(set(words)) > 1500


@pytest.mark.parametrize(
    ("one", "many"),
    [("fox", "foxes"), ("bowl of soup", "bowls of soup"), ("field mouse", "field mice"), ("scissors", "scissors"),
     ("cherry", "cherries"), ("goldfish", "goldfish"), ("firewoman", "firewomen")],
)  # fmt: skip
def test_plurals(one: str, many: str) -> None:
    assert plural(one) == many


@pytest.mark.parametrize(
    ("phrase", "read"),
    [("owl", "an owl"), ("unicorn", "a unicorn"), ("one-eyed cat", "a one-eyed cat"), ("hourglass", "an hourglass")],
)
def test_articles(phrase: str, read: str) -> None:
    assert with_article(phrase) == read


def test_the_same_seed_writes_the_same_lessons() -> None:
    assert list(lessons(20, "train", 3)) == list(lessons(20, "train", 3))
    assert make_lesson(random.Random(1), "train") != make_lesson(random.Random(2), "train")


def test_each_form_is_asked_for_in_the_styles_own_words(tmp_path: Path, taught: list[Lesson]) -> None:
    path = tmp_path / "sft.jsonl"
    path.write_text("".join(json.dumps(lesson.record) + "\n" for lesson in taught), encoding="utf-8")
    style = load_style(STYLE)
    triplets = load_triplets([path]).records
    rows = sft_rows(triplets, style)
    for triplet, row in zip(triplets, rows, strict=True):
        assert ("tags" in row["prompt"][0]["content"]) == (triplet.extra["form"] == "tags")
    assert make_chat(style, "a fox") == [
        {"role": "system", "content": "You write prompts for image models, in sentences."},
        {"role": "user", "content": "a fox"},
    ]


def test_the_adapter_that_ships_is_the_weighted_mean_of_its_sources(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    from rewriter.small.write_adapter import BASE, write_adapter

    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 1,
        "lora_alpha": 2,
        "target_modules": ["v", "q"],
        "bias": "none",
    }
    config |= {
        "fan_in_fan_out": False,
        "lora_dropout": 0.0,
        "base_model_name_or_path": "/home/me/model",
        "revision": "x",
    }
    for name, value in (("a", 1.0), ("b", 2.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
        save_file({"w": torch.full((2,), value)}, tmp_path / name / "adapter_model.safetensors")
    write_adapter({tmp_path / "a": 3.0, tmp_path / "b": 1.0}, tmp_path / "out")
    made = load_file(tmp_path / "out" / "adapter_model.safetensors")["w"]
    assert (made.dtype, made.tolist()) == (torch.bfloat16, [1.25, 1.25])
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (written["base_model_name_or_path"], written["target_modules"]) == (BASE, ["q", "v"])
    assert "revision" not in written
