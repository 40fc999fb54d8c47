"""Makes the adapter that ships out of trained ones: bfloat16, named after the base on the hub, nothing else in the folder.

    python -m rewriter.small.write_adapter work/small/grpo=0.6 work/small/grpo_tags=0.4 rewriter/small/adapter

Of several it is the weighted mean of their matrices (model soups, Wortsman et al. 2022): they must come from one start.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from redraft.training import console

BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
_KEPT = ("peft_type", "task_type", "r", "lora_alpha", "target_modules", "bias", "fan_in_fan_out", "lora_dropout")


def write_adapter(sources: Mapping[Path, float], out: Path) -> None:
    """Writes adapter_model.safetensors and adapter_config.json into `out`. `sources`: folders of adapters with the same matrices,
    and their weights."""
    first, *_ = sources
    config = json.loads((first / "adapter_config.json").read_text(encoding="utf-8"))
    kept: dict[str, Any] = {"base_model_name_or_path": BASE, "inference_mode": True} | {
        name: config[name] for name in _KEPT
    }
    kept["target_modules"] = sorted(kept["target_modules"])
    whole = sum(sources.values())
    loaded = [(load_file(source / "adapter_model.safetensors"), share / whole) for source, share in sources.items()]
    weights = {
        name: torch.stack([share * matrices[name].float() for matrices, share in loaded]).sum(0).to(torch.bfloat16)
        for name in loaded[0][0]
    }
    out.mkdir(parents=True, exist_ok=True)
    save_file(weights, out / "adapter_model.safetensors", metadata={"format": "pt"})
    (out / "adapter_config.json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m rewriter.small.write_adapter", description="Writes the adapter that ships."
    )
    parser.add_argument("sources", nargs="+", help="output_dir of SFT or GRPO; FOLDER=WEIGHT if there are several")
    parser.add_argument("out", type=Path, help="folder of the adapter")
    options = parser.parse_args()
    parts = (source.partition("=") for source in options.sources)
    write_adapter({Path(folder): float(weight or 1) for folder, _, weight in parts}, options.out)
    size = (options.out / "adapter_model.safetensors").stat().st_size / 1e6
    console.print(f"{options.out}: {size:.1f} MB")


if __name__ == "__main__":
    main()
