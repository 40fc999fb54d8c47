"""LoRA adapters of language models in this process."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from redraft.chat import ChatRequest, Message
from redraft.errors import BackendError, ConfigError, ModelMissing
from redraft.local_models import load_local
from redraft.profiles import LocalConfig, ModelConfig, load_profile
from redraft.transformers_chat import TransformersChat
from rewriter.batch.engines import VllmEngine

peft = pytest.importorskip("peft")


def config_of(model: Path, adapter: Path | None) -> ModelConfig:
    place = None if adapter is None else str(adapter)
    return ModelConfig(kind="transformers", model=str(model), adapter=place, local=LocalConfig(device="cpu"))


@pytest.fixture(scope="module")
def adapter(tiny_lm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random adapter of the tiny model that changes what it says."""
    torch.manual_seed(3)
    settings = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    folder = tmp_path_factory.mktemp("adapter")
    peft.get_peft_model(load_local(config_of(tiny_lm, None)).model, settings).save_pretrained(folder)
    return folder


def test_an_adapter_is_merged_and_computes_the_same(tiny_lm: Path, adapter: Path) -> None:
    plain = load_local(config_of(tiny_lm, None)).model
    merged = load_local(config_of(tiny_lm, adapter))
    assert type(merged.model) is type(plain)
    assert not [name for name, _ in merged.model.named_parameters() if "lora" in name]
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.inference_mode():
        before, after = plain(ids).logits, merged.model(ids).logits
        beside = peft.PeftModel.from_pretrained(plain, adapter)(ids).logits
    assert (after - beside).abs().max() < 1e-4
    assert (after - before).abs().max() > 1e-3


def test_the_model_is_named_with_its_adapter(tiny_lm: Path, adapter: Path) -> None:
    chat = TransformersChat(config_of(tiny_lm, adapter))
    assert chat.name == f"{tiny_lm} + {adapter}"

    async def ask() -> str:
        try:
            return (await chat(ChatRequest((Message("user", "a red circle"),), max_tokens=4))).model
        finally:
            await chat.aclose()

    assert asyncio.run(ask()) == chat.name


def test_an_adapter_without_safetensors_is_missing(tiny_lm: Path, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="adapter_config"):
        TransformersChat(config_of(tiny_lm, tmp_path))
    (tmp_path / "adapter_config.json").write_text((adapter / "adapter_config.json").read_text())
    (tmp_path / "adapter_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelMissing, match="safetensors"):
        TransformersChat(config_of(tiny_lm, tmp_path))


def test_an_adapter_of_another_model_is_named_as_such(tiny_lm: Path, adapter: Path, tmp_path: Path) -> None:
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings | {"target_modules": ["nowhere_proj"]}))
    (tmp_path / "adapter_model.safetensors").write_bytes((adapter / "adapter_model.safetensors").read_bytes())
    with pytest.raises(BackendError, match="does not fit"):
        load_local(config_of(tiny_lm, tmp_path))


def test_servers_and_vllm_take_the_merged_model(tiny_lm: Path, adapter: Path) -> None:
    with pytest.raises(ValidationError, match="merged"):
        ModelConfig.model_validate(
            {"kind": "openai", "model": "m", "adapter": "./a", "server": {"base_url": "http://127.0.0.1:1/v1"}}
        )
    with pytest.raises(ConfigError, match="merge"):
        VllmEngine(config_of(tiny_lm, adapter))


def test_whether_a_model_can_be_opened(tiny_lm: Path, tmp_path: Path) -> None:
    assert config_of(tiny_lm, None).is_ready()
    assert not config_of(tiny_lm, tmp_path).is_ready()
    assert not config_of(tmp_path / "nowhere", None).is_ready()
    assert load_profile("mini").rewriter.model.is_ready()
    assert load_profile("remote").rewriter.model.is_ready()
