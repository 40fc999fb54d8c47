"""Yes/no probabilities from a vision-language model in this process, the picture and the shared text computed once.

Importing this module imports torch; `evaluator.local_judge` does so in its worker thread.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from core.choices import choice_ids
from core.errors import BackendError, ModelMissing
from core.profiles import ModelConfig, model_place

Tensors = dict[str, torch.Tensor]
YesNo = tuple[float, float]

_MAX_ROWS = 64
"""Most questions in one forward pass: each row holds a copy of its picture's keys and values."""


@dataclass(frozen=True)
class VLM:
    """A loaded model of any transformers image-text-to-text class, its processor, and the ids that say yes and no."""

    model: Any
    processor: Any
    yes: tuple[int, ...]
    no: tuple[int, ...]

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @property
    def tolerance(self) -> float:
        """How far two right ways of computing one probability may lie apart in the model's precision."""
        return 1e-3 if self.model.dtype == torch.float32 else 0.1


@dataclass(frozen=True)
class Encoded:
    """One picture with its questions: the model's inputs for what they share (batch of 1, P tokens), and each
    question's own tokens. Prefix and suffix together are exactly the tokens of the whole text."""

    prefix: Tensors
    suffixes: tuple[tuple[int, ...], ...]

    @property
    def shape(self) -> tuple[object, ...]:
        """Equal for pictures whose prefixes can run as one batch."""
        return tuple((name, value.shape[1:]) for name, value in sorted(self.prefix.items()))


def load_vlm(config: ModelConfig) -> VLM:
    """Raises ModelMissing where the weights are not there, BackendError where they cannot be used."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    place, local = model_place(config.model), config.local
    device = local.device if local.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    # On a CPU the half precisions that checkpoints are saved in are slower than float32.
    dtype = "float32" if local.dtype == "auto" and device == "cpu" else local.dtype
    remote = {"trust_remote_code": local.trust_remote_code}
    try:
        processor = AutoProcessor.from_pretrained(place, **remote)
        model = AutoModelForImageTextToText.from_pretrained(place, dtype=dtype, **remote).to(device).eval()
    except OSError as error:
        raise ModelMissing(
            f"the judge model {config.model} cannot be loaded: {error}; check `model` in [judge]"
        ) from error
    except Exception as error:
        raise BackendError(f"the judge model {config.model} cannot be used: {type(error).__name__}: {error}") from error
    ids = choice_ids(
        ("yes", "no"), lambda text: processor.tokenizer.encode(text, add_special_tokens=False), config.model
    )
    return VLM(model, processor, ids["yes"], ids["no"])


def encode(vlm: VLM, image: Image.Image, texts: Sequence[str]) -> Encoded:
    """Splits the model's inputs for `image` and each of `texts` into what all share and what each has of its own.

    The shared part is the longest common run of tokens, so it is exact whatever the chat template is. The picture is
    processed once, unless the processor changes text beside the picture (Gemma 3 adds line ends).
    """
    tokenizer = vlm.processor.tokenizer
    rendered = [render(vlm, text) for text in texts]
    plain = [tuple(tokenizer.encode(text, add_special_tokens=False)) for text in rendered]
    first = inputs_for(vlm, image, rendered[0])
    length = _common(plain)
    tail = plain[0][length:]
    whole = first["input_ids"][0].tolist()
    # The last shared token must be the same one in both, or what the processor put there could join with a question.
    if length == 0 or tuple(whole[-len(tail) - 1 :]) != plain[0][length - 1 :]:
        each = [first, *(inputs_for(vlm, image, text) for text in rendered[1:])]
        plain = [tuple(inputs["input_ids"][0].tolist()) for inputs in each]
        length = _common(plain)
        tail = plain[0][length:]
    shared = len(whole) - len(tail)
    suffixes = tuple(tokens[length:] for tokens in plain)
    prefix = {
        name: value[:, :shared] if value.shape == first["input_ids"].shape else value for name, value in first.items()
    }
    return Encoded(prefix, suffixes)


def answer_shared(vlm: VLM, batch: Sequence[Encoded]) -> list[list[YesNo]]:
    """(P(yes), P(no)) of each question of each picture; all pictures of `batch` have the same `shape`.

    One forward pass over the shared parts, then one for every _MAX_ROWS questions over their own tokens only,
    right-padded: a causal model never looks ahead to the padding.
    """
    prefix = {name: torch.cat([encoded.prefix[name] for encoded in batch]) for name in batch[0].prefix}
    rows = [(picture, suffix) for picture, encoded in enumerate(batch) for suffix in encoded.suffixes]
    answers: list[list[YesNo]] = [[] for _ in batch]
    with torch.inference_mode():
        cache = vlm.model(**_on(vlm, prefix), use_cache=True, logits_to_keep=1).past_key_values
        chunks = [rows[start : start + _MAX_ROWS] for start in range(0, len(rows), _MAX_ROWS)]
        for chunk in chunks:
            own = cache if chunk is chunks[-1] else copy.deepcopy(cache)
            for (picture, _), answer in zip(chunk, _answer_rows(vlm, prefix, own, chunk), strict=True):
                answers[picture].append(answer)
    return answers


def answer_plain(vlm: VLM, image: Image.Image, text: str) -> YesNo:
    """(P(yes), P(no)) of one question by one forward pass over everything: what `answer_shared` must agree with."""
    with torch.inference_mode():
        inputs = _on(vlm, inputs_for(vlm, image, render(vlm, text)))
        logits = vlm.model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
        return _yes_no(vlm, logits)[0]


def render(vlm: VLM, text: str) -> str:
    """One user turn of a picture and `text`, and the opening of the reply, in the model's chat template."""
    content = [{"type": "image"}, {"type": "text", "text": defused(vlm, text)}]
    rendered: str = vlm.processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    return rendered


def defused(vlm: VLM, text: str) -> str:
    """`text` with a space put into every control token of the model that it spells out, so that a prompt can neither
    end its turn nor claim further pictures."""
    tokenizer = vlm.processor.tokenizer
    control = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    control |= {*tokenizer.all_special_tokens, str(getattr(vlm.processor, "image_token", None) or "")}
    for token in sorted(control - {""}, key=len, reverse=True):
        if len(token) > 1:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def inputs_for(vlm: VLM, image: Image.Image, rendered: str) -> Tensors:
    """The model's inputs, a batch of 1, on the CPU: whatever the processor makes of a picture and its rendered text."""
    bos = vlm.processor.tokenizer.bos_token
    # As the processor's own apply_chat_template does: a template that writes the opening token must not get a second.
    options = {"add_special_tokens": False} if bos and rendered.startswith(bos) else {}
    made = vlm.processor(text=[rendered], images=[image.convert("RGB")], return_tensors="pt", **options)
    return {name: value for name, value in made.items() if isinstance(value, torch.Tensor)}


def _answer_rows(vlm: VLM, prefix: Tensors, cache: Any, rows: Sequence[tuple[int, tuple[int, ...]]]) -> list[YesNo]:
    pictures = torch.tensor([picture for picture, _ in rows], device=vlm.device)
    lengths = torch.tensor([len(suffix) for _, suffix in rows])
    width, shared = int(lengths.max()), prefix["input_ids"].shape[1]
    pad = vlm.processor.tokenizer.pad_token_id or 0
    ids = torch.tensor([[*suffix, *[pad] * (width - len(suffix))] for _, suffix in rows])
    mask = torch.ones(len(rows), shared + width, dtype=torch.long)
    mask[:, shared:] = torch.arange(width) < lengths[:, None]
    _repeat(cache, pictures)
    inputs = {"input_ids": ids, "attention_mask": mask}
    positions = _mrope_positions(vlm, pictures, shared, width)
    if positions is not None:
        inputs["position_ids"] = positions
    ends, which = torch.unique(lengths - 1, return_inverse=True)
    output = vlm.model(**_on(vlm, inputs), past_key_values=cache, use_cache=True, logits_to_keep=ends.to(vlm.device))
    return _yes_no(vlm, output.logits[torch.arange(len(rows)), which])


def _repeat(cache: Any, pictures: torch.Tensor) -> None:
    """Gives each row its picture's states. Unlike the cache's own batch_repeat_interleave, this reaches the states of
    every kind of layer, takes several pictures, and copies nothing where there is one picture in plain layers."""
    from transformers.cache_utils import DynamicLayer

    for layer in cache.layers:
        if type(layer) is DynamicLayer and layer.get_seq_length() and len(layer.keys) == 1:
            layer.keys = layer.keys.expand(len(pictures), -1, -1, -1)
            layer.values = layer.values.expand(len(pictures), -1, -1, -1)
        else:
            layer.reorder_cache(pictures)


def _mrope_positions(vlm: VLM, pictures: torch.Tensor, shared: int, width: int) -> torch.Tensor | None:
    """Positions (3, rows, width) for models that count a picture's positions in three directions (Qwen-VL).

    There, text goes on from where the picture's grid ends, `rope_deltas` away from the number of tokens. None for all
    other models, which count by themselves.
    """
    deltas: torch.Tensor | None = getattr(getattr(vlm.model, "model", None), "rope_deltas", None)
    if deltas is None:
        return None
    steps = torch.arange(shared, shared + width, device=vlm.device)
    return (steps + deltas.to(vlm.device).reshape(-1, 1)[pictures]).expand(3, -1, -1)


def _yes_no(vlm: VLM, logits: torch.Tensor) -> list[YesNo]:
    logs = logits.float().log_softmax(-1)
    yes, no = (logs[:, list(ids)].exp().sum(-1).tolist() for ids in (vlm.yes, vlm.no))
    return list(zip(yes, no, strict=True))


def _common(sequences: Sequence[tuple[int, ...]]) -> int:
    """Length of the longest common prefix that leaves each sequence a token of its own."""
    limit = min(len(tokens) for tokens in sequences) - 1
    for index, column in zip(range(limit), zip(*sequences, strict=False), strict=False):
        if len(set(column)) > 1:
            return index
    return max(limit, 0)


def _on(vlm: VLM, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """`tensors` on the model's device, those of fractions in its precision."""
    return {
        name: value.to(vlm.device, vlm.model.dtype) if value.is_floating_point() else value.to(vlm.device)
        for name, value in tensors.items()
    }
