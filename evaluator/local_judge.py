"""A vision-language model in this process as a judge: the picture, and the text that all its checks share, are computed
once. Importing this is cheap; torch is imported in the worker thread."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from evaluator.judge import YES_NO, CheckWording, failed_verdict, scored_verdict
from evaluator.types import Check, Verdict
from redraft.chat import ChatRequest, Message
from redraft.errors import BackendError
from redraft.extras import require
from redraft.local_models import LocalModel, Row, cache_argument, cache_of, load_local, share_local
from redraft.profiles import JudgeConfig, ModelConfig
from redraft.worker import GATHER_S, Worker

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Questions:
    """A picture and the texts that ask about it, one for each check."""

    image: Image.Image
    texts: tuple[str, ...]


class TransformersJudge:
    """Judges by P(yes) / (P(yes) + P(no)) of the first token, with any transformers image-text-to-text model.

    The picture and the text that all checks share are computed once, then all questions run together over the kept
    keys and values. Pictures judged at the same time run together, `config.model.local.micro_batch` at most. One
    worker thread owns the model, which is loaded at the first call, or by `load`.

    The first picture is also judged the plain way, by a whole pass for one check. Should the questions of a picture not
    go into one row (`answer_shared`), each has its own from then on; should a model's cache not carry
    all that the model needs (some recurrent layers), the plain way is used, with a warning.
    `shared_prefix=False` always goes the plain way.

    Raises, when made, ModelMissing if the weights are not there and ConfigError for an unusable style.
    """

    def __init__(self, config: JudgeConfig, *, shared_prefix: bool = True) -> None:
        require("local", "this profile judges in this process")
        config.model.check_places()
        self._config = config
        self._wording = CheckWording(config.style)
        self._shared = shared_prefix
        self._packed = True
        self._compared = False
        self._vlm: VLM | None = None
        self._worker: Worker[Questions, list[YesNo]] = Worker(
            f"the judge {self.name}",
            lambda jobs: self._answer([job.request for job in jobs]),
            size=config.model.local.micro_batch,
            gather_s=GATHER_S,
            retry_alone=lambda error: not isinstance(error, BackendError),
            map_error=self._map_error,
        )

    @property
    def name(self) -> str:
        return self._config.model.model

    @property
    def shares_prefix(self) -> bool:
        """Whether pictures are computed once for all their checks."""
        return self._shared

    async def load(self) -> None:
        """Loads the model now. Raises ModelMissing or BackendError, which calls would report as FAILED checks."""
        await asyncio.wrap_future(self._worker.run(self._load))

    async def aclose(self) -> None:
        """Lets go of the model, once what is under way is done. Checks asked after that are FAILED."""
        await self._worker.aclose()
        self._vlm = None

    async def __call__(self, image: Image.Image, request: str, checks: Sequence[Check]) -> list[Verdict]:
        if not checks:
            return []
        try:
            answers = await self._worker.ask(Questions(image, self._wording(request, checks)))
        except BackendError as error:
            return [failed_verdict(check, str(error)) for check in checks]
        return [scored_verdict(check, yes, no, self._config) for check, (yes, no) in zip(checks, answers, strict=True)]

    def _map_error(self, error: BaseException) -> Exception:
        if isinstance(error, BackendError):
            return error
        return BackendError(f"the judge {self.name} failed on a picture: {type(error).__name__}: {error}")

    def _answer(self, pictures: Sequence[Questions]) -> list[list[YesNo]]:
        """On the worker."""
        vlm = self._load()
        with vlm.local.lock:
            return self._answer_with(vlm, pictures)

    def _answer_with(self, vlm: VLM, pictures: Sequence[Questions]) -> list[list[YesNo]]:
        if self._shared and not self._compared:
            self._shared = self._agrees(vlm, pictures[0])
            self._compared = True
        if not self._shared:
            return [[answer_plain(vlm, picture.image, text) for text in picture.texts] for picture in pictures]
        encoded = [encode(vlm, picture.image, picture.texts) for picture in pictures]
        alike: dict[object, list[int]] = defaultdict(list)
        for index, one in enumerate(encoded):
            alike[one.shape].append(index)
        results: list[list[YesNo]] = [[] for _ in pictures]
        for indices in alike.values():
            for index, result in zip(
                indices, answer_shared(vlm, [encoded[i] for i in indices], packed=self._packed), strict=True
            ):
                results[index] = result
        return results

    def _agrees(self, vlm: VLM, picture: Questions) -> bool:
        """Whether the shared prefix gives what the plain way gives, for the picture's last check."""
        plain = answer_plain(vlm, picture.image, picture.texts[-1])
        problem = ""
        for packed in (True, False):
            try:
                shared = answer_shared(vlm, [encode(vlm, picture.image, picture.texts)], packed=packed)[0][-1]
            except Exception as error:  # noqa: BLE001 - the boundary to the model's own code
                problem = f"{type(error).__name__}: {error}"
                continue
            apart = max(abs(a - b) for a, b in zip(plain, shared, strict=True))
            if apart <= vlm.tolerance:
                self._packed = packed
                return True
            problem = f"probabilities lie {apart:.3g} apart"
        _log.warning("judge %s computes the picture anew for every check: sharing it fails (%s)", self.name, problem)
        return False

    def _load(self) -> VLM:
        if self._vlm is None:
            self._vlm = _vlm_of(share_local(self._config.model), self._config.model)
        return self._vlm


Tensors = dict[str, "torch.Tensor"]
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
        import torch

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
    return _vlm_of(load_local(config, **settings), config)


def _vlm_of(local: LocalModel, config: ModelConfig) -> VLM:
    with local.lock:
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
    import torch

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
    import torch

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
    import torch

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
    import torch

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
    import torch

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
