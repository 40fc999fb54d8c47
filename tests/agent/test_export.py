"""Training data out of runs: every kind, damaged runs, and what the project's own trainers read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from agent.cli import main
from agent.export import ExportOptions, FinishedRun, PictureFolder, export_judged, export_runs, make_records
from agent.judged import TextPictureJudge
from agent.testing import CHECKS, fake_models
from evaluator.reward import checks_reward
from evaluator.testing import FakeChecklistBuilder, FakeJudge
from evaluator.train.records import load_judgements
from redraft.errors import BackendError, InputError
from redraft.limits import Limits
from redraft.profiles import load_profile
from rewriter.testing import FakePlanner, FakeRewriter
from rewriter.types import Rewrite
from tests.agent.loop_runs import FAILED, FAIR, GOOD, POOR, by_word, run
from tests.agent.test_conversation import created, say
from tests.agent.test_edit_run import edited, opinion, steps


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def make_runs(out: Path, *requests: str) -> None:
    """A run for each request: three pictures, of a poor, a fair and a good prompt."""
    models = fake_models(by_word(fine=GOOD, fair=FAIR), rewriter=FakeRewriter(lambda _: ["a fair one", "a fine one"]))
    for request in requests:
        await run(models, out, prompt=request, limits=Limits(rewrites=2, images_per_round=3, max_rounds=1))


async def test_pairs_of_pictures_the_better_first(tmp_path: Path) -> None:
    await make_runs(tmp_path / "runs", "three circles")
    exported = export_runs("preferences", tmp_path / "runs", tmp_path / "out")
    rows = read(tmp_path / "out" / "data.jsonl")
    assert exported.rows == len(rows) == 3
    assert [(row["chosen_prompt"], row["rejected_prompt"]) for row in rows] == [
        ("a fine one", "a fair one"),
        ("a fine one", "three circles"),
        ("a fair one", "three circles"),
    ]
    assert [(row["chosen_rank"], row["rejected_rank"]) for row in rows] == [(1, 2), (1, 3), (2, 3)]
    for row in rows:
        assert row["request"] == "three circles"
        assert row["margin"] == pytest.approx(row["chosen_score"] - row["rejected_score"])
        for side in ("chosen", "rejected"):
            with Image.open(tmp_path / "out" / row[f"{side}_image"]) as picture:
                picture.load()
    assert len(list((tmp_path / "out" / "images").iterdir())) == 3, "a picture is copied once"


async def test_thoughts_and_negative_prompts_go_with_their_prompts(tmp_path: Path) -> None:
    rewrites = [Rewrite("a fine one", thought="so", negative_prompt="moons"), Rewrite("a fair one")]
    models = fake_models(by_word(fine=GOOD, fair=FAIR), rewriter=FakeRewriter(lambda _: rewrites))
    await run(models, tmp_path / "runs", limits=Limits(rewrites=2, images_per_round=2, max_rounds=1))
    export_runs("preferences", tmp_path / "runs", tmp_path / "out")
    row = read(tmp_path / "out" / "data.jsonl")[0]
    assert (row["chosen_prompt"], row["chosen_thought"], row["chosen_negative_prompt"]) == ("a fine one", "so", "moons")
    assert (row["rejected_thought"], row["rejected_negative_prompt"]) == ("", "")


async def test_scores_within_the_margin_are_a_tie(tmp_path: Path) -> None:
    await make_runs(tmp_path / "runs", "three circles")
    export_runs("preferences", tmp_path / "runs", tmp_path / "out", ExportOptions(margin=0.4))
    assert {row["rejected_prompt"] for row in read(tmp_path / "out" / "data.jsonl")} == {"three circles"}


async def test_sure_verdicts_are_records_that_the_judges_trainer_reads(tmp_path: Path) -> None:
    models = fake_models(by_word(three=(0.95, 0.6, 0.05)))
    await run(models, tmp_path / "runs", limits=Limits(max_images=1, max_rounds=1, rewrites=1))
    export_runs("records", tmp_path / "runs", tmp_path / "records.jsonl")
    rows = read(tmp_path / "records.jsonl")
    assert [row["verdict"] for row in rows] == ["accept", "reject"], "0.6 is not sure enough"
    loaded = load_judgements([tmp_path / "records.jsonl"], tmp_path / "spool")
    assert [record.accept for record in loaded.records] == [True, False]
    assert loaded.records[0].request == "three circles"


def test_a_yes_that_one_reader_denies_is_no_record_and_what_readers_differ_by_is_no_reason(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")

    class Store:
        def path(self, digest: str) -> Path:
            return tmp_path / "picture.png"

    def verdict(question: str, p: float, spread: float, reason: str) -> dict[str, Any]:
        check = {"key_point": "size", "question": question}
        return {"check": check, "outcome": "scored", "probability": p, "spread": spread, "reason": reason}

    verdicts = [
        verdict("Large?", 0.95, 0.6, "the readers disagree"),
        verdict("Small?", 0.02, 0.01, "the readers disagree"),
        verdict("Red?", 0.02, 0.0, "it is blue"),
    ]
    attempt = {"kind": "generate", "score": 0.9, "sha256": "a" * 64, "report": {"verdicts": verdicts}}
    finished = FinishedRun("one", {"request": "a circle", "attempts": [attempt]}, Store())
    rows = list(make_records(finished, PictureFolder(tmp_path / "images"), ExportOptions(sure=0.9)))
    assert [(row["question"], row["verdict"], row["reason"]) for row in rows] == [
        ("Small?", "reject", ""), ("Red?", "reject", "it is blue")
    ]  # fmt: skip


async def test_failed_checks_are_no_records(tmp_path: Path) -> None:
    models = fake_models(by_word(three=(0.95, FAILED, FAILED)))
    await run(models, tmp_path / "runs", limits=Limits(max_images=1, max_rounds=1, rewrites=1))
    export_runs("records", tmp_path / "runs", tmp_path / "out")
    assert len(read(tmp_path / "out" / "data.jsonl")) == 1


async def test_the_best_share_of_the_best_pictures(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for word, grades in (("bad", POOR), ("fair", FAIR), ("fine", GOOD)):
        limits = Limits(max_images=2, max_rounds=1, rewrites=1)
        await run(fake_models(by_word(**{word: grades})), runs, prompt=f"a {word} circle", limits=limits)
    export_runs("curated", runs, tmp_path / "all")
    assert len(read(tmp_path / "all" / "data.jsonl")) == 3
    export_runs("curated", runs, tmp_path / "third", ExportOptions(share=0.34))
    [best] = read(tmp_path / "third" / "data.jsonl")
    assert (best["text"], best["request"], best["accepted"]) == ("a fine circle", "a fine circle", True)
    export_runs("curated", runs, tmp_path / "high", ExportOptions(accept_at=0.6))
    assert {row["request"] for row in read(tmp_path / "high" / "data.jsonl")} == {"a fair circle", "a fine circle"}


async def test_edits_with_their_sources_and_results(tmp_path: Path) -> None:
    planner = FakePlanner([steps("make it fine")])
    await edited(fake_models(opinion(fine=GOOD), planner=planner), tmp_path / "runs", limits=Limits(max_rounds=1))
    export_runs("edits", tmp_path / "runs", tmp_path / "out")
    rows = read(tmp_path / "out" / "data.jsonl")
    assert {row["EDITING_INSTRUCTION"] for row in rows} == {"make it fine"}
    assert all((tmp_path / "out" / row[name]).is_file() for row in rows for name in ("INPUT_IMG", "OUTPUT_IMG"))
    with pytest.raises(InputError, match="no preferences"):
        export_runs("preferences", tmp_path / "runs", tmp_path / "other")
    assert not (tmp_path / "other" / "data.jsonl").exists()


async def test_parquet_holds_the_pictures(tmp_path: Path) -> None:
    import pyarrow.parquet

    await make_runs(tmp_path / "runs", "three circles", "two circles")
    export_runs("preferences", tmp_path / "runs", tmp_path / "pairs.parquet")
    rows = pyarrow.parquet.read_table(tmp_path / "pairs.parquet").to_pylist()
    assert len(rows) == 6
    assert rows[0]["chosen_image"]["bytes"].startswith(b"\x89PNG")
    assert (tmp_path / rows[0]["chosen_image"]["path"]).read_bytes() == rows[0]["chosen_image"]["bytes"]
    export_runs("records", tmp_path / "runs", tmp_path / "records.parquet")
    assert len(load_judgements([tmp_path / "records.parquet"], tmp_path / "spool").records) > 0


async def test_damaged_runs_are_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    await make_runs(runs, "one circle", "two circles", "three circles", "four circles")
    cut, gone, strange, good = sorted(path.parent for path in runs.glob("*/run.json"))
    (cut / "run.json").write_text((cut / "run.json").read_text()[:500])
    shutil.rmtree(gone / "state" / "images")
    record = json.loads((strange / "run.json").read_text())
    record["attempts"][0]["sha256"] = "../../../../etc/passwd"
    (strange / "run.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit) as ended:
        main(["export", "preferences", str(runs), str(tmp_path / "out"), "--json"])
    assert ended.value.code == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert (summary["rows"], summary["runs"]) == (3, 1)
    assert summary["skipped"].keys() == {cut.name, gone.name, strange.name}
    assert all(name in printed.err for name in (cut.name, gone.name, strange.name))
    assert {row["run"] for row in read(tmp_path / "out" / "data.jsonl")} == {good.name}
    assert "users' text" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("kind", "runs", "out", "says"),
    [
        ("secrets", "runs", "out", "there is no export 'secrets'"),
        ("records", "nowhere", "out", "holds no runs"),
        ("implicit", "nowhere", "out", "holds no conversations"),
        ("records", "runs", "out.csv", "give a folder"),
    ],
)
def test_exports_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, runs: str, out: str, says: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", kind, str(tmp_path / runs), str(tmp_path / out)])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


async def test_an_export_without_rows_leaves_an_earlier_one_alone(tmp_path: Path) -> None:
    await make_runs(tmp_path / "runs", "three circles")
    export_runs("curated", tmp_path / "runs", tmp_path / "out")
    before = (tmp_path / "out" / "data.jsonl").read_bytes()
    with pytest.raises(InputError, match="no curated"):
        export_runs("curated", tmp_path / "runs", tmp_path / "out", ExportOptions(accept_at=1.0))
    assert (tmp_path / "out" / "data.jsonl").read_bytes() == before


async def test_what_users_did_with_pictures(tmp_path: Path) -> None:
    chat = await created(tmp_path / "runs" / "conversations")
    for request in ("a star", "make the star blue", "undo", "make the star green", "/accept"):
        await say(chat, request)
    export_runs("implicit", tmp_path / "runs", tmp_path / "out")
    rows = {row["picture"]: row for row in read(tmp_path / "out" / "data.jsonl")}
    assert {number: (row["signal"], row["preferred"]) for number, row in rows.items()} == {
        1: ("edited_further", True),
        2: ("undone", False),
        3: ("accepted", True),
    }
    assert rows[2]["against"] == rows[1]["image"]
    assert rows[3]["request"] == "a star\nmake the star green"


def redness_judge(builder: FakeChecklistBuilder | None = None) -> TextPictureJudge:
    """Answers every check with how red the picture is."""
    judge = FakeJudge(lambda image, request, check: image.convert("RGB").getpixel((0, 0))[0] / 255)
    builder = builder or FakeChecklistBuilder(lambda _: CHECKS)
    return TextPictureJudge(builder, checks_reward(judge), Limits())


def own_pictures(folder: Path, **red: int) -> Path:
    folder.mkdir()
    for name, value in red.items():
        Image.new("RGB", (32, 32), (value, 0, 0)).save(folder / f"{name}.jpg", quality=100)
        (folder / f"{name}.txt").write_text(f"a {name.split('_')[0]} circle")
    return folder


def test_pictures_with_texts_are_judged_and_the_best_share_of_them_kept(tmp_path: Path) -> None:
    source = own_pictures(tmp_path / "mine", dim=60, fair=160, good_1=255, good_2=200)
    exported = export_judged(
        "curated", source, tmp_path / "out", load_profile("mini"), ExportOptions(share=0.34), redness_judge()
    )
    [best] = read(tmp_path / "out" / "data.jsonl")
    assert (exported.rows, exported.runs) == (1, 3), "pictures of one text are one group"
    assert best["text"] == "a good circle"
    assert best["image"].endswith(".jpg")
    assert (tmp_path / "out" / best["image"]).read_bytes() == (source / "good_1.jpg").read_bytes()
    assert [path.name for path in (tmp_path / "out" / "images").iterdir()] == [Path(best["image"]).name]
    assert "3 texts" in (tmp_path / "out" / "README.md").read_text()


def test_what_was_judged_is_not_judged_again(tmp_path: Path) -> None:
    source = own_pictures(tmp_path / "mine", dim=20, bright=255)
    profile = load_profile("mini")
    builder = FakeChecklistBuilder(lambda text: BackendError("gone") if "dim" in text else CHECKS)
    with pytest.raises(BackendError):
        export_judged("records", source, tmp_path / "out", profile, judge=redness_judge(builder))
    second = FakeChecklistBuilder(lambda _: CHECKS)
    exported = export_judged("records", source, tmp_path / "out", profile, judge=redness_judge(second))
    assert second.requests == ["a dim circle"]
    assert exported.rows == 2 * len(CHECKS)
    assert {record.accept for record in load_judgements([tmp_path / "out" / "data.jsonl"], tmp_path / "s").records} == {
        True,
        False,
    }
    exported = export_judged("curated", source, tmp_path / "out", profile, judge=redness_judge(second))
    assert (exported.rows, len(second.requests)) == (2, 1)


def test_bad_pictures_and_texts_are_named(tmp_path: Path) -> None:
    source = own_pictures(tmp_path / "mine", fine=250)
    (source / "torn.png").write_bytes(b"no picture")
    (source / "torn.txt").write_text("a torn circle")
    (source / "empty.png").write_bytes(b"")
    (source / "empty.txt").write_text("  ")
    exported = export_judged("records", source, tmp_path / "out", load_profile("mini"), judge=redness_judge())
    assert {Path(name).name for name in exported.skipped} == {"torn.png", "empty.png"}
    (source / "metadata.jsonl").write_text('{"file_name": "fine.jpg", "text": "a circle"}\n{"file_name": "fine.jpg"}\n')
    with pytest.raises(InputError, match=r"metadata\.jsonl:2"):
        export_judged("records", source, tmp_path / "two", load_profile("mini"), judge=redness_judge())
    with pytest.raises(InputError, match="cannot be made of pictures"):
        export_judged("edits", source, tmp_path / "two", load_profile("mini"), judge=redness_judge())


def test_a_folder_of_pictures_without_texts_says_what_is_missing(tmp_path: Path) -> None:
    source = own_pictures(tmp_path / "mine", fine=250)
    (source / "fine.txt").unlink()
    with pytest.raises(InputError, match="no texts"):
        export_judged("curated", source, tmp_path / "out", load_profile("mini"), judge=redness_judge())
