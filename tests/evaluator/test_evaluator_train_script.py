"""The training script: every recipe for two steps, learning, going on after a kill, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from safetensors.numpy import load_file

from evaluator.judge import open_judge
from evaluator.train.__main__ import main
from evaluator.train.compare import main as compare_main
from evaluator.types import Check, Outcome
from redraft.profiles import JudgeConfig
from redraft.training import last_checkpoint
from tests.evaluator.random_vlm import save_random_qwen

ROOT = Path(__file__).parents[2]
QUESTION = "Is the circle blue?"
STYLE = "package:mini/judge/style"


def write_records(folder: Path, count: int, **more: object) -> Path:
    """Plain pictures, half of them blue, two records each."""
    folder.mkdir(parents=True)
    lines = []
    for i in range(count):
        blue = i % 2 == 0
        Image.new("RGB", (32, 32), (0, i, 255) if blue else (255, i, 0)).save(folder / f"{i}.png")
        record = {"image": f"{i}.png", "request": f"prompt {i}", "verdict": "accept" if blue else "reject"} | more
        lines += [
            json.dumps(record | {"key_point": "cross_entity_binding", "question": QUESTION}),
            json.dumps(record | {"key_point": "counting", "description": "the circle is blue"}),
        ]
    path = folder / "judgements.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_config(folder: Path, model: Path, **changes: object) -> Path:
    settings: dict[str, Any] = {
        "model_name_or_path": str(model),
        "train_files": [str(folder / "records")],
        "calibration_share": 0.3,
        "report_share": 0.3,
        "min_label_mass": 0.0,
        "output_dir": str(folder / "out"),
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "save_steps": 1,
        "logging_steps": 1,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
    }
    path = folder / "judge.yaml"
    path.write_text(yaml.safe_dump(settings | changes), encoding="utf-8")
    return path


def run(argv: list[str]) -> int:
    try:
        return main(argv)
    except SystemExit as stop:  # what argparse itself refuses
        return int(stop.code or 0)


def test_it_learns_calibrates_reports_and_can_be_used(
    tmp_path: Path, tiny_llava: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_records(tmp_path / "records", 100, reason="red")
    config = write_config(
        tmp_path, tiny_llava, style=STYLE, max_steps=25, save_strategy="no", frozen=["vision_tower"], logging_steps=5,
        per_device_train_batch_size=16, weight_decay=0.0, learning_rate=5e-3,
    )  # fmt: skip
    assert run(["--config", str(config)]) == 0
    said = capsys.readouterr()
    assert "200 records, 0 malformed" in said.err
    assert "'label_mass'" in said.out
    out = tmp_path / "out"
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert sum(report["records"].values()) == 200
    assert report["report"]["calibrated"]["accuracy"]["mean"] > 0.95
    assert report["report"]["calibrated"]["label_mass"] > 0.9
    assert report["report"]["before_training"]["label_mass"] < 0.5
    assert list(report["key_points"]) == ["counting", "cross_entity_binding"]
    text = (out / "report.md").read_text(encoding="utf-8")
    assert "| Counting |" in text
    assert "| before training |" in text
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_llava, out))
    changed = {name for name, value in before.items() if (value != after[name]).any()}
    assert changed
    assert not any("vision" in name for name in changed)

    table = tomllib.loads((out / "judge.toml").read_text(encoding="utf-8"))["judge"]
    assert table["temperature"] == report["temperature"]
    judge = open_judge(JudgeConfig.model_validate(table))
    [verdict] = asyncio.run(judge(Image.new("RGB", (32, 32), (0, 9, 255)), "any", [Check("counting", QUESTION)]))
    assert verdict.outcome is Outcome.SCORED
    assert verdict.probability is not None
    assert verdict.probability > 0.5


@pytest.mark.parametrize("family", [pytest.param("qwen2_5_vl", marks=pytest.mark.slow), "qwen3_vl"])
def test_two_steps_of_the_full_size_recipes_on_a_tiny_model(family: str, tmp_path: Path) -> None:
    size = {"qwen2_5_vl": "7b", "qwen3_vl": "8b"}[family]
    model = tmp_path / "model"
    save_random_qwen(model, [QUESTION], family, spread=0.2)  # type: ignore[arg-type]
    write_records(tmp_path / "records", 12, reason="circle")
    overrides = {
        "model_name_or_path": model,
        "train_files": tmp_path / "records",
        "output_dir": tmp_path / "out",
        "calibration_share": 0.3,
        "report_share": 0.3,
        "trust_remote_code": True,  # the tiny processor's own code
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "dataloader_num_workers": 0,
        "learning_rate": 0.01,
        "use_cpu": True,
        "dtype": "float32",
        "bf16": False,
        "eval_steps": 2,
        "save_steps": 1,
        "logging_steps": 1,
    }
    argv = [word for name, value in overrides.items() for word in (f"--{name}", str(value))]
    assert run(["--config", f"{family}_{size}", *argv]) == 0
    out = tmp_path / "out"
    before, after = (load_file(folder / "model.safetensors") for folder in (model, out))
    changed = {name for name, value in before.items() if (value != after[name]).any()}
    assert before.keys() == after.keys()
    assert {name.rsplit(".", 2)[-2] for name in changed} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"
    }  # fmt: skip
    assert not any("visual" in name for name in changed)
    assert (out / "adapter" / "adapter_model.safetensors").is_file()
    assert json.loads((out / "report.json").read_text(encoding="utf-8"))["steps"] == 2
    history = json.loads((out / "checkpoint-2" / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    assert [one["step"] for one in history if "eval_loss" in one] == [2]

    # A kill while the second checkpoint is being written leaves the beginning of its state.
    (out / "checkpoint-2" / "trainer_state.json").write_text('{"best', encoding="utf-8")
    shutil.rmtree(out / "adapter")
    assert last_checkpoint(out) == out / "checkpoint-1"
    assert run(["--config", f"{family}_{size}", *argv, "--measure_before", "false"]) == 0
    again = load_file(out / "model.safetensors")
    assert all((again[name] == value).all() for name, value in after.items())


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_where_it_would_have(
    tmp_path: Path, tiny_llava: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_records(tmp_path / "records", 20)
    settings = {"style": STYLE, "max_steps": 30, "save_steps": 5, "measure_before": False}
    config = write_config(tmp_path, tiny_llava, **settings)
    assert run(["--config", str(config), "--output_dir", str(tmp_path / "whole"), "--save_strategy", "no"]) == 0

    out = tmp_path / "out"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "evaluator.train", "--config", str(config)]
    for _ in range(5):  # a training that ended before it was killed is begun anew
        shutil.rmtree(out, ignore_errors=True)
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while process.poll() is None and last_checkpoint(out) is None:
                time.sleep(0.01)
        finally:
            process.kill()
        if process.wait() == -signal.SIGKILL:
            break
    assert not (out / "model.safetensors").exists()

    capsys.readouterr()
    assert run(["--config", str(config)]) == 0
    assert "resuming from" in capsys.readouterr().err
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert (out / "report.md").is_file()

    with (tmp_path / "records" / "judgements.jsonl").open("a", encoding="utf-8") as file:
        file.write(
            json.dumps({"image": "1.png", "request": "prompt 1", "key_point": "x", "question": "Is it?", "verdict": 0})
        )
    assert run(["--config", str(config)]) == 2
    assert "the records are not those that the training in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "code", "message"),
    [
        ({"lerning_rate": 1.0}, 2, "lerning_rate: no such setting; did you mean learning_rate?"),
        ({"train_files": []}, 2, "train_files is missing"),
        ({"train_files": ["gone"]}, 2, "gone is neither .jsonl nor .parquet"),
        ({"report_files": ["records"]}, 2, "give both calibration_files and report_files"),
        ({"style": "no-such"}, 2, "unknown template style 'no-such'"),
        ({"calibration_share": 0.9}, 2, "must leave some to learn"),
        ({"load_in_4bit": True}, 2, "load_in_4bit and load_in_8bit are not for judges"),
        ({"model_revision": "v2"}, 2, "hf download"),
        ({"model_name_or_path": None}, 2, "model_name_or_path is missing"),
        ({"model_name_or_path": "./no/such/model"}, 3, "no model folder"),
        ({"dtype": "float8"}, 2, "dtype 'float8' is none of"),
        ({"frozen": ["no_such_tower"]}, 2, "'no_such_tower' fits no parameter; there are model.vision_tower"),
        ({"frozen": ["("]}, 2, "is not a regular expression"),
        ({"frozen": ["."]}, 2, "nothing is left to be trained"),
        ({"use_peft": True, "lora_target_modules": ["no_such_module"]}, 2, "no_such_module"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, tiny_llava: Path, settings: dict[str, object], code: int, message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write_records(tmp_path / "records", 12)
    assert run(["--config", str(write_config(tmp_path, tiny_llava, **settings))]) == code
    assert message in capsys.readouterr().err


def test_a_recipe_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--config", "qwen9"]) == 2
    assert "no recipe 'qwen9'; recipes: qwen2_5_vl_7b, qwen3_vl_8b" in capsys.readouterr().err


def test_records_that_teach_nothing_or_leak_are_refused(
    tmp_path: Path, tiny_llava: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_records(tmp_path / "records", 12, verdict="accept")
    assert run(["--config", str(write_config(tmp_path, tiny_llava))]) == 2
    assert "every record to learn from says accept" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "records")
    mine = str(write_records(tmp_path / "records", 12))
    config = write_config(tmp_path, tiny_llava, calibration_files=[mine], report_files=[mine])
    assert run(["--config", str(config)]) == 2
    assert "24 pictures and requests are in both the training and the calibration part" in capsys.readouterr().err


def test_a_judge_that_answers_all_alike_is_caught_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_records(tmp_path / "records", 40)
    blind = {"style": STYLE, "min_label_mass": 0.0, "report_share": 0.4}
    config = write_config(tmp_path, ROOT / "mini" / "weights" / "judge", **blind)
    assert run(["--config", str(config)]) == 2
    assert "to each of" in capsys.readouterr().err
    assert not (tmp_path / "out" / "checkpoint-1").exists()


def test_a_folder_with_another_model_is_not_written_over(
    tmp_path: Path, tiny_llava: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_records(tmp_path / "records", 12)
    shutil.copytree(tiny_llava, tmp_path / "out")
    assert run(["--config", str(write_config(tmp_path, tmp_path / "out"))]) == 2
    assert "already holds a model that was not trained here" in capsys.readouterr().err


def test_weights_that_are_not_there_say_how_to_get_them(
    tmp_path: Path, tiny_llava: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_records(tmp_path / "records", 12)
    bare = tmp_path / "bare"
    shutil.copytree(tiny_llava, bare)
    (bare / "model.safetensors").unlink()
    assert run(["--config", str(write_config(tmp_path, bare))]) == 3
    assert "no model could be loaded from" in capsys.readouterr().err
    assert run(["--config", str(write_config(tmp_path, Path("nobody/no-such-model")))]) == 3
    assert "hf download nobody/no-such-model" in capsys.readouterr().err


def test_judges_are_compared_on_records(tmp_path: Path, tiny_llava: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records, out = write_records(tmp_path / "records", 4), tmp_path / "compared.json"
    judges = ["--judge", "one", str(tiny_llava), "--judge", "two", str(tiny_llava)]
    assert compare_main([str(records), *judges, "--style", STYLE, "--min_label_mass", "0", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "| two 1, temperature 1 | 8 |" in said
    gains = json.loads(out.read_text(encoding="utf-8"))["gains"]
    assert [(g["key_point"], g["records"], g["accuracy"]["mean"]) for g in gains] == [
        ("all", 8, 0.0), ("varied", 8, 0.0), ("counting", 4, 0.0), ("cross_entity_binding", 4, 0.0)
    ]  # fmt: skip
    assert compare_main([str(records), "--judge", "nowhere"]) == 2
    assert "--judge nowhere: say after the name in which folder" in capsys.readouterr().err
