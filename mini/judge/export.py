"""The mini judge as a folder that vLLM can serve: `python -m mini.judge.export FOLDER`.

The same weights under the names of vLLM's Llava. transformers 5 saves a CLIP tower as `vision_tower.…`; vLLM 0.32 keeps
the level that earlier versions had, `vision_tower.vision_model.…`. The image processor is named by its Pillow class:
if torchvision is installed, as it is beside vLLM, transformers would resize with that instead, and a picture would
reach the model a little different from the one it was trained on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from safetensors.torch import load_file, save

from redraft.files import write_atomically
from redraft.profiles import model_place

WEIGHTS = "package:mini/weights/judge"
_TOWER, _SERVED = "vision_tower.", "vision_tower.vision_model."
_COPIED = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def export(folder: Path, source: Path | None = None) -> None:
    """Writes the judge in `source`, the one that ships by default, to `folder`, which is made if it is missing.
    A server that has read the folder is not disturbed."""
    source = Path(model_place(WEIGHTS)) if source is None else source
    folder.mkdir(parents=True, exist_ok=True)
    for name in _COPIED:
        write_atomically(folder / name, (source / name).read_bytes())
    processor = json.loads((source / "processor_config.json").read_text())
    processor["image_processor"]["image_processor_type"] = "CLIPImageProcessorPil"
    write_atomically(folder / "processor_config.json", (json.dumps(processor, indent=2) + "\n").encode())
    tensors = {served_name(name): tensor for name, tensor in load_file(source / "model.safetensors").items()}
    write_atomically(folder / "model.safetensors", save(tensors, {"format": "pt"}))


def served_name(name: str) -> str:
    """The name of a tensor in vLLM's Llava."""
    if not name.startswith(_TOWER) or name.startswith(_SERVED):
        return name
    return _SERVED + name.removeprefix(_TOWER)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--weights", type=Path, help="a judge trained by mini.judge.train; the one that ships by default"
    )
    options = parser.parse_args()
    export(options.folder, options.weights)


if __name__ == "__main__":
    main()
