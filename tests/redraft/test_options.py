"""What a user may set of a run, as one value."""

from __future__ import annotations

import pytest

from redraft.errors import InputError
from redraft.options import MAX_SEED, DrawOptions, value_type
from redraft.profiles import load_profile


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("1024x768", "1024x768"),
        ("1024 × 768", "1024x768"),
        ((1024, 768), "1024x768"),
        ("16:9", "16:9"),
        ("Portrait", "3:4"),
        ("wide", "16:9"),
        ("auto", None),
        ("", None),
    ],
)
def test_sizes_are_pixels_or_shapes(written: object, kept: str | None) -> None:
    assert DrawOptions.read({"size": written}).size == kept


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"size": "huge"}, "--size: 'huge' is no size"),
        ({"size": "8x8"}, "16 to 8192"),
        ({"size": "100:1"}, "8 times"),
        ({"size": (1, 2, 3)}, "width and height"),
        ({"max_rounds": 0}, "--rounds 0"),
        ({"seed": -2}, "--seed -2"),
        ({"seed": MAX_SEED + 1}, "--seed"),
        ({"guidance": float("nan")}, "--guidance"),
        ({"colour": 1}, "there is no option 'colour'; there are size, negative_prompt"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, object], said: str) -> None:
    with pytest.raises(InputError) as refused:
        DrawOptions.read(values)
    assert said in str(refused.value)


def test_a_shape_keeps_the_number_of_pixels() -> None:
    wide = DrawOptions(size="16:9")
    assert wide.pixels(None) == (1360, 768)
    assert wide.pixels((512, 512)) == (688, 384)
    assert DrawOptions(size="portrait").pixels(None, ["1024x1024", "768x1024"]) == (768, 1024)
    assert DrawOptions().pixels((512, 512)) is None


def test_a_profile_refuses_the_sizes_that_it_does_not_make() -> None:
    mini = load_profile("mini")
    assert mini.pixels(DrawOptions(size="square")) == (256, 256)
    for size in ("512x512", "16:9"):
        with pytest.raises(InputError, match="the profile 'mini' makes pictures of 256x256 alone"):
            mini.pixels(DrawOptions(size=size))


def test_seeds_have_64_bits_and_minus_one_is_random() -> None:
    assert DrawOptions(seed=-1).seed is None
    assert [each.seed for each in DrawOptions(seed=MAX_SEED).with_seeds(2)] == [MAX_SEED, 0]
    assert [each.seed for each in DrawOptions().with_seeds(2)] == [None, None]


def test_limits_are_among_the_options() -> None:
    options = DrawOptions(max_images=3, edit_draws=False)
    changed = options.limits(load_profile("mini").limits)
    assert (changed.max_images, changed.edit_draws, changed.max_rounds) == (3, False, 4)
    assert options.over(DrawOptions(max_images=9, steps=2)).set_fields() == {
        "steps": 2, "max_images": 3, "edit_draws": False,
    }  # fmt: skip


def test_every_option_has_a_plain_type_and_says_what_it_is() -> None:
    for name, field in DrawOptions.model_fields.items():
        assert value_type(name) in (str, int, float, bool)
        assert field.description
