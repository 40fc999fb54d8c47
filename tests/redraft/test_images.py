"""redraft.images: users' files, good and bad; PNG text chunks."""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from editors.backend import decode_image
from redraft.errors import InputError
from redraft.images import fit_mask, open_image, open_mask, read_image, read_provenance, save_png, to_rgb

RED = (255, 0, 0)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tiff", "bmp", "gif"])
def test_formats(tmp_path: Path, ending: str) -> None:
    image = open_image(saved(tmp_path / f"a.{ending}", Image.new("RGB", (5, 4), RED)))
    assert (image.mode, image.size) == ("RGB", (5, 4))
    assert all(abs(a - b) <= 2 for a, b in zip(image.getpixel((2, 2)), RED, strict=True))


@pytest.mark.parametrize(
    ("image", "pixel"),
    [
        (Image.new("RGBA", (2, 2), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (2, 2), (255, 0, 0, 255)), RED),
        (Image.new("LA", (2, 2), (0, 0)), (255, 255, 255)),
        (Image.new("L", (2, 2), 77), (77, 77, 77)),
        (Image.new("1", (2, 2), 1), (255, 255, 255)),
        (Image.new("RGB", (2, 2), RED).convert("P"), RED),
        (Image.new("I;16", (2, 2), 0x80FF), (128, 128, 128)),
        (Image.new("I;16", (2, 2), 0x00FF), (0, 0, 0)),
    ],
)
def test_modes(tmp_path: Path, image: Image.Image, pixel: tuple[int, int, int]) -> None:
    opened = open_image(saved(tmp_path / "a.png", image))
    assert (opened.mode, opened.getpixel((1, 1)), opened.info) == ("RGB", pixel, {})


def test_cmyk(tmp_path: Path) -> None:
    pixel = open_image(saved(tmp_path / "a.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)))).getpixel((4, 4))
    assert pixel[0] > 200 > 60 > max(pixel[1:])


def test_transparent_palette(tmp_path: Path) -> None:
    image = Image.new("P", (2, 2), 0)
    image.putpalette([255, 0, 0])
    assert open_image(saved(tmp_path / "a.gif", image, transparency=0)).getpixel((0, 0)) == (255, 255, 255)


def test_exif_orientation(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20))
    image.paste(RED, (0, 0, 10, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to stand upright
    opened = open_image(saved(tmp_path / "a.png", image, exif=exif))
    assert opened.size == (20, 40)
    assert (opened.getpixel((10, 2)), opened.getpixel((10, 35))) == (RED, (0, 0, 0))


def png_claiming(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"hello, I am a text file", "no picture of a known kind"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture of a known kind"),
        (png_claiming(20_000, 5_000), "20000 x 5000 pixels"),
        (png_claiming(60_000, 60_000), "pixels"),
        (png_claiming(100, 100), "damaged or cut short"),
    ],
)
def test_files_that_are_no_pictures(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(InputError, match=words) as caught:
        open_image(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_truncated(tmp_path: Path, ending: str) -> None:
    path = saved(tmp_path / f"a.{ending}", Image.effect_noise((64, 64), 50).convert("RGB"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged or cut short"):
        open_image(path)


def test_missing_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        open_image(tmp_path / "none.png")
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(InputError, match="a folder or a device"):
            open_image(path)


def test_limits(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.new("RGB", (10, 10)))
    assert open_image(path, max_pixels=100).size == (10, 10)
    with pytest.raises(InputError, match="10 x 10 pixels; at most 99"):
        open_image(path, max_pixels=99)
    with pytest.raises(InputError, match="MiB"):
        open_image(path, max_bytes=10)


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tiff"])
def test_animations(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    path = saved(tmp_path / f"a.{ending}", frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="animated or has several pages"):
        open_image(path)


def test_a_phones_jpeg_with_two_pictures_is_its_first(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=frames[1:])
    picture = open_image(tmp_path / "a.jpg")
    assert picture.size == (16, 8)
    red, green, blue = picture.getpixel((8, 4))  # type: ignore[misc]
    assert (red > 240, green < 16, blue < 16) == (True, True, True)


def test_transparency_becomes_white_wherever_a_picture_comes_from(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    path = saved(tmp_path / "a.png", clear)
    white = (255, 255, 255)
    assert open_image(path).getpixel((0, 0)) == white
    assert decode_image(path.read_bytes(), "a server's answer").getpixel((0, 0)) == white
    assert to_rgb(clear).getpixel((0, 0)) == white


def test_provenance_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.png"
    text = {"Software": "redraft", "redraft:prompt": 'ein Café, "猫" 😀\n}{', "long": "x" * 100_000}
    save_png(Image.new("RGB", (3, 3), RED), path, text)
    assert read_provenance(path) == text
    assert b"iTXt" in path.read_bytes()
    assert open_image(path).getpixel((0, 0)) == RED
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


def test_text_that_png_cannot_hold(tmp_path: Path) -> None:
    save_png(Image.new("RGB", (3, 3)), tmp_path / "a.png", {"a": "x\0y\ud800z"})
    assert read_provenance(tmp_path / "a.png") == {"a": "x\ufffdy?z"}
    for keyword in ("", " a", "é", "x" * 80, "a\nb"):
        with pytest.raises(ValueError, match="keyword"):
            save_png(Image.new("RGB", (3, 3)), tmp_path / "b.png", {keyword: "x"})


def test_no_provenance(tmp_path: Path) -> None:
    assert read_provenance(saved(tmp_path / "a.png", Image.new("RGB", (3, 3)))) == {}
    with pytest.raises(InputError, match="not a PNG"):
        read_provenance(saved(tmp_path / "a.jpg", Image.new("RGB", (3, 3))))
    with pytest.raises(InputError, match="No such file"):
        read_provenance(tmp_path / "none.png")


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        save_png(Image.new("RGB", (3, 3)), tmp_path / "file" / "a.png", {})


def test_what_was_there_stays_where_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.mkdir()  # a file cannot take a folder's place
    with pytest.raises(InputError, match="cannot write"):
        save_png(Image.new("RGB", (3, 3)), path, {})
    assert os.listdir(tmp_path) == ["a.png"]


def test_sides(tmp_path: Path) -> None:
    strip = saved(tmp_path / "a.png", Image.new("RGB", (50_000, 4)))
    with pytest.raises(InputError, match="50000 x 4 pixels; at most 16,384 on a side"):
        open_image(strip)
    assert open_image(strip, max_side=50_000).size == (50_000, 4)
    with pytest.raises(InputError, match="50000 x 4 pixels; at least 16 on a side"):
        open_image(strip, max_side=50_000, min_side=16)


def half(size: tuple[int, int], mode: str, dark: object, light: object) -> Image.Image:
    """`light` on the left half, `dark` on the right."""
    image = Image.new(mode, size, dark)  # type: ignore[arg-type]
    image.paste(light, (0, 0, size[0] // 2, size[1]))  # type: ignore[arg-type]
    return image


@pytest.mark.parametrize(
    "mask",
    [
        half((40, 20), "L", 0, 255),
        half((40, 20), "1", 0, 1),
        half((40, 20), "RGB", (0, 0, 0), (255, 255, 255)),
        half((40, 20), "RGBA", (0, 0, 0, 255), (255, 255, 255, 255)),
        # OpenAI's way: what is to change is transparent, whatever colour lies beneath.
        half((40, 20), "RGBA", (255, 255, 255, 255), (0, 0, 0, 0)),
        half((40, 20), "I;16", 0, 65535),
        half((20, 10), "L", 0, 255),
    ],
)
def test_masks(tmp_path: Path, mask: Image.Image) -> None:
    opened = open_mask(saved(tmp_path / "m.png", mask), (40, 20))
    assert (opened.mode, opened.size, opened.getpixel((5, 5)), opened.getpixel((35, 5))) == ("L", (40, 20), 255, 0)


def test_masks_are_turned_as_pictures_are(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    opened = open_mask(saved(tmp_path / "m.png", half((40, 20), "L", 0, 255), exif=exif), (20, 40))
    assert (opened.getpixel((10, 2)), opened.getpixel((10, 38))) == (255, 0)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (Image.new("L", (20, 20), 255), "20 x 20 pixels, its picture 40 x 20; give a mask of the picture's own size"),
        (Image.new("L", (20, 40), 255), "20 x 40 pixels, its picture 40 x 20 .is one of them turned"),
        (Image.new("L", (40, 22), 255), "40 x 22 pixels"),
        (Image.new("L", (40, 20), 0), "marks nothing"),
    ],
)
def test_masks_that_do_not_fit(tmp_path: Path, mask: Image.Image, words: str) -> None:
    path = saved(tmp_path / "m.png", mask)
    with pytest.raises(InputError, match=words) as caught:
        open_mask(path, (40, 20))
    assert str(path) in str(caught.value)


def test_masks_of_another_resolution_may_be_off_by_rounding() -> None:
    assert fit_mask(Image.new("L", (333, 250), 255), (1000, 751)).size == (1000, 751)
    assert fit_mask(Image.new("L", (3000, 2253), 255), (1000, 751)).size == (1000, 751)
    with pytest.raises(InputError, match="the mask has 333 x 260"):
        fit_mask(Image.new("L", (333, 260), 255), (1000, 751))


def test_frames_are_not_counted_beyond_the_second() -> None:
    """A stranger's file may hold thousands: it is refused in the steps that a few take."""

    def calls(frames: int) -> int:
        data = io.BytesIO()
        pages = [Image.new("L", (64, 64), n % 256) for n in range(frames)]
        pages[0].save(data, "TIFF", save_all=True, append_images=pages[1:])
        count = 0

        def step(*_: object) -> None:
            nonlocal count
            count += 1

        sys.setprofile(step)
        try:
            with pytest.raises(InputError, match="several pages"):
                read_image(data.getvalue())
        finally:
            sys.setprofile(None)
        return count

    calls(4)
    assert calls(2000) <= 2 * calls(4)


def test_a_progressive_jpeg_of_too_many_scans_is_refused_before_it_is_decoded() -> None:
    data = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(data, "JPEG", progressive=True)
    whole = data.getvalue()
    assert read_image(whole).size == (64, 64)
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    with pytest.raises(InputError, match="scans"):
        read_image(whole[:-2] + 200 * scan + whole[-2:])
