"""The SFT script: two steps on a tiny random model, going on after a kill, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mini.rewriter.model import build_model, save, train_tokenizer
from redraft.errors import ConfigError
from redraft.training import last_checkpoint
from rewriter.train import sft
from rewriter.train.script import check_template

TRIPLETS = [
    {"request": f"{number} stars", "thought": f"{number} of them", "prompt": f"{number} red stars"}
    for number in ("two", "three", "four", "five")
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen3 of some thousand parameters, with a tokenizer of its own."""
    folder = tmp_path_factory.mktemp("tiny_rewriter")
    tokenizer = train_tokenizer([text for one in TRIPLETS for text in one.values()], size=300)
    save(build_model(tokenizer, width=32, layers=1), tokenizer, folder)
    return folder


@pytest.fixture
def config(tmp_path: Path, model: Path) -> Path:
    records = tmp_path / "triplets.jsonl"
    records.write_text("\n".join(json.dumps(one) for one in TRIPLETS) + "\n{", encoding="utf-8")
    path = tmp_path / "sft.yaml"
    settings = {
        "model_name_or_path": str(model),
        "train_files": [str(records)],
        "style": "package:mini/rewriter/style",
        "max_bad": 0.25,
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
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def _weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_two_steps_and_going_on_after_a_kill(config: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoTokenizer

    out = config.parent / "out"
    assert sft.main(["--config", str(config)]) == 0
    said = capsys.readouterr().err
    assert "4 records, 1 malformed" in said
    assert "triplets.jsonl:5: is not JSON" in said
    whole = _weights(out)
    assert whole != _weights(model)
    assert AutoTokenizer.from_pretrained(out).chat_template

    # A kill in the second step: the first is whole, the second's folder is there without its state.
    (out / "checkpoint-2" / "trainer_state.json").unlink()
    (out / "model.safetensors").unlink()
    assert last_checkpoint(out) == out / "checkpoint-1"
    assert sft.main(["--config", str(config), "--max-steps", "2"]) == 0
    assert "resuming from" in capsys.readouterr().err
    assert _weights(out) == whole


@pytest.mark.parametrize(
    ("settings", "code", "message"),
    [
        ({"lerning_rate": 1.0}, 2, "lerning_rate: no such setting; did you mean learning_rate?"),
        ({"train_files": []}, 2, "train_files is missing"),
        ({"max_bad": 0.0}, 2, "triplets.jsonl:5: is not JSON"),
        ({"style": "no-such"}, 2, "unknown template style 'no-such'"),
        ({"learning_rate": "fast"}, 2, "learning_rate"),
        ({"model_name_or_path": None}, 2, "model_name_or_path is missing"),
        ({"model_name_or_path": "./no/such/model"}, 3, "no model folder"),
    ],
)
def test_what_is_refused(
    config: Path, settings: dict[str, object], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = yaml.safe_load(config.read_text(encoding="utf-8")) | settings
    config.write_text(yaml.safe_dump(changed), encoding="utf-8")
    try:
        found = sft.main(["--config", str(config)])
    except SystemExit as stop:  # what argparse itself refuses
        found = int(stop.code or 0)
    assert found == code
    assert message in capsys.readouterr().err


def test_a_model_folder_without_weights_says_how_to_get_them(
    config: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(model, bare)
    (bare / "model.safetensors").unlink()
    assert sft.main(["--config", str(config), "--model_name_or_path", str(bare)]) == 3
    said = capsys.readouterr().err
    assert "no model could be loaded from" in said
    assert "hf download" in said


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--config"], "--config must be followed by"),
        (["--config", "gone.yaml"], "cannot read the config gone.yaml"),
        (["--use_cpu", "true", "--bf16", "false", "--no-such-option", "1"], "no-such-option"),
    ],
)
def test_bad_command_lines(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sft.main(argv) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["- a list", "a: [", "\x00"])
def test_configs_that_are_none(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    assert sft.main(["--config", str(path)]) == 2
    assert "bad.yaml" in capsys.readouterr().err


def test_records_that_are_cut_off_are_told(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    longer = {"request": "six stars", "thought": "six of them " * 40, "prompt": "six red stars"}
    records = config.parent / "triplets.jsonl"
    records.write_text("\n".join(json.dumps(one) for one in [*TRIPLETS, longer]), encoding="utf-8")
    assert sft.main(["--config", str(config), "--max_length", "100", "--max-steps", "1"]) == 0
    assert "warning: 1 records reach max_length = 100 tokens and are cut off" in capsys.readouterr().err


def test_requests_that_leave_no_room_for_a_reply(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sft.main(["--config", str(config), "--max_length", "4"]) == 2
    assert "every request alone has max_length = 4 tokens or more; raise it" in capsys.readouterr().err


def test_a_list_may_be_a_single_name_in_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "one.yaml"
    gone = str(tmp_path / "gone.jsonl")
    config.write_text(
        yaml.safe_dump({"model_name_or_path": str(tmp_path), "train_files": gone, "output_dir": str(tmp_path / "o")})
    )
    assert sft.main(["--config", str(config), "--use_cpu", "true"]) == 2
    assert f"cannot read {gone}" in capsys.readouterr().err


class Template:
    """A tokenizer whose chat template writes replies as `write` says."""

    def __init__(self, write: Callable[[str], str]) -> None:
        self._write = write

    def apply_chat_template(
        self, chat: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool = False
    ) -> str:
        texts = [self._write(t["content"]) if t["role"] == "assistant" else t["content"] for t in chat]
        turns = "".join(f"<|im_start|>{t['role']}\n{text}<|im_end|>\n" for t, text in zip(chat, texts, strict=True))
        return turns + ("<|im_start|>assistant\n" if add_generation_prompt else "")


def test_a_chat_template_that_drops_thoughts_is_refused() -> None:
    chat = [{"role": "user", "content": "two stars"}]
    reply = "<think>two of them</think><answer>two red stars</answer>"
    check_template(Template(lambda text: text), chat, reply)
    check_template(
        Template(lambda text: text.replace("<think>", "<think>\n").replace("</think>", "\n</think>\n\n")), chat, reply
    )
    for write in (lambda text: text.partition("</think>")[2], lambda text: text.replace("red", "blue")):
        with pytest.raises(ConfigError, match="chat template"):
            check_template(Template(write), chat, reply)
