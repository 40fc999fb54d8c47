"""Reading judgements, and cutting them into parts that share nothing."""

from __future__ import annotations

import io
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evaluator.train.records import Judgement, PictureFile, RecordParts, load_judgements, question_of, split
from evaluator.types import Check
from redraft.errors import InputError

GOOD = {
    "image": "red.png",
    "request": "a red star",
    "key_point": "counting",
    "question": "Is there one star?",
    "verdict": "accept",
}


def png(color: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "red.png").write_bytes(png("red"))
    (tmp_path / "same.png").write_bytes(png("red"))
    (tmp_path / "cut.png").write_bytes(png("blue")[:-30])
    return tmp_path


def write(folder: Path, *rows: object) -> Path:
    path = folder / "judgements.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_a_record_becomes_a_judgement(folder: Path) -> None:
    described = GOOD | {"question": None, "description": "one star", "verdict": "reject", "reason": " Two stars. "}
    [first, second] = load_judgements([write(folder, GOOD, described)], folder / "spool").records
    assert (first.request, first.check, first.accept) == ("a red star", Check("counting", "Is there one star?"), True)
    assert first.picture.open().getpixel((0, 0)) == (255, 0, 0)
    assert (second.check.question, second.accept, second.reason) == (question_of("one star"), False, "Two stars.")
    assert not (folder / "spool").exists()


@pytest.mark.parametrize(
    ("value", "accept"), [(True, True), (0, False), ("Yes", True), ("false", False), (" No ", False)]
)
def test_verdicts_in_other_words(folder: Path, value: object, accept: bool) -> None:
    [one] = load_judgements([write(folder, GOOD | {"verdict": value})], folder).records
    assert one.accept is accept


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"verdict": "maybe"}, "field 'verdict' is 'maybe'; it must be accept or reject"),
        ({"verdict": None}, "field 'verdict' is None"),
        ({"request": None}, "field 'request' is missing"),
        ({"request": 5}, "field 'request' is not text but int"),
        ({"key_point": " "}, "field 'key_point' is empty"),
        ({"question": None}, "fields 'question' and 'description' are both missing"),
        ({"question": "x" * 401}, "a question has 1 to 400 characters, not 401"),
        ({"reason": "x" * 1001}, "field 'reason' has 1,001 characters"),
        ({"image": None}, "field 'image' is missing or holds no picture"),
        ({"image": "gone.png"}, "cannot read the image"),
        ({"image": "cut.png"}, "cut.png is damaged or cut short"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line(folder: Path, change: dict[str, Any], reason: str) -> None:
    path = write(folder, GOOD, "", GOOD | change, GOOD)
    loaded = load_judgements([path], folder, max_bad=0.5)
    assert len(loaded.records) == 2
    [bad] = loaded.bad
    assert (bad.file, bad.line) == (str(path), 3)
    assert reason in bad.reason
    with pytest.raises(InputError, match=r"1 of 3 records cannot be used(?s:.*)judgements\.jsonl:3: "):
        load_judgements([path], folder, max_bad=0.3)


def test_bad_records_are_told_in_the_order_of_the_file(folder: Path) -> None:
    path = write(folder, GOOD | {"image": "cut.png"}, "{", GOOD, GOOD | {"image": "gone.png"})
    assert [bad.line for bad in load_judgements([path], folder, max_bad=1).bad] == [1, 2, 4]


def test_pictures_inside_tables_are_kept_once(folder: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [GOOD | {"image": {"bytes": png("red"), "path": None}, "request": request} for request in ("one", "two")]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "a.parquet")
    by_path, in_table = write(folder, GOOD), folder / "a.parquet"
    found = load_judgements([by_path, in_table], folder / "spool").records
    assert len({one.picture.digest for one in found}) == 1
    assert len(list((folder / "spool").iterdir())) == 1
    assert found[2].picture.open().getpixel((0, 0)) == (255, 0, 0)


def test_data_sets_by_their_id(folder: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    data = folder / "data"
    data.mkdir()
    rows = [GOOD | {"image": png("red")}, GOOD | {"image": b"no picture"}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), data / "test-0.parquet")
    place = f"datasets:{data}#test"
    loaded = load_judgements([place], folder / "spool", max_bad=0.5)
    assert [one.check.question for one in loaded.records] == ["Is there one star?"]
    assert [(bad.file, bad.line) for bad in loaded.bad] == [(place, 2)]
    with pytest.raises(InputError, match=r"datasets:.*#none cannot be loaded"):
        load_judgements([f"datasets:{data}#none"], folder / "spool")


def records(count: int, *, prompts: int) -> list[Judgement]:
    """Each prompt has its own pictures, two a picture."""
    return [
        Judgement(
            PictureFile(Path(f"{i}.png"), f"{i % prompts}-{i // (2 * prompts)}"),
            f"prompt {i % prompts}",
            Check("counting", f"Question {i}?"),
            i % 3 == 0,
        )
        for i in range(count)
    ]


def test_parts_share_neither_prompt_nor_picture_and_do_not_hang_on_the_order() -> None:
    mine = records(2000, prompts=400)
    parts = split(mine, 0.1, 0.2, seed=0)
    assert len(parts.learn) + len(parts.calibrate) + len(parts.report) == 2000
    assert parts.shares() is None
    assert len(parts.calibrate) == pytest.approx(200, abs=80)
    assert len(parts.report) == pytest.approx(400, abs=100)
    random.Random(1).shuffle(mine)
    assert set(split(mine, 0.1, 0.2, seed=0).report) == set(parts.report)
    assert set(split(mine, 0.1, 0.2, seed=1).report) != set(parts.report)


def test_a_picture_under_two_prompts_ties_them_together() -> None:
    mine = records(600, prompts=300)
    # Prompt i and i + 150 share a picture (a wrong pair, made on purpose).
    mine += [replace(mine[i], request=f"prompt {i + 150}", accept=False) for i in range(150)]
    assert split(mine, 0.2, 0.2, seed=3).shares() is None


def test_no_prompt_ties_nothing_together() -> None:
    mine = [replace(one, request="") for one in records(400, prompts=200)]
    assert split(mine, 0.2, 0.2, seed=0).shares() is None


def test_parts_that_come_out_empty_are_refused() -> None:
    with pytest.raises(InputError, match=r"10 records with 1 unrelated requests and pictures none were left"):
        split(records(10, prompts=1), 0.1, 0.1, seed=0)
    with pytest.raises(InputError, match="must leave some to learn"):
        split(records(10, prompts=5), 0.5, 0.5, seed=0)


def test_what_parts_of_ones_own_have_in_common_is_said() -> None:
    one, other = records(2, prompts=2)
    assert RecordParts((one,), (other,), (one,)).shares() == (
        "2 pictures and requests are in both the training and the report part, such as the picture 0.png"
    )
    same_prompt = replace(other, request=one.request)
    assert "'prompt 0'" in str(RecordParts((one,), (same_prompt,), ()).shares())
