"""Diffusers pipelines: what each class takes (the table of quirks), and loading them: class, weights, parts, scheduler,
cache, adapters, device, memory settings, and siblings for other modes.

Imports torch and diffusers: import it lazily.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import diffusers
import torch

from editors.backend import Ability, Mode
from redraft.errors import BackendError, ConfigError, InputError, ModelMissing, RedraftError, one_line
from redraft.local_models import LOADING, pick_device
from redraft.profiles import BackendConfig, CacheConfig, IPAdapterConfig, LoraConfig, model_place

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
    sizes: str | None = None
    """Where the class's module keeps the sizes that it lays out its source at, as "module:NAME". Edits are drawn at the one
    whose shape is nearest, and stretched back: at any other, what is in the picture shifts."""
    area: str | None = None
    """The argument that takes the wanted area in pixels; without it the class draws at an area of its own."""
    prefix: str = ""
    """Stands before the prompt of an edit."""
    unguided_at: float = 1.0
    """Guidance up to this is off: a negative prompt then does nothing."""
    call: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that are always given. Classes with a prompt rewriter of their own get it switched off here: the prompt
    that is drawn is the one that the run records."""


_QWEN = Quirk(guidance="true_cfg_scale", empty_negative=True)
_QWEN_EDIT = Quirk(guidance="true_cfg_scale", empty_negative=True, sources="one", multiple=32, least_area=MEGAPIXEL)
_FLUX = Quirk(guidance="guidance_scale", negative=False)
_KONTEXT = Quirk(
    guidance="guidance_scale",
    negative=False,
    sources="one",
    area="max_area",
    sizes="diffusers.pipelines.flux.pipeline_flux_kontext:PREFERRED_KONTEXT_RESOLUTIONS",
)
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
    "ErnieImagePipeline": Quirk(call={"use_pe": False}),
    "LongCatImagePipeline": Quirk(call={"enable_prompt_rewrite": False}),
    "OmniGenPipeline": Quirk(
        source="input_images", sources="nested", also_generates=True, prefix="<img><|image_1|></img> "
    ),
    "SanaPipeline": Quirk(packing=1),
    "SanaSprintPipeline": Quirk(packing=1),
    "ZImagePipeline": Quirk(unguided_at=0.0),
    "ZImageImg2ImgPipeline": Quirk(unguided_at=0.0),
    "ZImageInpaintPipeline": Quirk(unguided_at=0.0),
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


def abilities_of(pipeline_class: type, config: BackendConfig | None = None) -> frozenset[Ability]:
    """What can be asked of the class besides a picture, with the settings of `config`."""
    able: set[Ability] = set()
    if "num_inference_steps" in takes(pipeline_class):
        able |= {"steps", "step_count"}
    quirk = quirk_of(pipeline_class)
    if (quirk.guidance or "guidance_scale") in takes(pipeline_class) or "true_cfg_scale" in takes(pipeline_class):
        able.add("guidance")
    if takes_negative(pipeline_class) and is_guided(pipeline_class, None if config is None else config.guidance):
        able.add("negative")
    if config is not None:
        able |= {"references"} if takes_references(pipeline_class, "generate", config) else set()
        able |= {"edit_references"} if takes_references(pipeline_class, "edit", config) else set()
    prepare = getattr(pipeline_class, "prepare_latents", None)
    generates = "generate" in native_modes(pipeline_class)
    if generates and prepare is not None and "generator" in inspect.signature(prepare).parameters:
        able.add("noise")
    return frozenset(able)


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
    """True if the class takes negative prompts to some effect."""
    return quirk_of(pipeline_class).negative is not False and "negative_prompt" in takes(pipeline_class)


def is_guided(pipeline_class: type, guidance: float | None) -> bool:
    """Whether guidance is on at this setting (None: the class's default). Without it a negative prompt does nothing, as with
    distilled weights (SDXL Turbo and Lightning, Z-Image-Turbo)."""
    quirk = quirk_of(pipeline_class)
    if guidance is None:
        parameters = inspect.signature(pipeline_class.__call__).parameters
        names = [quirk.guidance] if quirk.guidance else ["guidance_scale", "true_cfg_scale"]
        default = next((parameters[name].default for name in names if name in parameters), None)
        if not isinstance(default, int | float):
            return True  # the class decides for itself
        guidance = float(default)
    return guidance > quirk.unguided_at


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
    if quirk.sizes is not None:
        module, _, name = quirk.sizes.partition(":")
        sizes: list[tuple[int, int]] = getattr(importlib.import_module(module), name)
        aspect = size[0] / size[1]
        return min(sizes, key=lambda other: (abs(aspect - other[0] / other[1]), other))
    area = size[0] * size[1]
    wanted = min(max(area, quirk.least_area), quirk.most_area)
    scale = max((wanted / area) ** 0.5, quirk.least_side / min(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def settings_for(pipeline_class: type, mode: Mode, config: BackendConfig) -> dict[str, Any]:
    """The call arguments that the profile's settings become. Raises ConfigError for a setting that the class has
    no argument for, so that none is silently without effect."""
    names, quirk = takes(pipeline_class), quirk_of(pipeline_class)
    arguments: dict[str, Any] = {name: value for name, value in quirk.call.items() if name in names}
    for name, value in config.call.items():
        if name in _OURS or name not in names:
            why = (
                "is set by redraft from the request and the profile" if name in _OURS else "is no argument of the class"
            )
            raise ConfigError(f"call: {name} {why} ({pipeline_class.__name__}); remove it from `call` in the profile")
        arguments[name] = value
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


def takes_references(pipeline_class: type, mode: Mode, config: BackendConfig) -> bool:
    """Whether further pictures reach the model: behind the source of an edit, or when it draws."""
    quirk = quirk_of(pipeline_class)
    if mode == "generate" and config.ip_adapter is not None:
        return "ip_adapter_image" in takes(pipeline_class)
    return quirk.references and (mode != "generate" or quirk.also_generates)


def references_for(pipeline_class: type, references: Sequence[Any], config: BackendConfig) -> dict[str, Any]:
    """The call arguments that hold the reference pictures of a drawing of one prompt."""
    if config.ip_adapter is not None:
        return {"ip_adapter_image": [list(references)]}  # one list for each adapter
    return {quirk_of(pipeline_class).source: list(references)}


def steps_in(pipeline_class: type, arguments: Mapping[str, Any]) -> int:
    """How many steps a call with these arguments takes; 0 if the class does not say."""
    parameter = inspect.signature(pipeline_class.__call__).parameters.get("num_inference_steps")
    steps = arguments.get("num_inference_steps", parameter.default if parameter is not None else 0)
    return steps if isinstance(steps, int) else 0


@contextmanager
def mixed_noise(pipe: Any, recipes: Sequence[Sequence[tuple[int, float]]]) -> Iterator[None]:
    """Within it, the pipeline's noise of each picture of a batch is mixed as its recipe says (see `ImageTask.noise`); the
    other pictures of the batch keep theirs to the bit."""
    if not any(recipes):
        yield
        return
    prepare = pipe.prepare_latents
    signature = inspect.signature(prepare)

    def mix(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        made = prepare(*bound.args, **bound.kwargs)
        whole = made if isinstance(made, tuple) else (made,)
        latents = whole[0].clone()
        for turn in range(max(map(len, recipes))):
            seeds = [recipe[turn][0] if turn < len(recipe) else 0 for recipe in recipes]
            bound.arguments["generator"] = [torch.Generator("cpu").manual_seed(seed % 2**64) for seed in seeds]
            other = prepare(*bound.args, **bound.kwargs)
            other = other[0] if isinstance(other, tuple) else other
            for row, recipe in enumerate(recipes):
                if turn < len(recipe):
                    share = recipe[turn][1]
                    latents[row] = (1 - share**2) ** 0.5 * latents[row] + share * other[row]
        return (latents, *whole[1:]) if isinstance(made, tuple) else latents

    pipe.prepare_latents = mix
    try:
        yield
    finally:
        del pipe.prepare_latents


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


_OURS = frozenset(
    {
        "callback_on_step_end",
        "generator",
        "guidance_scale",
        "height",
        "image",
        "input_images",
        "ip_adapter_image",
        "mask_image",
        "negative_prompt",
        "num_images_per_prompt",
        "num_inference_steps",
        "output_type",
        "prompt",
        "return_dict",
        "strength",
        "width",
    }
)
"""Arguments of pipelines that come from the task and the profile's own settings, never from `call`."""

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

_AUTO: dict[Mode, str] = {
    "generate": "AutoPipelineForText2Image",
    "edit": "AutoPipelineForImage2Image",
    "inpaint": "AutoPipelineForInpainting",
}

OUT_OF_MEMORY_ADVICE = (
    'draw fewer at once (`batch_size`), smaller (`width`, `height`), offload weights (`offload = "model"` or '
    '"sequential"), quantise them (`quantization = "nf4"`), or use a smaller model'
)


def find_device(config: BackendConfig) -> torch.device:
    """The device a profile names; "auto" is the best there is. Raises ConfigError if it is not there."""
    name = pick_device(config.device)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device {name!r} cannot be used here; set `device` to auto, cpu or cuda ({error})"
        ) from error
    return device


def pick_dtype(config: BackendConfig, device: torch.device) -> torch.dtype:
    """The number format a profile names; "auto": bfloat16 on a GPU that has it, float16 on others, float32 on a CPU."""
    if config.dtype != "auto":
        dtype = getattr(torch, config.dtype)
        assert isinstance(dtype, torch.dtype)
        return dtype
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if device.type != "cuda" or torch.cuda.is_bf16_supported() else torch.float16


def pipeline_class(config: BackendConfig) -> type | None:
    """The class of a profile's pipeline, found without loading weights; None if its code lies beside the weights.

    Reads the folder's `model_index.json`; for a hub id fetches that one file. Raises ModelMissing, ConfigError.
    """
    if config.pipeline is not None:
        return _import_class(config.pipeline)
    place = model_place(config.model)
    if place.endswith(".safetensors"):
        raise ConfigError(
            f"{config.model!r} is a single file, which does not say what it is; name its class in `pipeline`, such as "
            '"diffusers:StableDiffusionXLPipeline"'
        )
    try:
        name = diffusers.DiffusionPipeline.load_config(place, revision=config.revision)["_class_name"]
    except Exception as error:
        raise ModelMissing(
            f"there is no pipeline at {config.model!r}: its model_index.json cannot be read; check `model` in the "
            f"profile, or download it first ({_short(error)})"
        ) from error
    if not isinstance(name, str):
        if not config.trust_remote_code:
            raise ConfigError(
                f"{config.model!r} brings code of its own to run; read it, then set trust_remote_code = true for it"
            )
        return None
    kind = getattr(diffusers, name, None)
    if not isinstance(kind, type):
        raise ConfigError(
            f"{config.model!r} is a {name}, which diffusers {diffusers.__version__} does not have; name the class in "
            '`pipeline = "package.module:Class"`, or upgrade diffusers'
        )
    return kind


def modes_of(cls: type) -> dict[Mode, type]:
    """Which class serves each mode: the class itself, or a sibling in diffusers' tables that needs no further parts."""
    serving: dict[Mode, type] = dict.fromkeys(native_modes(cls), cls)
    if "inpaint" in serving and "edit" not in serving:
        return serving  # a checkpoint for inpainting has input channels for the mask: its parts make up no other class
    if not cls.__module__.startswith("diffusers."):
        return _with_masks(serving)
    tables = family_tables()
    family = next((key for table in tables.values() for key, known in table.items() if known is cls), None)
    for mode, table in tables.items():
        sibling = table.get(family or "")
        if sibling is not None and mode not in serving and _needs(sibling) <= _parts(cls):
            serving[mode] = sibling
    inpainter = quirk_of(cls).inpainter
    if inpainter is not None:
        serving["inpaint"] = getattr(diffusers, inpainter)
    return _with_masks(serving)


def _with_masks(serving: dict[Mode, type]) -> dict[Mode, type]:
    """Who can edit can fill a mask: by an edit of the whole, of which only what is masked is kept."""
    if "edit" in serving:
        serving.setdefault("inpaint", serving["edit"])
    return serving


def load_pipeline(config: BackendConfig) -> Any:
    """The profile's pipeline, with its weights on its device. Raises ModelMissing, ConfigError or BackendError."""
    device = find_device(config)
    dtype = pick_dtype(config, device)
    if config.offload != "none" and device.type == "cpu":
        raise ConfigError(f'offload = "{config.offload}" needs a GPU; remove it from the profile to run on the CPU')
    cls = pipeline_class(config)
    place = model_place(config.model)
    arguments: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
    arguments |= {k: v for k in ("variant", "revision") if (v := getattr(config, k)) is not None}
    if config.trust_remote_code:
        arguments["trust_remote_code"] = True
    if config.quantization != "none":
        arguments["quantization_config"] = _quantization(config, place, device, dtype)
    loader: Any = cls if config.pipeline is not None else diffusers.DiffusionPipeline
    with LOADING, _map_errors(config), _silence():
        arguments |= {name: _load_part(name, path, config, dtype) for name, path in config.parts.items()}
        if place.endswith(".safetensors"):
            pipe = _load_single_file(loader, place, config, arguments)
        else:
            pipe = loader.from_pretrained(place, **arguments)
        _check_whole(pipe, config)
        _check_parts(pipe, config)
        pipe.set_progress_bar_config(disable=True)
        _set_scheduler(pipe, config)
        _add_loras(pipe, config.loras)
        _add_ip_adapter(pipe, config.ip_adapter)
        _enable_cache(pipe, config.cache)
        _set_vae(pipe, config)
        place_pipeline(pipe, config, device)
    return pipe


def _load_part(name: str, path: str, config: BackendConfig, dtype: torch.dtype) -> Any:
    """One part of a pipeline, from a folder or hub id of its own; its class is read from its config."""
    arguments: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
    if config.quantization != "none" and name.startswith(("transformer", "unet", "text_encoder")):
        library = "transformers" if name.startswith("text_encoder") else "diffusers"
        arguments["quantization_config"] = _quantized(config.quantization, library, dtype)
    place = model_place(path)
    try:
        return diffusers.AutoModel.from_pretrained(place, **arguments)
    except OSError as error:
        raise ModelMissing(
            f"part {name}: no safetensors weights with a config.json can be read at {path!r}; check `parts` in the profile "
            f"({_short(error)})"
        ) from error


def _check_parts(pipe: Any, config: BackendConfig) -> None:
    """Raises ConfigError for a part that the pipeline has no place for: diffusers ignores it with a warning."""
    for name in config.parts:
        if name not in pipe.components:
            known = ", ".join(pipe.components)
            raise ConfigError(f"parts: {type(pipe).__name__} has no {name}; its parts are {known}")


def _load_single_file(cls: Any, place: str, config: BackendConfig, arguments: Mapping[str, Any]) -> Any:
    """A pipeline of one checkpoint file, as people share them for Stable Diffusion."""
    if not hasattr(cls, "from_single_file"):
        raise ConfigError(f"{cls.__name__} does not load from a single file; give a folder as `model`")
    if config.quantization != "none":
        raise ConfigError(
            "a single file cannot be quantised while it loads; save it as a folder with `save_pretrained` first"
        )
    further = {name: value for name, value in arguments.items() if name not in ("dtype", "use_safetensors", "variant")}
    if config.single_file_config is not None:
        further["config"] = model_place(config.single_file_config)
    return cls.from_single_file(place, torch_dtype=arguments["dtype"], **further)


def _set_scheduler(pipe: Any, config: BackendConfig) -> None:
    """Replaces the scheduler, or changes its settings. Raises ConfigError for names and settings that diffusers lacks."""
    if config.scheduler is None and not config.scheduler_args:
        return
    cls: Any = type(pipe.scheduler)
    if config.scheduler is not None:
        cls = getattr(diffusers, config.scheduler, None) if config.scheduler.endswith("Scheduler") else None
        if not isinstance(cls, type) or not issubclass(cls, diffusers.SchedulerMixin):
            raise ConfigError(
                f'scheduler = "{config.scheduler}": diffusers {diffusers.__version__} has no scheduler of this name; names '
                "are such as LCMScheduler"
            )
    known = inspect.signature(cls.__init__).parameters
    unknown = [name for name in config.scheduler_args if name not in known]
    if unknown:
        raise ConfigError(
            f"scheduler_args: {cls.__name__} has no setting {', '.join(unknown)}; it has {', '.join(known)}"
        )
    pipe.register_modules(scheduler=cls.from_config(pipe.scheduler.config, **config.scheduler_args))


_CACHES = {
    "first_block": "FirstBlockCacheConfig",
    "sea": "SeaCacheConfig",
    "taylorseer": "TaylorSeerCacheConfig",
}


def denoiser_of(pipe: Any) -> tuple[str, Any]:
    """Name and module of the part that denoises."""
    name = "transformer" if getattr(pipe, "transformer", None) is not None else "unet"
    return name, getattr(pipe, name, None)


def _enable_cache(pipe: Any, cache_config: CacheConfig | None) -> None:
    if cache_config is None:
        return
    _, denoiser = denoiser_of(pipe)
    if not isinstance(denoiser, diffusers.CacheMixin):
        raise ConfigError(f"{type(denoiser).__name__} has no cache in diffusers; remove `cache` from the profile")
    cls = getattr(diffusers, _CACHES[cache_config.kind])
    settings = cache_config.model_dump(exclude={"kind"}, exclude_none=True)
    try:
        denoiser.enable_cache(cls(**settings))
    except TypeError as error:
        names = ", ".join(inspect.signature(cls).parameters)
        raise ConfigError(f'cache: kind = "{cache_config.kind}" takes {names} ({error})') from error


def _set_vae(pipe: Any, config: BackendConfig) -> None:
    """Decodes a batch picture by picture, which costs no time worth naming and saves memory; in tiles if asked to."""
    vae: Any = getattr(pipe, "vae", None)
    if hasattr(vae, "enable_slicing"):
        vae.enable_slicing()
    if config.vae_tiling:
        if not hasattr(vae, "enable_tiling"):
            raise ConfigError(f"the VAE of {config.model!r} decodes no tiles; remove `vae_tiling` from the profile")
        vae.enable_tiling()


def _add_ip_adapter(pipe: Any, adapter: IPAdapterConfig | None) -> None:
    if adapter is None:
        return
    if not hasattr(pipe, "load_ip_adapter"):
        raise ConfigError(f"{type(pipe).__name__} takes no IP-Adapter; remove `ip_adapter` from the profile")
    if adapter.weight_name.endswith(PICKLED):
        raise ConfigError(f"IP-Adapter {adapter.weight_name}: pickled weights can run code; give a .safetensors file")
    try:
        pipe.load_ip_adapter(model_place(adapter.model), subfolder=adapter.subfolder, weight_name=adapter.weight_name)
    except RedraftError:
        raise
    except Exception as error:
        raise BackendError(
            f"IP-Adapter {adapter.model} does not load into {type(pipe).__name__}; was it made for this model? "
            f"({_short(error)})"
        ) from error
    pipe.set_ip_adapter_scale(adapter.scale)


def place_pipeline(pipe: Any, config: BackendConfig, device: torch.device) -> None:
    """Puts a pipeline on its device, in the way `offload` says."""
    match config.offload:
        case "none":
            pipe.to(device)
        case "model":
            pipe.enable_model_cpu_offload(device=device)
        case "sequential":
            pipe.enable_sequential_cpu_offload(device=device)
        case "group":
            pipe.enable_group_offload(onload_device=device, offload_type="leaf_level", use_stream=device.type == "cuda")


def make_sibling(pipe: Any, mode: Mode, cls: type, config: BackendConfig) -> Any:
    """A pipeline of class `cls` for `mode`, made of the parts of `pipe`: no weights are loaded or copied."""
    if type(pipe) is cls:
        return pipe
    with LOADING, _map_errors(config), _silence():
        if cls in family_tables()[mode].values():
            other = getattr(diffusers, _AUTO[mode]).from_pipe(pipe)
        else:
            # Not the class's own from_pipe, which casts the weights, shared as they are, to float32.
            parts, settings = cls._get_signature_keys(cls)  # type: ignore[attr-defined]
            known = dict(pipe.config) | pipe.components
            other = cls(**{name: known[name] for name in (*parts, *settings) if name in known})
        other.set_progress_bar_config(disable=True)
    return other


def is_out_of_memory(error: BaseException) -> bool:
    """True for the ways in which torch says that memory ran out, on GPU and CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error).lower() for words in ("out of memory", "can't allocate memory", "alloc_failed")
    )


def free_memory() -> None:
    """Gives cached device memory back."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _import_class(path: str) -> type:
    module_name, colon, name = path.partition(":")
    if not colon or not module_name or not name:
        raise ConfigError(f'pipeline = "{path}" is not a dotted path; write it as "package.module:Class"')
    try:
        kind = getattr(importlib.import_module(module_name), name, None)
    except ImportError as error:
        raise ConfigError(f'pipeline = "{path}": cannot import {module_name}; is it installed? ({error})') from error
    if not (isinstance(kind, type) and issubclass(kind, diffusers.DiffusionPipeline)):
        raise ConfigError(f'pipeline = "{path}": {module_name} has no DiffusionPipeline class named {name}')
    return kind


def family_tables() -> dict[Mode, Mapping[str, type]]:
    """diffusers' own tables: for each mode, model family to class.

    Importing them imports every pipeline, which takes seconds and warns about packages that some of them need.
    """
    with _silence(warnings=False):
        from diffusers.pipelines import auto_pipeline
    return {
        "generate": auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING,
        "edit": auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
        "inpaint": auto_pipeline.AUTO_INPAINT_PIPELINES_MAPPING,
    }


def _parts(cls: type) -> frozenset[str]:
    return frozenset(cls._get_signature_keys(cls)[0])  # type: ignore[attr-defined]


def _needs(cls: type) -> frozenset[str]:
    return _parts(cls) - frozenset(cls._optional_components)  # type: ignore[attr-defined]


def _check_whole(pipe: Any, config: BackendConfig) -> None:
    """Raises ModelMissing if a weight file lacked tensors: diffusers leaves them empty and continues."""
    for part, module in pipe.components.items():
        if isinstance(module, torch.nn.Module):
            empty = [name for name, tensor in module.named_parameters() if tensor.is_meta]
            if empty:
                raise ModelMissing(
                    f"the weights of {config.model!r} are incomplete: {part} lacks {len(empty)} tensors, such as "
                    f"{empty[0]}; download or copy the model again"
                )


def _quantization(config: BackendConfig, place: str, device: torch.device, dtype: torch.dtype) -> Any:
    """Quantises the denoiser and the text encoders, which hold nearly all weights; a VAE would lose detail."""
    parts = {
        name: value[0]
        for name, value in diffusers.DiffusionPipeline.load_config(place).items()
        if name.startswith(("transformer", "unet", "text_encoder")) and isinstance(value, list | tuple) and value[0]
    }
    package = "bitsandbytes" if config.quantization == "nf4" else "torchao"
    if config.quantization != "int8" and device.type == "cpu":
        raise ConfigError(f'quantization = "{config.quantization}" needs a GPU; "int8" runs on a CPU too')
    if config.quantization == "int4" and dtype != torch.bfloat16:
        raise ConfigError('quantization = "int4" needs dtype = "bfloat16"')
    try:
        importlib.import_module(package)
        return diffusers.PipelineQuantizationConfig(
            quant_mapping={name: _quantized(config.quantization, library, dtype) for name, library in parts.items()}
        )
    except ImportError as error:
        raise ConfigError(
            f'quantization = "{config.quantization}" needs the package {package} of the extra quantize ({_short(error)})'
        ) from error


def _quantized(kind: str, library: str, dtype: torch.dtype) -> Any:
    """The settings of one part, in the words of the library it is from."""
    words = importlib.import_module(library if library == "transformers" else "diffusers")
    if kind == "nf4":
        return words.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    ways = importlib.import_module("torchao.quantization")
    if kind == "int8":
        return words.TorchAoConfig(ways.Int8WeightOnlyConfig())
    # The one packing whose kernels come with torch itself; the others want a further package.
    return words.TorchAoConfig(ways.Int4WeightOnlyConfig(int4_packing_format="tile_packed_to_4d"))


def _add_loras(pipe: Any, loras: tuple[LoraConfig, ...]) -> None:
    if not loras:
        return
    if not hasattr(pipe, "load_lora_weights"):
        raise ConfigError(f"{type(pipe).__name__} takes no LoRA; remove `loras` from the profile")
    weights = {}
    for number, lora in enumerate(loras):
        name = f"lora{number}"
        weights[name] = _add_lora(pipe, lora, name)
    pipe.set_adapters(list(weights), adapter_weights=list(weights.values()))


def _add_lora(pipe: Any, lora: LoraConfig, name: str) -> float:
    """Loads one adapter; gives the weight at which it is used."""
    if (lora.weight_name or lora.path).endswith(PICKLED):
        raise ConfigError(f"LoRA {lora.path}: pickled weights can run code; give a .safetensors file")
    place = Path(lora.path).expanduser()
    if place.is_dir() and lora.weight_name is None and not list(place.glob("*.safetensors")):
        raise ModelMissing(
            f"LoRA {lora.path}: there is no .safetensors file in this folder; check `path` in the profile"
        )
    if not place.exists() and (lora.path.startswith((".", "/", "~")) or lora.path.count("/") != 1):
        raise ModelMissing(f"LoRA {lora.path}: there is no such file or folder; check `path` in the profile")
    weight = lora.scale
    try:
        peft = _read_peft_config(str(place) if place.exists() else lora.path)
        if peft is None:
            source: Any = str(place) if place.exists() else lora.path
            further = {"weight_name": lora.weight_name, "use_safetensors": True}
        else:
            weight *= _peft_scaling(peft, lora)
            source, further = _peft_tensors(pipe, lora), {}
        pipe.load_lora_weights(source, adapter_name=name, **further)
    except RedraftError:
        raise
    except ImportError as error:
        raise ConfigError(f"LoRAs need the package peft, of the extra lora ({_short(error)})") from error
    except Exception as error:
        raise BackendError(
            f"LoRA {lora.path} does not load into {type(pipe).__name__}; was it made for this model? ({_short(error)})"
        ) from error
    if not any(name in adapters for adapters in pipe.get_list_adapters().values()):
        raise BackendError(f"LoRA {lora.path} has no weights for {type(pipe).__name__}; was it made for this model?")
    return weight


def _read_peft_config(place: str) -> Mapping[str, Any] | None:
    """The adapter_config.json of an adapter in PEFT's format; None if it is in diffusers' format."""
    if Path(place).is_file():
        return None
    from transformers.utils import cached_file

    path = cached_file(
        place,
        "adapter_config.json",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    if path is None:
        return None
    config = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise ConfigError(f"LoRA {place}: its adapter_config.json is no JSON object; download it again")
    return config


def _peft_scaling(config: Mapping[str, Any], lora: LoraConfig) -> float:
    """The factor of A B in PEFT: lora_alpha / r, or lora_alpha / sqrt(r) with rank-stabilised LoRA.

    Raises ConfigError for adapters that are more than A B on the denoiser's layers.
    """
    kind = str(config.get("peft_type", "LORA"))
    extras = [name for name in ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern") if config.get(name)]
    if kind != "LORA" or extras:
        what = kind if kind != "LORA" else ", ".join(extras)
        raise ConfigError(
            f"LoRA {lora.path}: {what} cannot be loaded into a pipeline; merge the adapter (`merge_and_unload`), save the "
            "denoiser, and name its folder in `parts`"
        )
    rank = float(config["r"])
    return float(config.get("lora_alpha", rank)) / (rank**0.5 if config.get("use_rslora") else rank)


def _peft_tensors(pipe: Any, lora: LoraConfig) -> dict[str, torch.Tensor]:
    """The adapter's tensors under the names that diffusers expects: PEFT calls the adapted model `base_model.model`."""
    from safetensors.torch import load_file
    from transformers.utils import cached_file

    place = Path(lora.path).expanduser()
    file = lora.weight_name or "adapter_model.safetensors"
    path = cached_file(str(place) if place.exists() else lora.path, file)
    denoiser, _ = denoiser_of(pipe)
    return {
        f"{denoiser}.{name.removeprefix('base_model.model.')}": tensor for name, tensor in load_file(str(path)).items()
    }


@contextmanager
def _map_errors(config: BackendConfig) -> Iterator[None]:
    """Maps what diffusers raises while loading to our errors."""
    try:
        yield
    except RedraftError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise BackendError(f"{config.model!r} does not fit into memory; {OUT_OF_MEMORY_ADVICE}") from error
        if isinstance(error, ImportError):
            raise ConfigError(f"{config.model!r} needs a package that is not installed: {_short(error)}") from error
        if isinstance(error, OSError):
            raise ModelMissing(
                f"weights of {config.model!r} are missing or cannot be read; only safetensors are loaded (pickled .bin "
                f"weights can run code; save them again with `save_pretrained`) ({_short(error)})"
            ) from error
        raise BackendError(f"{config.model!r} cannot be loaded: {_short(error)}") from error


@contextmanager
def _silence(*, warnings: bool = True) -> Iterator[None]:
    """Without the libraries' own progress bars, which would write over ours; and, if asked, without their warnings."""
    from transformers.utils import logging as transformers_logging

    switches = [diffusers.utils.logging, transformers_logging]
    on = [switch for switch in switches if switch.is_progress_bar_enabled()]
    loudness = [(switch, switch.get_verbosity()) for switch in switches]
    for switch in on:
        switch.disable_progress_bar()
    if not warnings:
        for switch in switches:
            switch.set_verbosity_error()
    try:
        yield
    finally:
        for switch, level in loudness:
            switch.set_verbosity(level)
        for switch in on:
            switch.enable_progress_bar()


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(error)}"
