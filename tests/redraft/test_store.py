"""redraft.images: images under the hashes of their bytes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from redraft.errors import InputError
from redraft.images import ImageStore

NOISE = Image.effect_noise((64, 48), 80).convert("RGB")


def test_round_trip(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    digest = store.put(NOISE)
    assert digest in store
    assert store.get(digest).tobytes() == NOISE.tobytes()
    assert store.path(digest) == tmp_path / "images" / digest[:2] / f"{digest}.png"
    assert hashlib.sha256(store.path(digest).read_bytes()).hexdigest() == digest


def test_equal_pixels_have_equal_hashes(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    NOISE.save(tmp_path / "a.png", dpi=(72, 72), exif=Image.Exif())
    with Image.open(tmp_path / "a.png") as other:
        other.info["comment"] = "metadata"
        assert store.put(other) == store.put(NOISE) == ImageStore(tmp_path / "b").put(NOISE.copy())
    assert store.put(NOISE.convert("L")) == store.put(NOISE.convert("L").convert("RGB"))
    changed = NOISE.copy()
    changed.putpixel((0, 0), (1, 2, 3))
    assert store.put(changed) != store.put(NOISE)


def test_transparency_is_kept(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    clear = Image.new("RGBA", (3, 3), (1, 2, 3, 4))
    got = store.get(store.put(clear))
    assert (got.mode, got.getpixel((0, 0))) == ("RGBA", (1, 2, 3, 4))


@pytest.mark.parametrize(
    "name", ["", "a" * 63, "A" * 64, "g" * 64, "../" + "a" * 61, "a" * 64 + "\n", "a" * 64 + "/../x", "٠" * 64]
)
def test_only_hashes_are_names(tmp_path: Path, name: str) -> None:
    store = ImageStore(tmp_path)
    for use in (store.path, store.get, store.__contains__):
        with pytest.raises(ValueError, match="64 lower-case hex digits"):
            use(name)


def test_missing(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    assert "0" * 64 not in store
    with pytest.raises(InputError, match="there is no image 0000"):
        store.get("0" * 64)


@pytest.mark.parametrize("keep", [0, 100])
def test_damage_is_seen_and_mended_by_putting_again(tmp_path: Path, keep: int) -> None:
    store = ImageStore(tmp_path)
    digest = store.put(NOISE)
    store.path(digest).write_bytes(store.path(digest).read_bytes()[:keep])
    with pytest.raises(InputError, match="is damaged"):
        store.get(digest)
    assert store.put(NOISE) == digest
    assert store.get(digest).size == NOISE.size


def test_putting_again_writes_nothing(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    before = store.path(store.put(NOISE)).stat()
    after = store.path(store.put(NOISE)).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_many_at_once(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(store.put, [NOISE] * 32))) == 1
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".png"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot store an image in"):
        ImageStore(tmp_path / "file").put(NOISE)


def test_killed_in_the_middle(tmp_path: Path) -> None:
    """A process that dies while it writes leaves no file under a hash that is not whole."""
    script = f"""
import os, threading
from pathlib import Path
from PIL import Image
from redraft.images import ImageStore
store = ImageStore(Path({str(tmp_path)!r}))
store.put(Image.effect_noise((128, 128), 80))
threading.Timer(0.15, lambda: os.kill(os.getpid(), 9)).start()
while True:
    store.put(Image.effect_noise((128, 128), 80))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=Path(__file__).parents[2])
    assert done.returncode == -9, done.stderr
    store, whole = ImageStore(tmp_path), list(tmp_path.rglob("*.png"))
    assert whole
    for path in whole:
        assert store.get(path.stem).size == (128, 128)
