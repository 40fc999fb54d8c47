"""The data that the rewriter's training scripts learn the cut-outs from."""

from __future__ import annotations

from pathlib import Path

from mini.rewriter import write_data
from rewriter.styles import load_style
from rewriter.train.data import load_requests, load_triplets, make_chat


def test_files_are_what_the_scripts_read_and_prompts_meet_no_triplet(tmp_path: Path) -> None:
    write_data.main(["--out", str(tmp_path), "--count", "40", "--prompts", "60", "--test", "20"])
    learnt = load_triplets([tmp_path / "sft.jsonl"], max_bad=0).records
    asked = load_requests([tmp_path / "prompts.jsonl"], max_bad=0).records
    held_out = load_requests([tmp_path / "prompts_test.jsonl"], max_bad=0).records
    assert (len(learnt), len(asked), len(held_out)) == (40, 60, 20)
    assert all(one.thought and one.prompt for one in learnt)
    words = [one.request for one in (*learnt, *asked)]
    assert len(set(words)) == len(words)
    assert (tmp_path / "untrained" / "model.safetensors").is_file()


def test_some_triplets_repair_and_are_asked_as_the_lessons_ask(tmp_path: Path) -> None:
    write_data.main(["--out", str(tmp_path), "--count", "60", "--prompts", "1", "--test", "1", "--seed", "1"])
    records = load_triplets([tmp_path / "sft.jsonl"], max_bad=0).records
    found = [one for one in records if one.missed is not None]
    assert 4 <= len(found) <= 24
    for one in found:
        [message] = make_chat(load_style("package:mini/rewriter/style"), one.request, one.missed)
        assert message["content"].startswith(f"Repair: {one.request}\nBefore: {one.missed.before}\nFailed: ")
        assert message["content"].endswith("?")


def test_the_same_seed_gives_the_same_data() -> None:
    assert write_data.triplets(10, seed=3) == write_data.triplets(10, seed=3)
    assert write_data.triplets(10, seed=3) != write_data.triplets(10, seed=4)
    assert write_data.triplets(20, seed=3)[:10] == write_data.triplets(10, seed=3)


def test_the_teacher_of_the_triplets_tells_less_than_the_committed_rewriters() -> None:
    told = {once: sum(len(row["prompt"]) for row in write_data.triplets(60, once=once)) for once in (0.0, 1.0)}
    assert told[1.0] < told[0.0]


def test_the_splits_have_streams_of_their_own() -> None:
    assert write_data.prompts(10, "train") != write_data.prompts(10, "test")
