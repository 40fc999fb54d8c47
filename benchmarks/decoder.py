"""What it costs to decode a picture in a process of its own (`redraft.decoder`), next to decoding it here.

python benchmarks/decoder.py
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from redraft.decoder import PictureDecoder
from redraft.images import read_image


def picture(side: int, kind: str) -> bytes:
    """A smooth picture with a little noise, as photos have."""
    noise = np.random.default_rng(0).normal(0, 6, (side, side, 3))
    ramp = np.linspace(0, 200, side)[:, None, None] + np.linspace(0, 50, side)[None, :, None]
    buffer = io.BytesIO()
    Image.fromarray((ramp + noise).clip(0, 255).astype("uint8")).save(buffer, kind)
    return buffer.getvalue()


def milliseconds(call: Callable[[], object], times: int) -> float:
    took = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        took.append(1000 * (time.perf_counter() - started))
    return statistics.median(took)


def main() -> None:
    decoder = PictureDecoder(1)
    first = milliseconds(lambda: decoder.decode(picture(16, "PNG")), 1)
    print(f"the first picture starts a process: {first:.0f} ms")
    print("side  kind   here   there  more (ms, medians)")
    for side in (64, 512, 1024, 2048, 4096):
        for kind in ("PNG", "JPEG"):
            data, times = picture(side, kind), 20 if side < 2048 else 5
            here = milliseconds(lambda data=data: read_image(data), times)  # type: ignore[misc]
            there = milliseconds(lambda data=data: decoder.decode(data), times)  # type: ignore[misc]
            print(f"{side:<5} {kind:<5} {here:6.1f} {there:7.1f} {there - here:5.1f}")
    decoder.close()


if __name__ == "__main__":
    main()
