"""`redraft init`: a profile of what is on the machine, which can be read, and says what it took and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.cli import main
from agent.init_command import Machine, ServedModel, look_around, write_profile
from redraft.profiles import Profile, load_profile

TEXT = ServedModel("Ollama", "http://127.0.0.1:11434/v1", "qwen3:8b")
SEEING = ServedModel("vLLM", "http://127.0.0.1:8001/v1", "Qwen/Qwen3-VL-8B-Instruct")
DRAWING = ServedModel("vLLM-Omni", "http://127.0.0.1:8091/v1", "Qwen/Qwen-Image")


def read(machine: Machine, folder: Path) -> tuple[Profile, str, list[str]]:
    text, said = write_profile(machine)
    (folder / "mine.toml").write_text(text)
    return load_profile(str(folder / "mine.toml")), text, said


def test_a_machine_with_nothing_gets_the_small_rewriter(tmp_path: Path) -> None:
    profile, text, said = read(Machine(looked_at=("Ollama (port 11434)",)), tmp_path)
    assert profile.abilities() == ("rewrite",)
    assert profile.rewriter.model == load_profile("small").rewriter.model
    assert "Ollama (port 11434)" in text
    assert [line.split(":")[0] for line in said] == ["servers", "rewriter", "judge", "generator"]


def test_servers_play_the_parts_that_their_names_say(tmp_path: Path) -> None:
    other = ServedModel("Ollama", TEXT.base_url, "llama3.2")
    profile, text, _ = read(Machine(models=(DRAWING, TEXT, other, SEEING)), tmp_path)
    assert profile.rewriter.model.model == "qwen3:8b"
    assert profile.need_judge().model.model == "Qwen/Qwen3-VL-8B-Instruct"
    assert profile.need_generator().model == "Qwen/Qwen-Image"
    assert profile.need_generator().kind == "openai_images"
    assert "llama3.2" in text


def test_a_large_gpu_draws_and_a_small_one_is_said_to_be_too_small(tmp_path: Path) -> None:
    large, _, _ = read(Machine(models=(TEXT, SEEING), gpu="A card", gpu_gb=80.0), tmp_path)
    assert large.need_generator().model == "Tongyi-MAI/Z-Image-Turbo"
    middle, _, _ = read(Machine(models=(TEXT, SEEING), gpu="A card", gpu_gb=24.0), tmp_path)
    assert middle.generator is not None
    assert middle.generator.quantization == "nf4"
    small, text, _ = read(Machine(models=(TEXT, SEEING), gpu="A card", gpu_gb=8.0), tmp_path)
    assert small.generator is None
    assert "the GPU has 8 GB" in text


def test_keys_are_named_and_never_shown(tmp_path: Path) -> None:
    machine = look_around({}, {"OPENAI_API_KEY": "sk-very-secret-indeed", "OTHER": "x"})
    _, text, said = read(machine, tmp_path)
    assert "OPENAI_API_KEY" in text
    assert "secret" not in text + " ".join(said)


def test_a_port_where_nobody_answers_is_none(tmp_path: Path) -> None:
    assert look_around({"Nobody": 9}, {}).models == ()


def test_a_file_is_not_written_over(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("mine")
    with pytest.raises(SystemExit) as ended:
        main(["init", str(path)])
    assert ended.value.code == 2
    assert path.read_text() == "mine"
    assert "--force" in capfd.readouterr().err
