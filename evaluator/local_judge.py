"""A vision-language model in this process as a judge: the picture is computed once for all its checks."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from evaluator.judge import CheckWording, failed_verdict, scored_verdict
from evaluator.types import Check, Verdict
from redraft.errors import BackendError
from redraft.extras import require
from redraft.local_models import LOADING
from redraft.profiles import JudgeConfig, model_place
from redraft.worker import GATHER_S, Worker

if TYPE_CHECKING:
    from evaluator.prefix import VLM, YesNo

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
    go into one row (`evaluator.prefix.answer_shared`), each has its own from then on; should a model's cache not carry
    all that the model needs (some recurrent layers), the plain way is used, with a warning.
    `shared_prefix=False` always goes the plain way.

    Raises, when made, ModelMissing if the weights are not there and ConfigError for an unusable style.
    """

    def __init__(self, config: JudgeConfig, *, shared_prefix: bool = True) -> None:
        require("local", "this profile judges in this process")
        model_place(config.model.model)
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
        from evaluator.prefix import answer_plain, answer_shared, encode

        if self._shared and not self._compared:
            self._shared = self._agrees(vlm, pictures[0])
            self._compared = True
        if not self._shared:
            return [[answer_plain(vlm, one.image, text) for text in one.texts] for one in pictures]
        encoded = [encode(vlm, one.image, one.texts) for one in pictures]
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
        from evaluator.prefix import answer_plain, answer_shared, encode

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
            with LOADING:
                from evaluator.prefix import load_vlm

                self._vlm = load_vlm(self._config.model)
        return self._vlm
