"""Loading diffusers pipelines: class, weights, device, memory settings, LoRAs, and siblings for other modes.

Imports torch and diffusers: import it lazily.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch

from editors import quirks
from editors.backend import Mode
from redraft.errors import BackendError, ConfigError, ModelMissing, RedraftError, one_line
from redraft.local_models import LOADING, pick_device
from redraft.profiles import BackendConfig, LoraConfig, model_place

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
    try:
        name = diffusers.DiffusionPipeline.load_config(place)["_class_name"]
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
    found = getattr(diffusers, name, None)
    if not isinstance(found, type):
        raise ConfigError(
            f"{config.model!r} is a {name}, which diffusers {diffusers.__version__} does not have; name the class in "
            '`pipeline = "package.module:Class"`, or upgrade diffusers'
        )
    return found


def modes_of(cls: type) -> dict[Mode, type]:
    """Which class serves each mode: the class itself, or a sibling in diffusers' tables that needs no further parts."""
    serving: dict[Mode, type] = dict.fromkeys(quirks.native_modes(cls), cls)
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
    inpainter = quirks.quirk_of(cls).inpainter
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
    if config.trust_remote_code:
        arguments["trust_remote_code"] = True
    if config.quantization != "none":
        arguments["quantization_config"] = _quantization(config, place, device, dtype)
    loader: Any = cls if config.pipeline is not None else diffusers.DiffusionPipeline
    with LOADING, _map_errors(config), _silence():
        pipe = loader.from_pretrained(place, **arguments)
        _check_whole(pipe, config)
        pipe.set_progress_bar_config(disable=True)
        _add_loras(pipe, config.loras)
        place_pipeline(pipe, config, device)
    return pipe


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
        found = getattr(importlib.import_module(module_name), name, None)
    except ImportError as error:
        raise ConfigError(f'pipeline = "{path}": cannot import {module_name}; is it installed? ({error})') from error
    if not (isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline)):
        raise ConfigError(f'pipeline = "{path}": {module_name} has no DiffusionPipeline class named {name}')
    return found


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
    """Raises ModelMissing if a weight file lacked tensors: diffusers leaves them empty and goes on."""
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
    names = []
    for number, lora in enumerate(loras):
        name = f"lora{number}"
        _add_lora(pipe, lora, name)
        names.append(name)
    pipe.set_adapters(names, adapter_weights=[lora.scale for lora in loras])


def _add_lora(pipe: Any, lora: LoraConfig, name: str) -> None:
    if (lora.weight_name or lora.path).endswith(PICKLED):
        raise ConfigError(f"LoRA {lora.path}: pickled weights can run code; give a .safetensors file")
    place = Path(lora.path).expanduser()
    if place.is_dir() and lora.weight_name is None and not list(place.glob("*.safetensors")):
        raise ModelMissing(
            f"LoRA {lora.path}: there is no .safetensors file in this folder; check `path` in the profile"
        )
    if not place.exists() and (lora.path.startswith((".", "/", "~")) or lora.path.count("/") != 1):
        raise ModelMissing(f"LoRA {lora.path}: there is no such file or folder; check `path` in the profile")
    try:
        pipe.load_lora_weights(
            str(place) if place.exists() else lora.path,
            weight_name=lora.weight_name,
            adapter_name=name,
            use_safetensors=True,
        )
    except ImportError as error:
        raise ConfigError(f"LoRAs need the package peft, of the extra lora ({_short(error)})") from error
    except Exception as error:
        raise BackendError(
            f"LoRA {lora.path} does not load into {type(pipe).__name__}; was it made for this model? ({_short(error)})"
        ) from error
    if not any(name in adapters for adapters in pipe.get_list_adapters().values()):
        raise BackendError(f"LoRA {lora.path} has no weights for {type(pipe).__name__}; was it made for this model?")


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
