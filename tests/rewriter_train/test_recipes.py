"""Every recipe: its settings are known ones, and it makes two steps on a tiny random model of its model's class."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mini.rewriter.model import build_model, save, train_tokenizer
from redraft.profiles import load_profile
from rewriter.train import dpo, grpo, sft
from rewriter.train.image_reward import open_image_reward
from rewriter.train.reward_server import ServerArguments
from rewriter.train.script import recipes, settings_of

ROOT = Path(__file__).parents[2]
TRIPLETS = [
    {"request": f"{number} stars", "thought": f"{number} of them", "prompt": f"{number} red stars"}
    for number in ("two", "three", "four", "five")
]
RECIPES = recipes()
MINI = ("package:mini/rewriter/sft.yaml", "package:mini/rewriter/grpo.yaml")


def _tokenizer() -> Any:
    return train_tokenizer([text for one in TRIPLETS for text in one.values()], size=300)


def _qwen(folder: Path) -> None:
    tokenizer = _tokenizer()
    save(build_model(tokenizer, width=32, layers=1), tokenizer, folder)


def _hunyuan(folder: Path) -> None:
    from transformers import HunYuanDenseV1Config, HunYuanDenseV1ForCausalLM

    tokenizer = _tokenizer()
    config = HunYuanDenseV1Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=4096, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    HunYuanDenseV1ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


MODELS: dict[str, Callable[[Path], None]] = {"mini": _qwen, "promptenhancer": _hunyuan, "qwen3": _qwen, "small": _qwen}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    for name, make in MODELS.items():
        make(folder / name)
    return {name: folder / name for name in MODELS}


def trains_adapter(recipe: str) -> bool:
    path = RECIPES.get(recipe)
    return path is not None and bool(yaml.safe_load(path.read_text(encoding="utf-8")).get("use_peft"))


def test_the_recipes_are_those_that_the_docs_name() -> None:
    assert set(RECIPES) == {
        "promptenhancer_7b_sft", "promptenhancer_7b_grpo", "qwen3_4b_lora_grpo",
        "reward_server", "small_sft", "small_grpo",
    }  # fmt: skip


@pytest.mark.parametrize("recipe", [*MINI, *(name for name in RECIPES if name.endswith(("_sft", "_grpo")))])
def test_two_steps(recipe: str, models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    family = "mini" if recipe in MINI else recipe.partition("_")[0]
    records = tmp_path / "records.jsonl"
    records.write_text("".join(json.dumps(one) + "\n" for one in TRIPLETS), encoding="utf-8")
    out = tmp_path / "out"
    argv = ["--config", recipe, "--model_name_or_path", str(models[family]), "--output_dir", str(out)]
    argv += ["--train_files", str(records), "--max_steps", "2", "--use_cpu", "true", "--bf16", "false"]
    argv += ["--dtype", "float32", "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "1"]
    argv += ["--save_steps", "2", "--logging_steps", "1", "--report_to", "none", "--disable_tqdm", "true"]
    if recipe.removesuffix(".yaml").endswith("sft"):
        assert sft.main(argv) == 0, capsys.readouterr().err
    else:
        # What the tiny model says cannot be read, so that nothing is drawn; drawing is tested in test_grpo.
        argv += ["--num_generations", "2", "--max_completion_length", "8", "--use_vllm", "false"]
        argv += ["--profile", "mini", "--reward_cache", str(tmp_path / "rewards.jsonl"), "--sample_every", "1"]
        assert grpo.main(argv) == 0, capsys.readouterr().err
        assert (out / "samples" / "step-2.html").is_file()
    state = json.loads((out / "checkpoint-2" / "trainer_state.json").read_text(encoding="utf-8"))
    assert state["global_step"] == 2
    assert (out / ("adapter_model.safetensors" if trains_adapter(recipe) else "model.safetensors")).is_file()


def test_pairs_of_mini_are_sampled_and_judged_as_its_grpo_does() -> None:
    mini, pairs = load_profile("mini"), load_profile(str(ROOT / "mini/rewriter/pairs.toml"))
    assert (pairs.generator, pairs.judge) == (mini.generator, mini.judge)
    assert pairs.evaluator.aggregation == mini.evaluator.aggregation
    assert pairs.checklist == mini.checklist.model_copy(update={"model": mini.rewriter.model})
    dpo, grpo = (yaml.safe_load((ROOT / f"mini/rewriter/{name}.yaml").read_text("utf-8")) for name in ("dpo", "grpo"))
    assert dpo["model_name_or_path"] == grpo["model_name_or_path"]
    assert pairs.rewriter.model.model == str(ROOT / dpo["model_name_or_path"])
    sampling = (pairs.rewriter.temperature, pairs.rewriter.top_p, pairs.rewriter.max_tokens)
    assert sampling == (grpo["temperature"], grpo["top_p"], grpo["max_completion_length"])


def test_two_steps_of_the_minis_dpo(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {**TRIPLETS[0], "candidates": ["two red stars", "stars"], "scores": [0.9, 0.1]}
    (tmp_path / "pairs.jsonl").write_text((json.dumps(row) + "\n") * 4, encoding="utf-8")
    argv = ["--config", "package:mini/rewriter/dpo.yaml", "--model_name_or_path", str(models["mini"])]
    argv += ["--train_files", str(tmp_path / "pairs.jsonl"), "--output_dir", str(tmp_path / "out"), "--max_steps", "2"]
    argv += ["--per_device_train_batch_size", "2", "--bf16", "false", "--disable_tqdm", "true"]
    assert dpo.main(argv) == 0, capsys.readouterr().err
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_the_papers_settings() -> None:
    """METHODS of PromptEnhancer: 128 records a step of SFT, 64 prompts of 8 rewrites a step of GRPO, on 8 GPUs."""
    gpus = 8
    one = yaml.safe_load(RECIPES["promptenhancer_7b_sft"].read_text(encoding="utf-8"))
    assert gpus * one["per_device_train_batch_size"] * one["gradient_accumulation_steps"] == 128
    assert (one["learning_rate"], one["lr_scheduler_type"], one["warmup_steps"]) == (1e-5, "cosine", 0.1)
    assert one["num_train_epochs"] == 2
    two = yaml.safe_load(RECIPES["promptenhancer_7b_grpo"].read_text(encoding="utf-8"))
    assert gpus * two["per_device_train_batch_size"] * two["gradient_accumulation_steps"] == 64 * two["num_generations"]
    assert (two["num_generations"], two["beta"], two["learning_rate"]) == (8, 0.001, 1e-6)
    assert (two["lr_scheduler_type"], two["scale_rewards"], two["loss_type"]) == ("constant", "group", "grpo")
    assert two["num_train_epochs"] == 1


def test_the_servers_recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from rewriter.train.image_reward import RewardArguments

    monkeypatch.chdir(tmp_path)
    args, rewarding = settings_of((ServerArguments, RewardArguments), ["--config", "reward_server"], "test")
    assert (args.port, args.token_env, rewarding.profile) == (8100, "REDRAFT_REWARD_TOKEN", "workstation")
    rewarding.profile = "mini"
    open_image_reward(rewarding, args.style, max_failed=1.0).close()
    assert (tmp_path / "runs" / "rewards.jsonl").is_file()


def test_a_recipe_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert grpo.main(["--config", "qwen3_gpro"]) == 2
    assert "no recipe 'qwen3_gpro'; recipes: promptenhancer_7b_grpo" in capsys.readouterr().err
