"""What a user may ask of a run besides its request and its pictures: one `DrawOptions` for every door.

    >>> DrawOptions.read({"size": "16:9", "seed": -1, "max_images": 4}).set_fields()
    {'max_images': 4, 'size': '16:9'}

The command line makes an option of each field, the Python calls take the fields as keywords, the server's bodies and the
MCP tools those that a client may set, and run.json keeps them, so that a resumed run goes on with them. A new option is a
field here and the line that uses it. What a profile cannot do is refused by its name (`require_able`), never left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, cast, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    create_model,
)

from redraft.errors import InputError
from redraft.limits import Limits, option_name

MAX_SEED = 2**64 - 1
"""The largest seed: what torch's generators take."""
MAX_N = 10
"""Most pictures of one request, each found by a run of its own."""
SHORTEST_SIDE, LONGEST_SIDE = 16, 8192
_MEGAPIXEL = 1024 * 1024
_STEP = 16
"""Sides that follow from a shape are multiples of this, which every latent model draws."""
_SIZE = re.compile(r"([1-9]\d{0,4}) ?[x×*] ?([1-9]\d{0,4})")
_RATIO = re.compile(r"([1-9]\d{0,2}) ?: ?([1-9]\d{0,2})")
SHAPES: Mapping[str, str] = {
    "square": "1:1",
    "portrait": "3:4",
    "landscape": "4:3",
    "wide": "16:9",
    "widescreen": "16:9",
    "tall": "9:16",
}
"""Words for a shape."""


def _read_size(value: Any) -> Any:
    if value is None or isinstance(value, list | tuple):
        if value is None:
            return None
        if len(value) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) for side in value):
            raise ValueError("is width and height in pixels, as in 1024x768")
        value = f"{value[0]}x{value[1]}"
    if not isinstance(value, str):
        raise ValueError("is width and height in pixels, as in 1024x768, or a shape such as 16:9")
    text = " ".join(value.lower()[:40].split())
    if text in ("", "auto"):
        return None
    text = SHAPES.get(text, text)
    if (pixels := _SIZE.fullmatch(text)) is not None:
        width, height = int(pixels[1]), int(pixels[2])
        if not all(SHORTEST_SIDE <= side <= LONGEST_SIDE for side in (width, height)):
            raise ValueError(f"each side has {SHORTEST_SIDE} to {LONGEST_SIDE} pixels, unlike {width}x{height}")
        return f"{width}x{height}"
    if (ratio := _RATIO.fullmatch(text)) is not None:
        if not 1 / 8 <= int(ratio[1]) / int(ratio[2]) <= 8:
            raise ValueError("a picture is at most 8 times as long as it is wide")
        return f"{ratio[1]}:{ratio[2]}"
    raise ValueError(
        f"{value[:40]!r} is no size; give width and height in pixels, as in 1024x768, a shape such as 16:9, portrait or "
        "square, or auto"
    )


def _read_seed(value: Any) -> Any:
    return None if value in (-1, "-1") and not isinstance(value, bool) else value


def _absent_if_empty(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


NegativePrompt = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000)]
Size = Annotated[str, BeforeValidator(_read_size), Field(max_length=40)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]


def _is_scalar(annotation: object) -> bool:
    return annotation in (int, float, bool)


_LIMITS: dict[str, Any] = {
    name: (
        Annotated[field.annotation, *field.metadata, Field()] | None,
        Field(None, description=" ".join((field.description or "").split())),
    )
    for name, field in Limits.model_fields.items()
    if _is_scalar(field.annotation)
}


class _OptionFields(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    size: Annotated[Size | None, BeforeValidator(_read_size)] = None
    """Width and height in pixels, such as 1024x768; a shape: 16:9, portrait, landscape, square; or auto."""
    negative_prompt: Annotated[NegativePrompt | None, BeforeValidator(_absent_if_empty)] = None
    """What the pictures are to be kept free of, for models that take it."""
    steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Denoiser steps of each picture; the profile's if not given."""
    guidance: Annotated[float, Field(ge=0, le=100)] | None = None
    """How closely the generator keeps to the prompt, for models with guidance; the profile's if not given."""
    seed: Annotated[Seed | None, BeforeValidator(_read_seed)] = None
    """Seed, to repeat a run; -1, or none: random."""
    search: Annotated[str, StringConstraints(max_length=40)] | None = None
    """How to use the budget: loop, best_of, draft, gallery or evolve, for an edit: edit or tree; the profile's if not given."""


class DrawOptions(create_model("DrawOptions", __base__=_OptionFields, **_LIMITS)):  # type: ignore[misc]
    """What a user set for a run; None: as the profile has it. The scalar fields of `Limits` are among the fields."""

    @classmethod
    def read(cls, values: Mapping[str, object]) -> DrawOptions:
        """The options in `values`. Raises InputError that names the first mistake by the option of the command line."""
        try:
            made: DrawOptions = cls.model_validate(dict(values))
        except ValidationError as error:
            raise InputError(say_mistake(error)) from None
        return made

    def set_fields(self) -> dict[str, Any]:
        """The fields that were set, as JSON has them."""
        values: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        return values

    def limit_changes(self) -> dict[str, Any]:
        """The limits among them that were set."""
        return {name: value for name in _LIMITS if (value := getattr(self, name)) is not None}

    def limits(self, own: Limits) -> Limits:
        """`own`, changed as these say."""
        return own.changed(**self.limit_changes())

    def over(self, other: DrawOptions) -> DrawOptions:
        """These options, and those of `other` for what is not set here."""
        return DrawOptions(**(other.set_fields() | self.set_fields()))

    def with_seeds(self, n: int) -> list[DrawOptions]:
        """These options for each of `n` runs, whose seeds follow one another; each is random if none was set. Raises
        InputError if `n` is not 1 to MAX_N."""
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MAX_N:
            raise InputError(f"n, how many pictures are made, is a whole number from 1 to {MAX_N}, not {n!r}")
        if self.seed is None:
            return [self] * n
        return [self.model_copy(update={"seed": (self.seed + number) % (MAX_SEED + 1)}) for number in range(n)]

    def pixels(
        self, own: tuple[int, int] | None, sizes: Collection[str] = (), *, of: str = ""
    ) -> tuple[int, int] | None:
        """(width, height) in pixels; None if no size was set.

        A shape has as many pixels as `own` (of the model, or of the picture that is edited; a megapixel if None), at
        multiples of 16. `sizes`: the only ones that the profile `of` makes, as WxH; a shape then gives the one that has
        it. Raises InputError for a size that is none of these.
        """
        if self.size is None:
            return None
        if "x" in self.size:
            width, height = (int(side) for side in self.size.split("x"))
            if sizes and self.size not in sizes:
                raise InputError(_no_size(self.size, sizes, of))
            return width, height
        across, down = (int(side) for side in self.size.split(":"))
        if sizes:
            fitting = [pair for pair in map(_pair, sizes) if abs(pair[0] * down / (pair[1] * across) - 1) < 0.05]
            if not fitting:
                raise InputError(_no_size(self.size, sizes, of))
            return fitting[0]
        area = _MEGAPIXEL if own is None else own[0] * own[1]
        scale = (area / (across * down)) ** 0.5
        width, height = (max(_STEP, round(side * scale / _STEP) * _STEP) for side in (across, down))
        return width, height


def value_type(name: str) -> type:
    """The plain type of the field `name`: str, int, float or bool."""
    left: list[Any] = [DrawOptions.model_fields[name].annotation]
    for annotation in left:
        if annotation in (str, int, float, bool):
            return cast(type, annotation)
        left += get_args(annotation)
    raise TypeError(f"{name} is no text, number or switch")


def _pair(size: str) -> tuple[int, int]:
    width, _, height = size.partition("x")
    return int(width), int(height)


def _no_size(size: str, sizes: Collection[str], of: str) -> str:
    return (
        f"size {size}: the profile {of!r} makes pictures of {', '.join(sizes)} alone; leave the size out, or choose "
        "another profile"
    )


def say_mistake(error: ValidationError) -> str:
    """The first mistake, by the name that the command line has for the field."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"there is no option {name[:40]!r}; there are {', '.join(DrawOptions.model_fields)}"
    value = first["input"]
    said = f" {value}" if isinstance(value, int | float) else ""
    return f"{option_name(name)}{said}: {message}"
