"""Training records: what is read, what is refused and how it is named, and that TRL sees what the rewriter sees."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from redraft.errors import InputError
from redraft.profiles import ModelConfig, RewriterConfig
from redraft.testing import FakeChat
from rewriter import cot, reply, styles
from rewriter.cot import CoTRewriter
from rewriter.styles import load_style
from rewriter.train import data, image_reward
from rewriter.train.data import Missed, RLRequest, Triplet, load_requests, load_triplets
from rewriter.types import Feedback

GOOD = {"request": "two stars", "thought": "two of them", "prompt": "two red stars"}


def write(path: Path, lines: Sequence[object]) -> Path:
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines), encoding="utf-8")
    return path


def test_jsonl_triplets_keep_order_and_unknown_fields(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", [{**GOOD, "theme": "art", "n": [1]}, "", {"request": "x", "prompt": "an x"}])
    second = write(tmp_path / "b.jsonl", [{**GOOD, "thought": None}])
    loaded = load_triplets([first, second])
    assert loaded.records == (
        Triplet("two stars", "two of them", "two red stars", {"theme": "art", "n": [1]}),
        Triplet("x", "", "an x"),
        Triplet("two stars", "", "two red stars"),
    )
    assert loaded.bad == ()
    assert load_triplets([tmp_path]) == loaded


def test_parquet_reads_as_jsonl_does(tmp_path: Path) -> None:
    rows = [GOOD | {"theme": "art"}, {"request": "x", "thought": None, "prompt": "an x", "theme": None}]
    table = pyarrow.Table.from_pylist(rows)
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert load_triplets([tmp_path / "a.parquet"]).records == load_triplets([write(tmp_path / "a.jsonl", rows)]).records


def test_requests(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"request": " two stars\r\n", "checks": ["a"]}])
    assert load_requests([path]).records == (RLRequest("two stars", {"checks": ["a"]}),)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "list, not an object"),
        ({"prompt": "x"}, "'request' is missing; there are prompt"),
        ({"request": "x"}, "'prompt' is missing"),
        ({**GOOD, "request": 3}, "'request' is not text but int"),
        ({**GOOD, "thought": ["a"]}, "'thought' is not text but list"),
        ({**GOOD, "request": "  "}, "the request is empty"),
        ({**GOOD, "request": "a\u0000b"}, "control character"),
        ({**GOOD, "request": "x" * 5000}, "shorten it"),
        ({**GOOD, "prompt": " "}, "'prompt' is empty"),
        ({**GOOD, "prompt": "..."}, "could not read"),
        ({**GOOD, "prompt": '"two red stars"'}, "another prompt from a reply ('two red stars')"),
        ({**GOOD, "prompt": "Here is the prompt: two stars"}, "another prompt"),
        ({**GOOD, "prompt": "two </answer> stars"}, "prompt"),
        ({**GOOD, "thought": "a</think>b"}, "thought"),
        ({**GOOD, "before": "a star"}, "'failed' must be a list"),
        ({**GOOD, "before": "a star", "failed": []}, "'failed' must be a list"),
        ({**GOOD, "failed": ["red stars"]}, "'before' is missing"),
        ({**GOOD, "before": " ", "failed": ["red stars"]}, "'before' is empty"),
    ],
)
def test_malformed_records_are_named_by_file_and_line(tmp_path: Path, line: object, reason: str) -> None:
    path = write(tmp_path / "a.jsonl", [GOOD, "", line, GOOD])
    loaded = load_triplets([path], max_bad=0.5)
    assert len(loaded.records) == 2
    [bad] = loaded.bad
    assert (bad.file, bad.line) == (str(path), 3)
    assert reason in bad.reason
    assert str(bad).startswith(f"{path}:3: ")
    assert str(loaded) == "2 records, 1 malformed"


def test_a_line_that_is_no_utf8_hides_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = json.dumps(GOOD).encode()
    path.write_bytes(b"\xef\xbb\xbf" + good + b"\r\n{\xff}\r\n" + good)
    loaded = load_triplets([path], max_bad=0.5)
    assert len(loaded.records) == 2
    assert (loaded.bad[0].line, loaded.bad[0].reason) == (2, "is not UTF-8 text: invalid start byte at byte 2")


def test_bad_rows_of_parquet_are_named_across_its_row_groups(tmp_path: Path) -> None:
    rows = [GOOD] * 5 + [{**GOOD, "request": None}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=2)
    loaded = load_triplets([tmp_path], max_bad=0.5)
    assert [(bad.line, bad.reason.split(";")[0]) for bad in loaded.bad] == [(6, "field 'request' is missing")]


def test_too_many_bad_records_refuse_the_load(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [GOOD] * 92 + ["{"] * 8)
    assert len(load_triplets([path], max_bad=0.08).bad) == 8
    with pytest.raises(InputError, match=r"8 of 100 records .* share of 0\.01") as caught:
        load_triplets([path])
    text = str(caught.value)
    assert f"{path}:93: is not JSON" in text
    assert f"{path}:97: " in text
    assert text.endswith("and 3 more")


def test_only_bad_records_are_never_allowed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 of 1 records"):
        load_triplets([write(tmp_path / "a.jsonl", ["{"])], max_bad=1.0)


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jsonl: No such file"):
        load_triplets([tmp_path / "gone.jsonl"])
    with pytest.raises(InputError, match=r"a\.csv is neither \.jsonl nor \.parquet"):
        load_triplets([tmp_path / "a.csv"])
    with pytest.raises(InputError, match=r"no \.jsonl or \.parquet files"):
        load_triplets([tmp_path])
    with pytest.raises(InputError, match="no records"):
        load_triplets([write(tmp_path / "a.jsonl", [""])])
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"b\.parquet is not a Parquet file"):
        load_triplets([tmp_path / "b.parquet"])


@pytest.mark.parametrize("name", ["promptenhancer", "package:mini/rewriter/style"])
async def test_training_asks_what_the_rewriter_asks_and_teaches_what_it_reads(name: str) -> None:
    """The conversation is the one that the rewriter sends, and the completion comes back through its parser."""
    style = load_style(name)
    one = Triplet("two stars, don't crowd them", "two of them", "two red stars, well apart")
    [row] = data.sft_rows([one], style)
    [completion] = row["completion"]

    chat = FakeChat([completion["content"]])
    config = RewriterConfig(model=ModelConfig(kind="transformers", model="tiny"), style=name)
    [rewrite] = await CoTRewriter(chat, config)(one.request)
    assert [{"role": m.role, "content": m.content} for m in chat.requests[0].messages] == row["prompt"]
    assert (rewrite.prompt, rewrite.thought, rewrite.fallback) == (one.prompt, one.thought, False)
    assert completion["role"] == "assistant"


@pytest.mark.parametrize("name", ["promptenhancer", "package:mini/rewriter/style"])
async def test_repairs_are_asked_for_as_the_loop_does(name: str, tmp_path: Path) -> None:
    row = {**GOOD, "before": "stars", "failed": ["Are there two stars?", "Are the stars red?"], "theme": "art"}
    [one] = load_triplets([write(tmp_path / "a.jsonl", [row])]).records
    [wish] = load_requests(
        [write(tmp_path / "b.jsonl", [{k: row[k] for k in ("request", "before", "failed")}])]
    ).records
    assert one.missed == wish.missed == Missed("stars", ("Are there two stars?", "Are the stars red?"))
    assert (one.extra, wish.extra) == ({"theme": "art"}, {})
    style = load_style(name)
    [sft], [rl] = data.sft_rows([one], style), data.rl_rows([wish], style)

    chat = FakeChat([sft["completion"][0]["content"]])
    config = RewriterConfig(model=ModelConfig(kind="transformers", model="tiny"), style=name)
    feedback = Feedback(one.missed.before, one.missed.failed)
    await CoTRewriter(chat, config)(one.request, feedback=feedback)
    sent = [{"role": m.role, "content": m.content} for m in chat.requests[0].messages]
    assert sft["prompt"] == rl["prompt"] == sent
    assert rl["request"] == "two stars"


def test_training_and_use_share_one_parser_and_one_guard() -> None:
    assert data.parse_reply is reply.parse_reply
    assert image_reward.review is cot.review is reply.review
    assert data.Style is cot.Style is styles.Style


def test_without_thoughts_only_the_answer_is_taught() -> None:
    [row] = data.sft_rows([Triplet("x", "why", "an x")], load_style("package:mini/rewriter/style"), thoughts=False)
    assert row["completion"][0]["content"] == "<answer>an x</answer>"
    parsed = reply.parse_reply("<answer>an x</answer>")
    assert (parsed.prompt, parsed.thought) == ("an x", "")


def test_rl_rows_carry_the_users_own_words() -> None:
    style = load_style("promptenhancer")
    row, other = data.rl_rows([RLRequest("two stars", {"theme": "art"}), RLRequest("x", {"task": "counting"})], style)
    assert row == {"prompt": data.make_chat(style, "two stars"), "request": "two stars", "task": "", "form": "any"}
    assert other["task"] == "counting"
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]
