"""Drawing 64 pictures in batches against drawing them one at a time, both through DiffusersBackend.

    python benchmarks/render_batch.py [--profile mini] [--model FOLDER] [--images 64] [--batch 64] [--repeats 3]

Without --model it takes the generator of the profile; with it, the diffusers pipeline in that folder.
Prints the best time of each way and their ratio, and how far the pictures of both ways are apart at most.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
from PIL import Image

from editors.backend import ImageTask, render
from editors.diffusers_backend import DiffusersBackend
from redraft.errors import RedraftError
from redraft.profiles import BackendConfig, load_profile

COLOURS = ("red", "blue", "green", "yellow", "black", "white", "orange", "purple")
SHAPES = ("star", "circle", "square", "triangle")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="mini", help="name or .toml file whose generator is measured")
    parser.add_argument("--model", help="folder of a diffusers pipeline, instead of the profile's generator")
    parser.add_argument("--pipeline", help="dotted path package.module:Class of that pipeline, if not diffusers' own")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument(
        "--steps", type=int, help="denoising steps; the profile's, or the model's default, if not given"
    )
    parser.add_argument("--size", type=int, help="sides of the picture in pixels, likewise")
    parser.add_argument("--repeats", type=int, default=3, help="the best time of so many counts")
    options = parser.parse_args()
    if min(options.images, options.batch, options.repeats) < 1:
        parser.error("--images, --batch and --repeats are at least 1")
    try:
        config = _config(options)
        tasks = [ImageTask(_prompt(number), seed=number) for number in range(options.images)]
        batched, together = _measure(config, tasks, options.batch, options.repeats)
        single, alone = _measure(config, tasks, 1, options.repeats)
    except RedraftError as error:
        raise SystemExit(f"render_batch: {error}") from None
    apart = max(_difference(*pair) for pair in zip(together, alone, strict=True))
    print(f"{config.model}: {options.images} pictures of {together[0].width} x {together[0].height} pixels")
    print(f"in batches of {options.batch:<3} {batched:8.3f} s  {1e3 * batched / options.images:8.2f} ms a picture")
    print(f"one at a time     {single:8.3f} s  {1e3 * single / options.images:8.2f} ms a picture")
    print(f"ratio             {single / batched:8.2f}")
    print(f"largest difference of a pixel between the two ways: {apart} of 255")


def _config(options: argparse.Namespace) -> BackendConfig:
    if options.model is not None:
        config = BackendConfig(kind="diffusers", model=options.model, pipeline=options.pipeline)
    else:
        config = load_profile(options.profile).generator
    settings: dict[str, object] = {}
    if options.steps is not None:
        settings["steps"] = options.steps
    if options.size is not None:
        settings |= {"width": options.size, "height": options.size}
    return BackendConfig.model_validate(config.model_dump() | settings)


def _prompt(number: int) -> str:
    return f"a {COLOURS[number % 8]} {SHAPES[number // 8 % 4]} and a {COLOURS[(number + 3) % 8]} {SHAPES[number % 4]}"


def _measure(
    config: BackendConfig, tasks: Sequence[ImageTask], batch: int, repeats: int
) -> tuple[float, list[Image.Image]]:
    """(seconds of the fastest pass over all tasks, its pictures); loading and one warming pass are not counted."""
    backend = DiffusersBackend(config.model_copy(update={"batch_size": batch}))
    render(backend, tasks[:batch])
    best = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter()
        pictures = render(backend, tasks)
        best = min(best, time.perf_counter() - begun)
    backend.close()
    return best, pictures


def _difference(one: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max())


if __name__ == "__main__":
    main()
