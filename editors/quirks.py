"""How diffusers pipeline classes want to be called, where they differ from one another.

What a class's `__call__` signature says is read from it; what it does not say stands in one table, `QUIRKS`, keyed by
class name (a subclass inherits its parent's entry). Checked against diffusers 0.42.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from editors.backend import Mode
from redraft.errors import ConfigError, InputError
from redraft.profiles import BackendConfig

Sources = Literal["each", "one", "nested"]
"""How source pictures are handed over: one for each prompt of a batch; one, for a call with one prompt; or a list of
lists, one list for each prompt."""

MEGAPIXEL = 1024 * 1024
"""The area that most families are trained at."""


@dataclass(frozen=True)
class Quirk:
    """What a pipeline class's signature does not say (None: go by the signature)."""

    guidance: str | None = None
    """The argument that takes the guidance setting, if it is neither `guidance_scale` nor `true_cfg_scale`, or if
    a class has both and only one of them works."""
    negative: bool | None = None
    """False if `negative_prompt` exists but does nothing at the settings we use."""
    empty_negative: bool = False
    """True if guidance is off unless a negative prompt is given: an empty one (" ") is given then."""
    source: str = "image"
    sources: Sources | None = None
    also_generates: bool = False
    """True if the class takes source pictures but draws without them too."""
    references: bool = False
    """True if the class takes further pictures behind the source, as one list."""
    mask_optional: bool = False
    """True if a class that takes a mask edits without one too. (In diffusers' own, a mask's default of None does not
    mean that it may be left out.)"""
    inpainter: str | None = None
    """The class that fills masks with the same parts, if diffusers' Auto tables do not know it."""
    packing: int | None = None
    """Latent pixels that are packed into one token along each side; sizes are multiples of VAE factor times this."""
    multiple: int | None = None
    """Sides are multiples of this, if it is not VAE factor times packing."""
    least_area: int = 0
    """Edits of smaller pictures are drawn at this many pixels, and scaled back. For classes that lay out their source
    at an area of their own: drawn at another, the picture shifts and zooms."""
    most_area: int = MEGAPIXEL
    """Edits of larger pictures are drawn at this many pixels, and scaled back."""
    least_side: int = 1
    most_ratio: float | None = None
    """Longest side over shortest that the class takes."""
    area: str | None = None
    """The argument that takes the wanted area in pixels; without it the class draws at an area of its own."""
    prefix: str = ""
    """Stands before the prompt of an edit."""


_QWEN = Quirk(guidance="true_cfg_scale", empty_negative=True)
_QWEN_EDIT = Quirk(guidance="true_cfg_scale", empty_negative=True, sources="one", multiple=32, least_area=MEGAPIXEL)
_FLUX = Quirk(guidance="guidance_scale", negative=False)
_KONTEXT = Quirk(guidance="guidance_scale", negative=False, sources="one", area="max_area", least_area=MEGAPIXEL)
_REFERENCES = Quirk(sources="one", also_generates=True, references=True, least_side=64, most_ratio=8)
_SD = Quirk(most_area=768 * 768)

QUIRKS: Mapping[str, Quirk] = {
    # Flux's guidance_scale is distilled into the model; a negative prompt would need true_cfg_scale and twice the time.
    "FluxPipeline": _FLUX,
    "FluxImg2ImgPipeline": _FLUX,
    "FluxInpaintPipeline": _FLUX,
    # It scales every source to one of its training sizes of a megapixel; a list of pictures is a batch to it.
    "FluxKontextPipeline": replace(_KONTEXT, also_generates=True, inpainter="FluxKontextInpaintPipeline"),
    "FluxKontextInpaintPipeline": _KONTEXT,
    # A list of pictures is one set of references for every prompt of the batch.
    "Flux2Pipeline": _REFERENCES,
    "Flux2KleinPipeline": replace(_REFERENCES, inpainter="Flux2KleinInpaintPipeline"),
    "Flux2KleinInpaintPipeline": Quirk(sources="one"),
    "ZImageOmniPipeline": _REFERENCES,
    "GlmImagePipeline": Quirk(sources="one", also_generates=True, references=True),
    # guidance_scale is for distilled checkpoints, of which there is none; true_cfg_scale wants a negative prompt.
    "QwenImagePipeline": _QWEN,
    "QwenImageImg2ImgPipeline": _QWEN,
    "QwenImageInpaintPipeline": _QWEN,
    "QwenImageEditPipeline": _QWEN_EDIT,
    "QwenImageEditPlusPipeline": replace(_QWEN_EDIT, references=True),
    "QwenImageEditInpaintPipeline": _QWEN_EDIT,
    "QwenImage21Pipeline": Quirk(guidance="true_cfg_scale", empty_negative=True, sources="one", also_generates=True),
    "HunyuanImagePipeline": Quirk(guidance="distilled_guidance_scale"),
    "OmniGenPipeline": Quirk(
        source="input_images", sources="nested", also_generates=True, prefix="<img><|image_1|></img> "
    ),
    "SanaPipeline": Quirk(packing=1),
    "SanaSprintPipeline": Quirk(packing=1),
    "StableDiffusionImg2ImgPipeline": _SD,
    "StableDiffusionInpaintPipeline": _SD,
    "StableDiffusionInstructPix2PixPipeline": _SD,
}


def quirk_of(pipeline_class: type) -> Quirk:
    """The class's own `quirk`, or the table's entry for the class or its nearest parent that has one."""
    own: Quirk | None = getattr(pipeline_class, "quirk", None)
    return own or next((QUIRKS[c.__name__] for c in pipeline_class.__mro__ if c.__name__ in QUIRKS), Quirk())


@cache
def takes(pipeline_class: type) -> frozenset[str]:
    """Names of the arguments of the class's `__call__`."""
    return frozenset(inspect.signature(pipeline_class.__call__).parameters) - {"self"}


def native_modes(pipeline_class: type) -> frozenset[Mode]:
    """What the class itself can do, its siblings apart."""
    names, quirk = takes(pipeline_class), quirk_of(pipeline_class)
    if "mask_image" in names:
        return frozenset({"edit", "inpaint"}) if quirk.mask_optional else frozenset({"inpaint"})
    if quirk.source not in names:
        return frozenset({"generate"})
    return frozenset({"generate", "edit"}) if quirk.also_generates else frozenset({"edit"})


def sources_of(pipeline_class: type) -> Sources:
    """How the class takes source pictures. One at a time if nothing says that it can take one for each prompt:
    to classes that noise the source (`strength`) a list is a batch, to most others it is a set of references."""
    return quirk_of(pipeline_class).sources or ("each" if "strength" in takes(pipeline_class) else "one")


def takes_negative(pipeline_class: type) -> bool:
    """True if a negative prompt has an effect."""
    return quirk_of(pipeline_class).negative is not False and "negative_prompt" in takes(pipeline_class)


def working_size(pipe: Any, size: tuple[int, int], mode: Mode = "generate") -> tuple[int, int]:
    """The (width, height) nearest to `size` that the pipeline can draw; for edits within the areas of its table entry,
    in the shape of `size`. Raises InputError for a shape that the class cannot edit."""
    quirk = quirk_of(type(pipe))
    if mode != "generate":
        size = _editable(size, quirk, type(pipe))
    factor = getattr(pipe, "vae_scale_factor", None)
    if not isinstance(factor, int) or factor < 1:
        return size
    packing = quirk.packing or (2 if "transformer" in pipe.components else 1)
    multiple = max(factor * packing, quirk.multiple or 1)
    width, height = (max(multiple, round(side / multiple) * multiple) for side in size)
    return width, height


def _editable(size: tuple[int, int], quirk: Quirk, pipeline_class: type) -> tuple[int, int]:
    ratio = max(size) / min(size)
    if quirk.most_ratio is not None and ratio > quirk.most_ratio:
        taken = (
            "square pictures"
            if quirk.most_ratio == 1
            else f"pictures whose longer side is at most {quirk.most_ratio:g} times the shorter"
        )
        raise InputError(
            f"{pipeline_class.__name__} edits {taken}; this one has {size[0]} x {size[1]} pixels: crop it, or choose "
            "another editor"
        )
    area = size[0] * size[1]
    wanted = min(max(area, quirk.least_area), quirk.most_area)
    scale = max((wanted / area) ** 0.5, quirk.least_side / min(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def settings_for(pipeline_class: type, mode: Mode, config: BackendConfig) -> dict[str, Any]:
    """The call arguments that the profile's settings become. Raises ConfigError for a setting that the class has
    no argument for, so that none is silently without effect."""
    names, quirk = takes(pipeline_class), quirk_of(pipeline_class)
    arguments: dict[str, Any] = {}
    if config.steps is not None:
        arguments[_argument("steps", ["num_inference_steps"], names, pipeline_class)] = config.steps
    if config.guidance is not None:
        candidates = [quirk.guidance] if quirk.guidance else ["guidance_scale", "true_cfg_scale"]
        arguments[_argument("guidance", candidates, names, pipeline_class)] = config.guidance
    if config.strength is not None and mode != "generate":
        arguments[_argument("strength", ["strength"], names, pipeline_class)] = config.strength
    elif mode == "inpaint" and "strength" in names:
        # The classes' own defaults run from 0.6, which leaves what is masked half standing, to 1.
        arguments["strength"] = 1.0
    if config.image_guidance is not None and mode != "generate":
        name = _argument("image_guidance", ["image_guidance_scale", "img_guidance_scale"], names, pipeline_class)
        arguments[name] = config.image_guidance
    return arguments


def prompts_for(
    pipeline_class: type,
    mode: Mode,
    prompts: Sequence[str],
    negatives: Sequence[str | None],
    guidance: float | None = None,
) -> dict[str, Any]:
    """The call arguments that hold the prompts. `negatives` is all None or all text; `guidance` is the setting."""
    quirk = quirk_of(pipeline_class)
    prefix = quirk.prefix if mode != "generate" else ""
    arguments: dict[str, Any] = {"prompt": [prefix + prompt for prompt in prompts]}
    if takes_negative(pipeline_class):
        if all(negative is not None for negative in negatives):
            arguments["negative_prompt"] = list(negatives)
        elif quirk.empty_negative and _guidance(pipeline_class, quirk, guidance) > 1:
            arguments["negative_prompt"] = [" "] * len(prompts)
    return arguments


def size_for(pipeline_class: type, size: tuple[int, int] | None) -> dict[str, Any]:
    """The call arguments that hold the size; none for classes that go by their source's."""
    names, quirk = takes(pipeline_class), quirk_of(pipeline_class)
    if size is None:
        return {}
    arguments = {name: side for name, side in zip(("width", "height"), size, strict=True) if name in names}
    if quirk.area is not None and quirk.area in names:
        arguments[quirk.area] = size[0] * size[1]
    return arguments


def sources_for(
    pipeline_class: type, sources: Sequence[Any], masks: Sequence[Any] | None, references: Sequence[Any] = ()
) -> dict[str, Any]:
    """The call arguments that hold the source pictures and masks (both already at the working size), and the further
    pictures of a call with one source. A class that takes no mask gets none: it paints the whole, of which the caller
    keeps what is masked."""
    quirk = quirk_of(pipeline_class)
    pictures: Any
    match sources_of(pipeline_class):
        case "each":
            pictures = list(sources)
        case "nested":
            pictures = [[source] for source in sources]
        case "one":
            (source,) = sources
            pictures = [source, *references] if quirk.references and references else source
    arguments = {quirk.source: pictures}
    if masks is not None and "mask_image" in takes(pipeline_class):
        arguments["mask_image"] = list(masks) if isinstance(pictures, list) else masks[0]
    return arguments


def steps_in(pipeline_class: type, arguments: Mapping[str, Any]) -> int:
    """How many steps a call with these arguments takes; 0 if the class does not say."""
    parameter = inspect.signature(pipeline_class.__call__).parameters.get("num_inference_steps")
    steps = arguments.get("num_inference_steps", parameter.default if parameter is not None else 0)
    return steps if isinstance(steps, int) else 0


def _guidance(pipeline_class: type, quirk: Quirk, setting: float | None) -> float:
    if setting is not None or quirk.guidance is None:
        return setting or 0.0
    default = inspect.signature(pipeline_class.__call__).parameters[quirk.guidance].default
    return float(default or 0.0)


def _argument(setting: str, candidates: Sequence[str], names: frozenset[str], pipeline_class: type) -> str:
    for name in candidates:
        if name in names:
            return name
    raise ConfigError(f"{pipeline_class.__name__} takes no {setting}; remove `{setting}` from its table in the profile")
