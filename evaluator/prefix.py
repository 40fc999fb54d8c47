"""Yes/no probabilities from a vision-language model in this process, the picture and the shared text computed once.

Importing this module imports torch; `evaluator.local_judge` does so in its worker thread.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from evaluator.judge import YES_NO
from redraft.chat import ChatRequest, Message
from redraft.local_models import LocalModel, Row, cache_argument, cache_of, load_local
from redraft.profiles import ModelConfig

Tensors = dict[str, torch.Tensor]
YesNo = tuple[float, float]

_MAX_ROWS = 64
"""Most questions in one forward pass if each row holds a copy of its picture's keys and values."""

_MAX_PACKED = 1024
"""Most tokens of a picture's questions in one row: the mask is as wide as that and as high."""


@dataclass(frozen=True)
class VLM:
    """A loaded vision-language model, and the ids that say yes and no."""

    local: LocalModel
    yes: tuple[int, ...]
    no: tuple[int, ...]
    template_args: dict[str, object]

    @property
    def tolerance(self) -> float:
        """How far two right ways of computing one probability may lie apart in the model's precision."""
        return 1e-3 if self.local.model.dtype == torch.float32 else 0.1

    def row(self, image: Image.Image, text: str) -> Row:
        """One user turn of a picture and `text`, and the opening of the reply, in the model's chat template."""
        request = ChatRequest((Message("user", (image, text)),), max_tokens=1, choices=YES_NO)
        return self.local.row(request, self.template_args)


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


def load_vlm(config: ModelConfig, **settings: object) -> VLM:
    """Loads as `redraft.local_models.load_local` does. Raises ModelMissing if the weights are not there, BackendError
    if they cannot be used."""
    local = load_local(config, **settings)
    ids = local.choice_ids(YES_NO)
    return VLM(local, ids["yes"], ids["no"], dict(config.template_args))


def encode(vlm: VLM, image: Image.Image, texts: Sequence[str]) -> Encoded:
    """Splits the model's inputs for `image` and each of `texts` into what all share and what each has of its own.

    The shared part is the longest common run of tokens, so it is exact whatever the chat template is. The picture is
    processed once, unless the processor changes text beside the picture (Gemma 3 adds line ends).
    """
    rows = [vlm.row(image, text) for text in texts]
    tokens = [tuple(vlm.local.tokenizer.encode(row.text, add_special_tokens=False)) for row in rows]
    first = vlm.local.inputs(rows[:1])
    whole = first["input_ids"][0].tolist()
    length = _common(tokens)
    tail = tokens[0][length:]
    # The last shared token must be the same one in both, or what the processor put there could join with a question.
    if length == 0 or tuple(whole[-len(tail) - 1 :]) != tokens[0][length - 1 :]:
        others = [vlm.local.inputs([row])["input_ids"][0].tolist() for row in rows[1:]]
        tokens = [tuple(ids) for ids in (whole, *others)]
        length = _common(tokens)
        tail = tokens[0][length:]
    shared = len(whole) - len(tail)
    prefix = {
        name: value[:, :shared] if value.shape == first["input_ids"].shape else value for name, value in first.items()
    }
    return Encoded(prefix, tuple(row[length:] for row in tokens))


def answer_shared(vlm: VLM, batch: Sequence[Encoded], *, packed: bool = True) -> list[list[YesNo]]:
    """(P(yes), P(no)) of each question of each picture; all pictures of `batch` have the same `shape`.

    One forward pass over the shared parts. Then, `packed`, one over the questions of all pictures: those of a picture
    stand one after the other in its row, each at the positions right after the shared part and blind to the others, so
    that nothing is copied or padded out. Models that count or attend in ways of their own (Qwen-VL's positions, sliding
    windows, recurrent layers, kernels without masks) have, as without `packed`, a pass for every _MAX_ROWS questions,
    each in a row of its own, right-padded: a causal model never looks ahead to the padding.
    """
    prefix = {name: torch.cat([encoded.prefix[name] for encoded in batch]) for name in batch[0].prefix}
    rows = [(picture, suffix) for picture, encoded in enumerate(batch) for suffix in encoded.suffixes]
    answers: list[list[YesNo]] = [[] for _ in batch]
    with torch.inference_mode():
        cache = cache_of(vlm.local.model(**prefix, use_cache=True, logits_to_keep=1))
        if packed and _packs(vlm.local.model, cache, batch):
            return _answer_packed(vlm, prefix, cache, batch)
        chunks = [rows[start : start + _MAX_ROWS] for start in range(0, len(rows), _MAX_ROWS)]
        for chunk in chunks:
            own = cache if chunk is chunks[-1] else copy.deepcopy(cache)
            for (picture, _), answer in zip(chunk, _answer_rows(vlm, prefix, own, chunk), strict=True):
                answers[picture].append(answer)
    return answers


def answer_plain(vlm: VLM, image: Image.Image, text: str) -> YesNo:
    """(P(yes), P(no)) of one question by one forward pass over everything: what `answer_shared` must agree with."""
    with torch.inference_mode():
        inputs = vlm.local.inputs([vlm.row(image, text)])
        return _yes_no(vlm, vlm.local.model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1])[0]


def verdict_logs(vlm: VLM, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """log P(yes) and log P(no), each (rows,), of a reply's first token from its logits (rows, V): summed over the
    spellings of each, over the whole vocabulary. What judges report, and what their training raises."""
    logs = logits.float().log_softmax(-1)
    return logs[:, list(vlm.yes)].logsumexp(-1), logs[:, list(vlm.no)].logsumexp(-1)


def _packs(model: Any, cache: Any, batch: Sequence[Encoded]) -> bool:
    """Whether questions may stand behind one another in a row, kept apart by a mask alone."""
    from transformers.cache_utils import DynamicLayer

    plain = all(type(layer) is DynamicLayer for layer in cache.layers)
    masks = model.config.get_text_config()._attn_implementation in ("sdpa", "eager")  # what transformers itself asks
    short = max(sum(map(len, encoded.suffixes)) for encoded in batch) <= _MAX_PACKED
    return plain and masks and short and getattr(getattr(model, "model", None), "rope_deltas", None) is None


def _answer_packed(vlm: VLM, prefix: Tensors, cache: Any, batch: Sequence[Encoded]) -> list[list[YesNo]]:
    model, device = vlm.local.model, prefix["input_ids"].device
    shared, width = prefix["input_ids"].shape[1], max(sum(map(len, encoded.suffixes)) for encoded in batch)
    ids = torch.full((len(batch), width), vlm.local.tokenizer.pad_token_id)
    positions, owner = torch.full_like(ids, shared), torch.full_like(ids, -1)
    last = []
    for row, encoded in enumerate(batch):
        at = 0
        for number, suffix in enumerate(encoded.suffixes):
            part = slice(at, at + len(suffix))
            ids[row, part] = torch.tensor(suffix)
            positions[row, part] = torch.arange(shared, shared + len(suffix))
            owner[row, part] = number
            at += len(suffix)
            last.append((row, at - 1))
    # (pictures, width, shared + width): each token sees what is shared, and those before it in its own question.
    own = (owner[:, :, None] == owner[:, None, :]) & torch.ones(width, width, dtype=torch.bool).tril()
    hidden = ~torch.cat([torch.ones(len(batch), width, shared, dtype=torch.bool), own], -1)
    mask = torch.zeros(hidden.shape, dtype=model.dtype).masked_fill(hidden, torch.finfo(model.dtype).min)
    rows, ends = (torch.tensor(column, device=device) for column in zip(*last, strict=True))
    kept, which = torch.unique(ends, return_inverse=True)
    logits = model(
        input_ids=ids.to(device),
        attention_mask=mask[:, None].to(device),
        position_ids=positions.to(device),
        use_cache=True,
        logits_to_keep=kept,
        **{cache_argument(model): cache},
    ).logits
    answers = iter(_yes_no(vlm, logits[rows, which]))
    return [[next(answers) for _ in encoded.suffixes] for encoded in batch]


def _answer_rows(vlm: VLM, prefix: Tensors, cache: Any, rows: Sequence[tuple[int, tuple[int, ...]]]) -> list[YesNo]:
    model, device = vlm.local.model, prefix["input_ids"].device
    pictures = torch.tensor([picture for picture, _ in rows], device=device)
    lengths = torch.tensor([len(suffix) for _, suffix in rows], device=device)
    width, shared = max(len(suffix) for _, suffix in rows), prefix["input_ids"].shape[1]
    pad = vlm.local.tokenizer.pad_token_id
    ids = torch.tensor([[*suffix, *[pad] * (width - len(suffix))] for _, suffix in rows], device=device)
    mask = torch.ones(len(rows), shared + width, dtype=torch.long, device=device)
    mask[:, shared:] = torch.arange(width, device=device) < lengths[:, None]
    _repeat(cache, pictures)
    inputs = {"input_ids": ids, "attention_mask": mask}
    positions = _mrope_positions(model, pictures, shared, width)
    if positions is not None:
        inputs["position_ids"] = positions
    ends, which = torch.unique(lengths - 1, return_inverse=True)
    logits = model(**inputs, **{cache_argument(model): cache}, use_cache=True, logits_to_keep=ends).logits
    return _yes_no(vlm, logits[torch.arange(len(rows), device=device), which])


def _repeat(cache: Any, pictures: torch.Tensor) -> None:
    """Gives each row its picture's states. Unlike the cache's own batch_repeat_interleave, this reaches the states of
    every kind of layer, takes several pictures, and copies nothing if there is one picture in plain layers."""
    from transformers.cache_utils import DynamicLayer

    for layer in cache.layers:
        if type(layer) is DynamicLayer and layer.get_seq_length() and len(layer.keys) == 1:
            layer.keys = layer.keys.expand(len(pictures), -1, -1, -1)
            layer.values = layer.values.expand(len(pictures), -1, -1, -1)
        else:
            layer.reorder_cache(pictures)


def _mrope_positions(model: Any, pictures: torch.Tensor, shared: int, width: int) -> torch.Tensor | None:
    """Positions (3, rows, width) for models that count a picture's positions in three directions (Qwen-VL).

    There, text goes on from where the picture's grid ends, `rope_deltas` away from the number of tokens. None for all
    other models, which count by themselves.
    """
    deltas: torch.Tensor | None = getattr(getattr(model, "model", None), "rope_deltas", None)
    if deltas is None:
        return None
    steps = torch.arange(shared, shared + width, device=pictures.device)
    return (steps + deltas.to(pictures.device).reshape(-1, 1)[pictures]).expand(3, -1, -1)


def _yes_no(vlm: VLM, logits: torch.Tensor) -> list[YesNo]:
    yes, no = (logs.exp().tolist() for logs in verdict_logs(vlm, logits))
    return list(zip(yes, no, strict=True))


def _common(sequences: Sequence[tuple[int, ...]]) -> int:
    """Length of the longest common prefix that leaves each sequence a token of its own."""
    limit = min(len(tokens) for tokens in sequences) - 1
    for index, column in zip(range(limit), zip(*sequences, strict=False), strict=False):
        if len(set(column)) > 1:
            return index
    return max(limit, 0)
