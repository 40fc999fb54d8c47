"""Tasks from pictures without labels: what was done to a picture is the truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluator.train.records import load_judgements
from evaluator.train.tasks import load_tasks
from evaluator.train.unlabelled import (
    MAKERS,
    QUARTERS,
    main,
    make_jigsaw,
    make_position,
    make_rotation,
    swap_sides,
    write_tasks,
    write_twins,
)
from redraft.errors import InputError

COLORS = ("red", "green", "blue", "yellow")


def quartered() -> Image.Image:
    """A colour in each quarter."""
    picture = Image.new("RGB", (80, 80))
    for at, color in enumerate(COLORS):
        picture.paste(color, ((at % 2) * 40, (at // 2) * 40, (at % 2) * 40 + 40, (at // 2) * 40 + 40))
    return picture


def color_at(picture: Image.Image, x: float, y: float) -> tuple[int, ...]:
    value = picture.getpixel((int(x * picture.width), int(y * picture.height)))
    assert isinstance(value, tuple)
    return value


def corners(picture: Image.Image) -> list[tuple[int, ...]]:
    return [color_at(picture, x, y) for y in (0.2, 0.8) for x in (0.2, 0.8)]


def test_a_turned_picture_turns_back_by_its_answer() -> None:
    answers = set()
    for seed in range(20):
        made = make_rotation(quartered(), quartered(), np.random.default_rng(seed))
        first, turned = made.pictures
        assert corners(turned.rotate(int(made.answer))) == corners(first), "rotate turns against the clock"
        answers.add(made.answer)
    assert answers == {"0", "90", "180", "270"}


def test_a_crop_lies_in_the_quarter_of_its_answer() -> None:
    for seed in range(20):
        made = make_position(quartered(), quartered(), np.random.default_rng(seed))
        _, crop = made.pictures
        at = QUARTERS.index(made.answer)
        assert crop.getcolors() == [(crop.width * crop.height, Image.new("RGB", (1, 1), COLORS[at]).getpixel((0, 0)))]


def test_quarters_lie_as_the_answer_says() -> None:
    for seed in range(20):
        made = make_jigsaw(quartered(), quartered(), np.random.default_rng(seed))
        (shuffled,) = made.pictures
        before = corners(quartered())
        assert corners(shuffled) == [before[int(n) - 1] for n in made.answer.split(", ")]
        assert made.answer in made.options
        assert len(made.options) == 4
        [(_, truth)] = made.questions
        assert truth == (corners(shuffled) == before)


@pytest.mark.parametrize("task", MAKERS)
def test_tasks_and_records_are_read_by_the_trainers(tmp_path: Path, task: str) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(6):
        pixels = np.random.default_rng(seed).integers(0, 255, (96, 128, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    assert main([str(folder), str(tmp_path / "out"), "--task", task, "--per-picture", "4", "--size", "64"]) == 0
    tasks = load_tasks([tmp_path / "out" / "tasks.jsonl"], tmp_path / "spool").records
    assert len(tasks) == 24
    assert len({made.truth for made in tasks}) > 1
    if task == "jigsaw":
        assert len(load_judgements([tmp_path / "out" / "records.jsonl"], tmp_path / "spool").records) == 24
    first = (tmp_path / "out" / "tasks.jsonl").read_bytes()
    write_tasks(folder, tmp_path / "again", task=task, per_picture=4, size=64)
    assert (tmp_path / "again" / "tasks.jsonl").read_bytes() == first, "a seed makes the same tasks"
    assert all(json.loads(line)["task"] == "choice" for line in first.decode().splitlines())


def test_a_folder_without_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert "holds no pictures" in capsys.readouterr().err
    Image.new("RGB", (64, 64)).save(tmp_path / "one.png")
    with pytest.raises(InputError, match="two or more"):
        write_tasks(tmp_path, tmp_path / "out", task="position")


def write_record(folder: Path, question: str, key_point: str = "entity_layout", **more: str) -> Path:
    folder.mkdir(exist_ok=True)
    quartered().save(folder / "a.png")
    row = {"image": "a.png", "request": "A star, LEFT of a moon", "key_point": key_point, "question": question}
    with (folder / "data.jsonl").open("a") as file:
        file.write(json.dumps(row | {"verdict": "accept"} | more) + "\n")
    return folder / "data.jsonl"


def test_a_mirrored_picture_keeps_the_verdict_if_the_sides_are_exchanged(tmp_path: Path) -> None:
    records = write_record(tmp_path / "in", "Is the star left of the moon?")
    write_record(tmp_path / "in", "Does the sheet bear a word?", "text_rendering")
    write_record(tmp_path / "in", 'Is it written "left"?')
    assert write_twins(records, tmp_path / "out", task="mirror") == (3, 1)
    loaded = load_judgements([tmp_path / "out" / "records.jsonl"], tmp_path / "spool").records
    assert [record.check.question for record in loaded][:2] == [
        "Is the star left of the moon?",
        "Is the star right of the moon?",
    ]
    assert loaded[1].request == "A star, RIGHT of a moon"
    first, mirrored = corners(loaded[0].picture.open()), corners(loaded[1].picture.open())
    assert [mirrored[at] for at in (1, 0, 3, 2)] == first
    assert swap_sides("Left and right, bright") == "Right and left, bright"


def test_a_worse_picture_keeps_the_verdict_unless_the_question_is_about_light(tmp_path: Path) -> None:
    records = write_record(tmp_path / "in", "Is the star left of the moon?")
    write_record(tmp_path / "in", "Is the picture bright?", "artistic_style")
    assert write_twins(records, tmp_path / "out", task="worsen", per_picture=2) == (2, 2)
    loaded = load_judgements([tmp_path / "out" / "records.jsonl"], tmp_path / "spool").records
    assert [record.check.question[:11] for record in loaded] == ["Is the star"] * 3 + ["Is the pict"]
    assert len({record.picture.digest for record in loaded}) == 3
    again = write_twins(records, tmp_path / "again", task="worsen", per_picture=2)
    twins = [record.picture.digest for record in load_judgements([tmp_path / "again"], tmp_path / "spool").records]
    assert again == (2, 2)
    assert twins == [record.picture.digest for record in loaded]


def test_records_of_writing_alone_cannot_be_mirrored(tmp_path: Path) -> None:
    records = write_record(tmp_path / "in", "Does the sheet bear a word?", "text_rendering")
    assert main([str(records), str(tmp_path / "out"), "--task", "mirror"]) == 2


def test_a_swapped_picture_gets_the_text_most_like_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["a red star", "a blue moon and three hearts", "Two blue moons, and a heart: three", "a red star!"]
    for number, text in enumerate(texts):
        Image.new("RGB", (64, 64), (40 * number, 0, 0)).save(tmp_path / f"{number}.png")
        row = {"image": f"{number}.png", "request": text, "key_point": "counting", "question": "Is there one?"}
        with (tmp_path / "data.jsonl").open("a") as file:
            file.write(json.dumps(row | {"verdict": "accept"}) + "\n")
        if not number:
            assert main([str(tmp_path / "data.jsonl"), str(tmp_path / "out"), "--task", "swap"]) == 2
            assert "all pictures have the same text" in capsys.readouterr().err
    assert main([str(tmp_path / "data.jsonl"), str(tmp_path / "out"), "--task", "swap"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()]
    assert {Path(row["image"]).stem: texts.index(row["request"]) for row in rows} == {"0": 3, "1": 2, "2": 1, "3": 0}
    assert all(Path(row["image"]).is_file() for row in rows)
