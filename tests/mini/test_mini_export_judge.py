"""The mini judge under the names of vLLM's Llava. (That vLLM answers with it as we do: tests/vllm.)"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from mini.judge.export import WEIGHTS, export, served_name
from redraft.profiles import model_place


def test_the_same_tensors_under_other_names(tmp_path: Path) -> None:
    source, folder = Path(model_place(WEIGHTS)), tmp_path / "new" / "judge"
    export(folder)
    export(folder)  # over what is there
    before, after = load_file(source / "model.safetensors"), load_file(folder / "model.safetensors")
    assert sorted(map(served_name, before)) == sorted(after)
    assert sorted(name for name in after if "vision_tower" in name) == sorted(
        name for name in after if name.startswith("vision_tower.vision_model.")
    )
    assert all(torch.equal(tensor, after[served_name(name)]) for name, tensor in before.items())
    assert all(served_name(name) == name for name in after), "a second export changes nothing"
    assert (folder / "config.json").read_bytes() == (source / "config.json").read_bytes()
    images = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    assert images["image_processor_type"] == "CLIPImageProcessorPil"


def test_transformers_still_reads_it(tmp_path: Path) -> None:
    """Newer versions map the older names to their own."""
    from redraft.local_models import load_local
    from redraft.profiles import LocalConfig, ModelConfig

    export(tmp_path / "judge")
    local = LocalConfig(device="cpu", dtype="float32")
    served = load_local(ModelConfig(kind="transformers", model=str(tmp_path / "judge"), local=local))
    ours = load_local(ModelConfig(kind="transformers", model=WEIGHTS, local=local))
    mine = dict(ours.model.named_parameters())
    assert all(torch.equal(tensor, mine[name]) for name, tensor in served.model.named_parameters())
