"""The mini judge's records: the oracle's answers about training pictures, and the recipe that learns from them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from evaluator.train.__main__ import main
from evaluator.train.records import load_judgements
from mini.judge.write_records import count_right, drawn, judged, relabel, write, write_pairs
from mini.world import oracle
from mini.world.sampling import holds_out


def test_records_say_what_the_oracle_sees(tmp_path: Path) -> None:
    count, accepted = write(tmp_path, 12, seed=1)
    loaded = load_judgements([tmp_path / "judgements.jsonl"], tmp_path / "spool")
    assert not loaded.bad
    assert (len(loaded.records), sum(one.accept for one in loaded.records)) == (count, accepted)
    assert 0 < accepted < count
    for one in loaded.records:
        assert oracle.answers(one.picture.open(), [one.check.question]) == [one.accept]


def test_prompts_are_of_the_training_split_and_verdicts_about_balanced() -> None:
    rng = np.random.default_rng(5)
    made = list(drawn(rng, 70))
    assert not any(holds_out(one.wording.spec) for one in made)
    verdicts = [[accept for *_, accept in judged(rng, one)] for one in made]
    assert all(sum(mine) <= len(mine) - sum(mine) + 1 for mine in verdicts if mine)


def test_photographs_keep_their_truth_beside_them(tmp_path: Path) -> None:
    write(tmp_path, 8, seed=3, photographed=0.3)
    rows = [json.loads(line) for line in (tmp_path / "judgements.jsonl").read_text().splitlines()]
    exported = []
    for row in rows:
        digest = hashlib.sha256((tmp_path / row["image"]).read_bytes()).hexdigest()
        exported.append({**row, "image": f"images/{digest}.png"})
    exported[0]["verdict"] = "reject" if rows[0]["verdict"] == "accept" else "accept"
    (tmp_path / "exported.jsonl").write_text("".join(json.dumps(row) + "\n" for row in exported))
    assert relabel(tmp_path / "exported.jsonl", tmp_path) == (len(rows), len(rows) - 1), "by the clean pictures"
    labelled = [json.loads(line) for line in (tmp_path / "relabelled.jsonl").read_text().splitlines()]
    assert labelled == rows
    wrong = {row["image"] for row in rows if row["verdict"] == "reject"}
    share = count_right(tmp_path / "exported.jsonl", tmp_path)
    assert share.mean == pytest.approx(sum(row["image"] not in wrong for row in rows) / len(rows))
    pairs = write_pairs(tmp_path)
    assert pairs == len((tmp_path / "pairs.jsonl").read_text().splitlines())


def test_two_steps_of_the_mini_recipe_on_the_mini_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "records", 30, seed=2)
    overrides = {
        "train_files": tmp_path / "records",
        "output_dir": tmp_path / "out",
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "calibration_share": 0.25,
        "report_share": 0.25,
    }
    argv = [word for name, value in overrides.items() for word in (f"--{name}", str(value))]
    assert main(["--config", "package:mini/judge/recipe.yaml", *argv]) == 0, capsys.readouterr().err
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["steps"] == 2
    assert report["report"]["calibrated"]["failed"] <= report["records"]["report"]
    assert (tmp_path / "out" / "judge.toml").is_file()
