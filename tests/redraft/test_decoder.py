"""Pictures of strangers in processes of their own."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from redraft.decoder import PictureDecoder
from redraft.errors import InputError
from redraft.images import UnreadableImage, read_image, read_mask


@pytest.fixture(scope="module")
def decoder() -> Iterator[PictureDecoder]:
    decoder = PictureDecoder(1, max_pixels=2_000_000)
    yield decoder
    decoder.close()


def saved(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def children() -> list[int]:
    """The processes that this one has started."""
    done = subprocess.run(["ps", "-ww", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return [int(line.split()[0]) for line in done.stdout.splitlines() if "redraft.decoder" in line]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_a_picture_comes_out_as_it_would_here(decoder: PictureDecoder, kind: str) -> None:
    data = saved(Image.linear_gradient("L").convert("RGB"), kind)
    there, here = decoder.decode(data), read_image(data)
    assert (there.mode, there.size, there.tobytes()) == (here.mode, here.size, here.tobytes())


def test_a_mask_comes_out_as_it_would_here(decoder: PictureDecoder) -> None:
    data = saved(Image.linear_gradient("L"))
    there, here = decoder.decode(data, mask=True), read_mask(data)
    assert (there.mode, there.tobytes()) == ("L", here.tobytes())


@pytest.mark.parametrize(
    ("data", "kind", "says"),
    [
        (b"", InputError, "is empty"),
        (b"no picture", UnreadableImage, "no picture of a known kind"),
        (saved(Image.new("RGB", (64, 64)))[:60], UnreadableImage, "damaged or cut short"),
        (saved(Image.new("L", (2000, 2000))), InputError, "at most 2,000,000"),
    ],
)
def test_refusals_are_those_of_the_reader(
    decoder: PictureDecoder, data: bytes, kind: type[InputError], says: str
) -> None:
    with pytest.raises(InputError, match=says) as caught:
        decoder.decode(data, what="this picture")
    assert type(caught.value) is kind
    assert decoder.decode(saved(Image.new("RGB", (4, 4)))).size == (4, 4)


def test_what_takes_too_long_is_ended_and_the_next_picture_is_read() -> None:
    slow = PictureDecoder(1, seconds=0)
    with pytest.raises(InputError, match="more memory or time"):
        slow.decode(saved(Image.new("RGB", (6000, 6000))))
    slow.close()


def test_a_process_that_was_killed_is_replaced() -> None:
    decoder = PictureDecoder(1)
    data = saved(Image.new("RGB", (8, 8), (1, 2, 3)))
    before = set(children())
    decoder.decode(data)
    [process] = set(children()) - before
    os.kill(process, signal.SIGKILL)
    assert decoder.decode(data).getpixel((0, 0)) == (1, 2, 3)
    decoder.close()
    assert set(children()) == before


def test_threads_share_the_processes(decoder: PictureDecoder) -> None:
    sizes: list[tuple[int, int]] = []

    def work(side: int) -> None:
        sizes.append(decoder.decode(saved(Image.new("RGB", (side, 3)))).size)

    threads = [threading.Thread(target=work, args=(side,)) for side in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(sizes) == [(side, 3) for side in range(1, 9)]


def test_a_process_has_bounds(decoder: PictureDecoder) -> None:
    decoder.decode(saved(Image.new("RGB", (4, 4))))
    limits = [Path(f"/proc/{process}/limits").read_text() for process in children()]
    assert limits
    for text in limits:
        rows = {line[:25].strip(): line[26:46].strip() for line in text.splitlines()}
        assert rows["Max core file size"] == "0"
        assert "unlimited" not in (rows["Max cpu time"], rows["Max address space"])
