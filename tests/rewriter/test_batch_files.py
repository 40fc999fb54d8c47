"""Reading and writing of batches: formats, columns, broken rows, atomic output."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from datasets import Dataset, DatasetDict

from redraft.errors import InputError
from rewriter.batch.engines import FakeEngine
from rewriter.batch.run import rejects_path
from rewriter.batch.tables import MAX_LINE, InputRow, Reject, check_output, open_source
from tests.rewriter.batches import read_jsonl, run, write_jsonl

PROMPTS = ["three red stars", 'a sign that says "OPEN, NOW"', "ein roter Hund", "一只红色的狐狸坐在墙上"]


def rows(path: Path, field: str | None = None) -> tuple[list[InputRow], list[Reject]]:
    found = list(open_source(str(path), field).rows())
    return [row for row in found if isinstance(row, InputRow)], [row for row in found if isinstance(row, Reject)]


def make(kind: str, path: Path, prompts: list[str]) -> Path:
    """An input of that kind, with another column beside the prompts where the format has columns."""
    table = [{"id": at, "caption": prompt} for at, prompt in enumerate(prompts)]
    if kind == "txt":
        path.write_text("\n".join(prompts) + "\n", encoding="utf-8")
    elif kind == "jsonl":
        write_jsonl(path, table)
    elif kind in ("csv", "tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["id", "caption"], delimiter="," if kind == "csv" else "\t")
            writer.writeheader()
            writer.writerows(table)
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), path)
    return path


def read_back(path: Path) -> list[dict[str, Any]]:
    match path.suffix:
        case ".jsonl":
            return read_jsonl(path)
        case ".parquet":
            return list(pyarrow.parquet.read_table(path).to_pylist())
        case _:
            with path.open(newline="", encoding="utf-8") as file:
                return list(csv.DictReader(file, delimiter="," if path.suffix == ".csv" else "\t"))


@pytest.mark.parametrize("out", ["jsonl", "csv", "tsv", "parquet"])
@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv", "tsv", "parquet"])
def test_every_format_to_every_other(tmp_path: Path, kind: str, out: str) -> None:
    source, target = make(kind, tmp_path / f"in.{kind}", PROMPTS), tmp_path / f"out.{out}"
    if kind == "jsonl" and out in ("csv", "tsv"):
        with pytest.raises(InputError, match="columns of their own"):
            check_output(target, open_source(str(source)))
        return
    run(source, target, FakeEngine())
    found = read_back(target)
    assert [row["request"] for row in found] == PROMPTS
    assert all(row["prompt"].startswith(row["request"] + ", ") for row in found)
    assert [row["status"] for row in found] == ["rewritten"] * 4
    if kind != "txt":
        assert [int(row["id"]) for row in found] == [0, 1, 2, 3]
        assert list(found[0])[:2] == ["id", "caption"]
    empty: Any = "" if out in ("csv", "tsv") else []
    assert found[0]["findings"] == empty
    assert not rejects_path(target).exists()


def test_bare_text_out(tmp_path: Path) -> None:
    run(make("txt", tmp_path / "in.txt", ["a fox\ton  a wall"]), tmp_path / "out.txt", FakeEngine())
    [line] = (tmp_path / "out.txt").read_text().splitlines()
    assert line.startswith("a fox on a wall, ")


def test_broken_lines_of_json(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    lines = [
        b'\xef\xbb\xbf{"prompt": "a fox", "keep": [1, null]}',
        b'{"prompt": "cut',
        b'{"prompt": "caf\xe9"}',
        b'{"other": 1}',
        b'{"prompt": null}',
        b'{"prompt": 7}',
        b"",
        b'"a bare string"',
        b"[1, 2]",
        b'{"prompt": "  "}',
        b'{"prompt": "a\\u0000b"}',
        b'{"prompt": "half \\ud83d"}',
        b'{"prompt": "' + b"x" * 1_000_000 + b'"}',
        b"[" * 100_000,
        b'{"prompt": "the last"}',
    ]
    path.write_bytes(b"\r\n".join(lines))
    good, bad = rows(path)
    assert [row.request for row in good] == ["a fox", "a bare string", "the last"]
    assert good[0].columns == {"prompt": "a fox", "keep": [1, None]}
    whys = {reject.where: reject.why for reject in bad}
    for line, why in {
        2: "not JSON",
        3: "not UTF-8 text (byte 16",
        4: "no column 'prompt'",
        5: "'prompt' is empty",
        6: "holds no text but int",
        9: "no JSON object but list",
        10: "request is empty",
        11: "control character (U+0000",
        12: "half a surrogate",
        13: "1,000,000 characters",
        14: "not JSON",
    }.items():
        assert why in whys.pop(f"line {line}")
    assert whys == {}
    assert all(len(reject.text) <= 200 for reject in bad)


def test_broken_rows_are_named_in_a_file_and_the_rest_go_on(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b'{"prompt": "a fox"}\n{"prompt": \xff}\n{"prompt": "a\x1bb"}\n{"prompt": "a hen"}\n')
    counts = run(source, out, FakeEngine())
    assert (counts.rows, counts.rejects) == (2, 2)
    assert [row["request"] for row in read_jsonl(out)] == ["a fox", "a hen"]
    first, second = read_jsonl(rejects_path(out))
    assert (first["row"], first["where"]) == (2, "line 2")
    assert "not UTF-8" in first["why"]
    assert "not JSON" in second["why"]
    write_jsonl(source, [{"prompt": "a fox"}])
    run(source, out, FakeEngine())
    assert not rejects_path(out).exists()


def test_broken_rows_of_csv(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(
        b"\xef\xbb\xbfid,prompt\n"
        b'1,"a fox,\non two lines"\n'
        b"2\n"
        b"3,caf\xe9\n"
        b'4,"a "stray" mark"\n'
        b'5,"never closed\n'
        b"\n"
        b"6,a hen\n"
        b'7,"he said ""hi"""\n'
    )
    good, bad = rows(path)
    assert [(row.columns["id"], row.request) for row in good] == [
        ("1", "a fox,\non two lines"),
        ("6", "a hen"),
        ("7", 'he said "hi"'),
    ]
    assert [reject.where for reject in bad] == ["row 2, line 4", "row 3, line 5", "row 4, line 6", "row 5, line 7"]
    assert "1 cells, the header has 2" in bad[0].why
    assert "not UTF-8" in bad[1].why
    assert "cannot be read" in bad[2].why


def test_tsv_takes_stray_quotation_marks_as_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "in.tsv"
    path.write_text('Prompt\tn\n"OPEN" on a door\t1\n"quoted"\t2\n5" nails\t3\n')
    good, bad = rows(path)
    assert [(row.request, row.columns["n"]) for row in good] == [
        ('"OPEN" on a door', "1"),
        ("quoted", "2"),
        ('5" nails', "3"),
    ]
    assert bad == []


def test_a_line_without_end_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_text("a fox\n" + "x" * int(2.5 * MAX_LINE) + "\na hen\n")
    good, bad = rows(path)
    assert [row.request for row in good] == ["a fox", "a hen"]
    assert bad[0].where == "line 2"


@pytest.mark.parametrize(
    ("name", "text", "field", "said"),
    [
        ("in.csv", "id,words\n1,x\n", None, "name one with --field"),
        ("in.csv", "id,words\n1,x\n", "prompt", "has no column 'prompt'; it has 'id', 'words'"),
        ("in.csv", "a,a\n1,2\n", None, "'a' twice"),
        ("in.csv", "", None, "is empty"),
        ("in.jsonl", '{"id": 1, "words": "x"}\n', None, "name one with --field"),
        ("in.doc", "x", None, "what is it"),
        ("in.parquet", "no parquet", None, "as Parquet"),
    ],
)
def test_inputs_that_cannot_be_used(tmp_path: Path, name: str, text: str, field: str | None, said: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        list(open_source(str(path), field).rows())


def test_inputs_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file .*none\.jsonl"):
        open_source(str(tmp_path / "none.jsonl"))


def test_a_field_of_another_name(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", [{"prompt": "not this", "words": "a fox"}])
    assert rows(path, "words")[0][0].request == "a fox"


def test_datasets_on_disk(tmp_path: Path) -> None:
    data = Dataset.from_list([{"text": "a fox", "n": 1}, {"text": "a hen", "n": 2}])
    data.save_to_disk(tmp_path / "one")
    DatasetDict({"train": data, "test": data.select([1])}).save_to_disk(tmp_path / "many")
    assert [row.request for row in open_source(str(tmp_path / "one")).rows() if isinstance(row, InputRow)] == [
        "a fox",
        "a hen",
    ]
    source = open_source(str(tmp_path / "many"), split="test")
    assert [row.columns for row in source.rows() if isinstance(row, InputRow)] == [{"text": "a hen", "n": 2}]
    assert source.total == 1
    with pytest.raises(InputError, match="--split"):
        open_source(str(tmp_path / "many"), split="nonesuch")


def test_columns_of_the_users_are_never_overwritten(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"prompt": " a fox", "model": "mine", "input_model": "too"}])
    run(source, tmp_path / "out.jsonl", FakeEngine())
    [row] = read_jsonl(tmp_path / "out.jsonl")
    assert (row["model"], row["input_input_model"], row["input_model"]) == ("fake", "mine", "too")
    assert (row["input_prompt"], row["request"]) == (" a fox", "a fox")
    assert row["prompt"].startswith("a fox, ")


def test_parquet_keeps_the_schema(tmp_path: Path) -> None:
    schema = pyarrow.schema(
        [("prompt", pyarrow.string()), ("when", pyarrow.timestamp("us")), ("raw", pyarrow.binary())]
    )
    table = pyarrow.Table.from_pylist([{"prompt": "a fox", "when": 5, "raw": b"\xff"}], schema=schema)
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    run(tmp_path / "in.parquet", tmp_path / "out.parquet", FakeEngine())
    found = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert found.schema.field("when").type == pyarrow.timestamp("us")
    assert found.to_pylist()[0]["raw"] == b"\xff"
    run(tmp_path / "in.parquet", tmp_path / "out.jsonl", FakeEngine())
    assert json.loads((tmp_path / "out.jsonl").read_text())["raw"] == "/w=="


def test_rows_that_fit_no_schema_say_so(tmp_path: Path) -> None:
    mixed = write_jsonl(tmp_path / "in.jsonl", [{"prompt": "a fox", "n": 1}, {"prompt": "a hen", "n": "x"}])
    with pytest.raises(InputError, match=r"write \.jsonl"):
        run(mixed, tmp_path / "out.parquet", FakeEngine())
    assert not (tmp_path / "out.parquet").exists()
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize("name", ["out.doc", "out", "nowhere/out.jsonl", "folder.jsonl"])
def test_outputs_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    source = open_source(str(make("txt", tmp_path / "in.txt", PROMPTS)))
    with pytest.raises(InputError):
        check_output(tmp_path / name, source)


@pytest.mark.parametrize(
    "data",
    [
        b"id;prompt\n1;a red fox\n2;a hen, by night\n",
        b"sep=;\r\nid;prompt\r\n1;a red fox\r\n2;a hen, by night\r\n",
        b"id\tprompt\n1\ta red fox\n2\ta hen, by night\n",
        b'\n\nid,prompt\n1,a red fox\n2,"a hen, by night"\n',
        b'id,prompt\r1,a red fox\r2,"a hen, by night"\r',
    ],
    ids=["semicolons", "sep", "tabs", "blank lines first", "carriage returns"],
)
def test_csv_as_spreadsheets_write_it(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "in.csv").write_bytes(data)
    good, bad = rows(tmp_path / "in.csv")
    assert bad == []
    assert [(row.columns["id"], row.request) for row in good] == [("1", "a red fox"), ("2", "a hen, by night")]


def test_the_index_of_pandas_is_a_column_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(",prompt\n0,a fox\n1,a hen\n")
    run(tmp_path / "in.csv", tmp_path / "out.csv", FakeEngine())
    found = read_back(tmp_path / "out.csv")
    assert [(row[""], row["request"], row["input_prompt"]) for row in found] == [
        ("0", "a fox", "a fox"),
        ("1", "a hen", "a hen"),
    ]


def test_lines_of_an_old_mac_and_separators_within_a_line(tmp_path: Path) -> None:
    (tmp_path / "mac.txt").write_bytes(b"a fox\ra hen\r")
    assert [row.request for row in rows(tmp_path / "mac.txt")[0]] == ["a fox", "a hen"]
    (tmp_path / "in.txt").write_text("two birds\u2028on a\x85wire\na fox\n", encoding="utf-8")
    assert len(rows(tmp_path / "in.txt")[0]) == 2


def test_what_json_has_no_word_for_becomes_null(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "a fox", "x": NaN, "y": [Infinity, 1.5]}\n')
    table = pyarrow.Table.from_pylist([{"prompt": "a fox", "x": float("nan"), "y": [float("inf"), 1.5]}])
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    for name in ("in.jsonl", "in.parquet"):
        run(tmp_path / name, tmp_path / "out.jsonl", FakeEngine())
        text = (tmp_path / "out.jsonl").read_text()
        assert "NaN" not in text
        assert "Infinity" not in text
        assert (json.loads(text)["x"], json.loads(text)["y"]) == (None, [None, 1.5])


def test_a_column_request_comes_before_a_column_prompt(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"prompt": "an old rewrite", "request": "a fox", "status": "kept"}])
    run(source, tmp_path / "out.jsonl", FakeEngine())
    [row] = read_jsonl(tmp_path / "out.jsonl")
    assert (row["request"], row["input_request"], row["input_prompt"]) == ("a fox", "a fox", "an old rewrite")
    assert (row["status"], row["input_status"]) == ("rewritten", "kept")
