"""Writes the model of a profile's rewriter with its adapter merged into it, for servers and for llama.cpp.

    python scripts/merge_adapter.py small merged     # then: vllm serve merged --served-model-name small

The folder holds config.json, safetensors in bfloat16, and the tokenizer with its chat template.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from redraft.errors import RedraftError
from redraft.local_models import load_local
from redraft.profiles import load_profile


def main() -> None:
    parser = argparse.ArgumentParser(prog="python scripts/merge_adapter.py", description=__doc__.splitlines()[0])
    parser.add_argument("profile", help="a built-in profile or a .toml file whose rewriter runs in this process")
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    options = parser.parse_args()
    config = load_profile(options.profile).rewriter.model
    if config.kind != "transformers":
        sys.exit(f"error: the rewriter of {options.profile} runs on a server; there is nothing to merge here")
    # Merged in float32, and rounded once.
    wide = config.local.model_copy(update={"device": "cpu", "dtype": "float32"})
    loaded = load_local(config.model_copy(update={"local": wide}))
    import torch

    loaded.model.to(getattr(torch, options.dtype)).save_pretrained(options.out)
    loaded.tokenizer.save_pretrained(options.out)
    print(f"{config.title} is in {options.out}")


if __name__ == "__main__":
    try:
        main()
    except RedraftError as error:
        sys.exit(f"error: {error}")
