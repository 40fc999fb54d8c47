"""Language and vision-language models in this process: loading them, and turning requests into their inputs.

Importing this module is cheap; torch and transformers load with the first model.
"""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from PIL import Image

from redraft.chat import choice_ids
from redraft.errors import BackendError, ModelMissing, RedraftError, one_line
from redraft.profiles import ModelConfig, adapter_folder, model_place

if TYPE_CHECKING:
    import torch

    from redraft.chat import ChatRequest


class LoadingLock:
    """A lock that may be entered again by the thread that holds it, and that knows how long it was held in all."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.RLock()
        self._clock = clock
        self._depth = 0
        self._since = 0.0
        self._total = 0.0

    def __enter__(self) -> None:
        self._lock.acquire()
        if self._depth == 0:
            self._since = self._clock()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._total += self._clock() - self._since
        self._lock.release()

    def seconds(self) -> float:
        """Seconds that it was held, up to now. Any thread may ask."""
        return self._total + (self._clock() - self._since if self._depth else 0.0)


LOADING = LoadingLock()
"""Held around every `from_pretrained`, and every first import of a model library, that a thread of ours makes.

Two threads that import transformers and diffusers at once get half a module: Python breaks the deadlock of their import
locks that way ("module 'transformers' has no attribute 'AutoConfig'").

Two threads that meet inside one break it, in ways that outlast both: transformers switches `tie_weights` off for all
models while one loads and puts back what it found, which is the switched-off one if another load was under way.
From then on no model of the process has its tied weights. diffusers loads its text encoders through transformers.
"""


REPLY_TAGS = frozenset(("<think>", "</think>", "<answer>", "</answer>"))
"""What replies are taken apart by: never stripped, even if a tokenizer marks them as special."""


@dataclass(frozen=True)
class Row:
    """A request as a model reads it: its chat template filled in, and its pictures in order."""

    text: str
    images: tuple[Image.Image, ...]


@dataclass(frozen=True)
class LocalModel:
    """A loaded model. `processor` is None for a model that reads text only. `context`: tokens it can take in all. `lock`: for
    a thread that works with it, since several roles may have it: tokenizers and some models (Qwen-VL's positions) keep state
    of the call under way."""

    name: str
    model: Any
    tokenizer: Any
    processor: Any
    context: int
    eos: tuple[int, ...]
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def row(self, request: ChatRequest, template_args: Mapping[str, object]) -> Row:
        """Fills in the chat template. Raises BackendError if the model cannot take such a request."""
        from jinja2 import TemplateError

        images: list[Image.Image] = []
        conversation: list[dict[str, object]] = []
        for message in request.messages:
            parts = (message.content,) if isinstance(message.content, str) else message.content
            pictures = [part for part in parts if not isinstance(part, str)]
            images += [picture if picture.mode == "RGB" else picture.convert("RGB") for picture in pictures]
            # System messages are ours alone. In the others our own words stand beside a user's.
            defuse = self.defuse if message.role != "system" else str
            content: object = "\n".join(defuse(part) for part in parts if isinstance(part, str))
            if self.processor is not None:
                # Templates of vision-language models want lists, some of them even if there is no picture.
                content = [
                    {"type": "text", "text": defuse(part)} if isinstance(part, str) else {"type": "image"}
                    for part in parts
                ]
            conversation.append({"role": message.role, "content": content})
        if images and self.processor is None:
            raise BackendError(f"{self.name} reads text only; a request with a picture needs a vision-language model")
        # A reasoning model would open with its thoughts, whatever the choices are.
        settings = ({"enable_thinking": False} if request.choices else {}) | dict(template_args)
        template = getattr(self.processor, "chat_template", None) or self.tokenizer.chat_template
        if not template:
            raise BackendError(f"{self.name} has no chat template; use an instruction-tuned model, or give it one")
        try:
            text = self.tokenizer.apply_chat_template(
                conversation, chat_template=template, tokenize=False, add_generation_prompt=True, **settings
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise BackendError(f"the chat template of {self.name} refuses the messages: {error}") from error
        return Row(str(text), tuple(images))

    def defuse(self, text: str) -> str:
        """`text` with a space put into each special token it spells out, so that what a user or a picture's text says
        can neither end its own turn nor open another's, nor claim pictures that are not there. Not into the tags of replies,
        which our templates name; styles see to those that a user writes (`rewriter.styles`)."""
        return self._special.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text) if self._special else text

    @cached_property
    def _special(self) -> re.Pattern[str] | None:
        special = {str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        special |= {*self.tokenizer.all_special_tokens, str(getattr(self.processor, "image_token", None) or "")}
        words = sorted((token for token in special - REPLY_TAGS if len(token) > 1), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, words))) if words else None

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of a reply, without special tokens; but the tags of replies are kept, which some tokenizers have among
        them."""
        kept = [token for token in tokens if token not in self._silent]
        return str(self.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    @cached_property
    def _silent(self) -> frozenset[int]:
        tags = set(self.tokenizer.convert_tokens_to_ids(sorted(REPLY_TAGS)))
        spoken = tags - {self.tokenizer.unk_token_id}
        return frozenset(self.tokenizer.all_special_ids) - spoken

    def inputs(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """What the model takes, left-padded, on its device. All rows have the same number of pictures."""
        device, dtype = self.model.device, self.model.dtype
        tensors = self.encode(rows)
        return {n: t.to(device, dtype) if t.is_floating_point() else t.to(device) for n, t in tensors.items()}

    def encode(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """The same before it is moved to the model's device and precision: as the processor makes it."""
        import torch

        # Templates write the special tokens themselves; a second opening token would change every answer.
        settings = {"padding": True, "padding_side": "left", "add_special_tokens": False, "return_tensors": "pt"}
        texts = [row.text for row in rows]
        if self.processor is None:
            made = self.tokenizer(texts, return_token_type_ids=False, **settings)
        elif rows[0].images:
            made = self.processor(text=texts, images=[list(row.images) for row in rows], **settings)
        else:
            made = self.processor(text=texts, **settings)
        return {name: value for name, value in made.items() if isinstance(value, torch.Tensor)}

    def choice_ids(self, choices: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """The tokens that count as each choice (`redraft.chat`). Raises BackendError."""
        return choice_ids(choices, lambda word: self.tokenizer.encode(word, add_special_tokens=False), self.name)


_shared: WeakValueDictionary[tuple[str, ...], LocalModel] = WeakValueDictionary()
"""The models of this process that somebody still holds, by `ModelConfig.weights`."""


def share_local(config: ModelConfig) -> LocalModel:
    """The model of `config`, loaded once for all roles of this process that hold it, and gone with the last of them. Work with it
    under its `lock`, and leave its weights as they are. Raises as `load_local` does."""
    with LOADING:
        model = _shared.get(config.weights)
        if model is None:
            model = _shared[config.weights] = load_local(config)
        return model


def load_local(config: ModelConfig, **settings: object) -> LocalModel:
    """Loads the model of `config`, from safetensors only: pickled weights could run code.

    A folder or hub id whose configuration belongs to an image-text-to-text model gets its processor too. dtype "auto"
    is float32 on a CPU (half precisions are slower there) and the checkpoint's own elsewhere. `settings` go to the
    model's `from_pretrained`. Raises ModelMissing if weights are missing or incomplete, BackendError if they
    cannot be used. An adapter is merged. One model is loaded at a time, whatever thread asks.
    """
    with LOADING:
        return _load(config, **settings)


def _load(config: ModelConfig, **settings: object) -> LocalModel:
    import torch
    import transformers

    place, local = model_place(config.model), config.local
    device = pick_device(local.device)
    dtype = "float32" if local.dtype == "auto" and device.startswith("cpu") else local.dtype
    code = {"trust_remote_code": local.trust_remote_code}
    try:
        with _no_progress_bars():
            hf_config = transformers.AutoConfig.from_pretrained(place, **code)
            sees = _sees(hf_config)
            reads = transformers.AutoProcessor if sees else transformers.AutoTokenizer
            processor = reads.from_pretrained(place, **code)
            auto = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
            model, report = auto.from_pretrained(
                place, dtype=dtype, use_safetensors=True, output_loading_info=True, **code, **settings
            )
            if config.adapter is not None:
                model = _with_adapter(model, config.adapter)
            model = model.to(torch.device(device)).eval()
        _return_memory()
    except RedraftError:
        raise
    except OSError as error:
        raise ModelMissing(
            f"no model could be loaded from {place} ({one_line(error)}); give a folder with config.json, tokenizer and "
            f"*.safetensors, or a hub id that can be reached, as `model` in the profile"
        ) from error
    except ImportError as error:
        raise BackendError(f"{config.model} needs a package that is not installed ({one_line(error)})") from error
    except Exception as error:
        raise BackendError(f"{config.model} cannot be used ({type(error).__name__}: {one_line(error)})") from error
    lost = sorted(str(name) for key in ("missing_keys", "mismatched_keys") for name in report[key])
    if lost:
        # transformers fills them with random numbers and continues.
        raise ModelMissing(
            f"the weights in {place} lack {len(lost)} tensors of {type(model).__name__}, such as {lost[0]}; "
            f"they belong to another config.json, or are incomplete"
        )
    return _finished(config.title, model, processor.tokenizer if sees else processor, processor if sees else None)


def _with_adapter(model: Any, adapter: str) -> Any:
    """`model` with the LoRA adapter merged into its weights: it then runs as fast as without."""
    folder = adapter_folder(adapter)
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft's, about names of transformers
            # peft's own safe_merge copies each matrix: 0.2 GB more at the peak for a model of 0.5 GB.
            merged = PeftModel.from_pretrained(model, folder).merge_and_unload()
        if not all(weight.isfinite().all() for weight in merged.parameters()):
            raise ValueError("weights that are no numbers")
        return merged
    except Exception as error:
        raise BackendError(
            f"the adapter {folder} does not fit {type(model).__name__} ({type(error).__name__}: {one_line(error)}); name the "
            "model that it was trained on"
        ) from error


def _return_memory() -> None:
    """Gives the system back what loading took and freed: glibc keeps it, 0.4 GB after a model of 0.5 GB with an adapter."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def cache_argument(model: Any) -> str:
    """The name under which `model` takes its keys and values: `cache` from transformers 5.24 on, before that (and for
    code that comes with a checkpoint) `past_key_values`."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def cache_of(output: Any) -> Any:
    """The keys and values that a forward pass returned, under either name."""
    return output.cache if hasattr(output, "cache") else output.past_key_values


def pick_device(device: str) -> str:
    """`device`, or for "auto" the best there is: cuda, then mps, then cpu."""
    import torch

    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _finished(name: str, model: Any, tokenizer: Any, processor: Any) -> LocalModel:
    from transformers import GenerationConfig

    ends = model.generation_config.eos_token_id if model.generation_config is not None else None
    eos = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None}
    if tokenizer.pad_token_id is None:
        if not eos:
            raise BackendError(f"the tokenizer of {name} names neither a padding nor an end token; name one")
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(min(eos))
    # A checkpoint's own sampling defaults (a repetition penalty, say) would get mixed into what the request asks for.
    model.generation_config = GenerationConfig(eos_token_id=sorted(eos) or None, pad_token_id=tokenizer.pad_token_id)
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 20
    return LocalModel(name, model, tokenizer, processor, int(context), tuple(sorted(eos)))


def _sees(hf_config: Any) -> bool:
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    own_code = getattr(hf_config, "auto_map", None) or {}
    return type(hf_config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING or "AutoModelForImageTextToText" in own_code


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
