"""transformers' Trainer with the loss on the reply's first token. Importing this module imports transformers."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from transformers import Trainer

from evaluator.prefix import VLM
from evaluator.train.lessons import loss_of


class JudgeTrainer(Trainer):
    """Learns batches of `lessons.Collator`; logs accuracy, label mass and the loss of the verdict beside the loss."""

    loss_is_scaled_for_ga = False
    """The loss is a mean of its batch: Trainer divides it by the steps that it accumulates."""

    def __init__(self, vlm: VLM, reason_weight: float, **settings: Any) -> None:
        super().__init__(**settings)
        self._vlm = vlm
        self._reason_weight = reason_weight
        self._running: dict[str, list[torch.Tensor]] = defaultdict(list)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The loss of `lessons.loss_of`. Logits are computed where the replies stand, and nowhere else."""
        given = dict(inputs)
        labels = given.pop("labels")
        outputs = model(**given, logits_to_keep=labels.shape[1], use_cache=False)
        parts = loss_of(self._vlm, outputs.logits, labels, self._reason_weight)
        if model.training:
            for name, value in parts.items():
                if name != "loss":
                    self._running[name].append(value.detach())
        return (parts["loss"], outputs) if return_outputs else parts["loss"]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Loads whole weights by from_pretrained, which knows the names they were saved under.

        Trainer compares names as they are; Llava saves under others than it trains under, so that Trainer (5.23) warns
        of missing keys and goes on from the weights that training began with.
        """
        learner = self.model if model is None else model
        if hasattr(learner, "merge_and_unload"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        saved = type(learner).from_pretrained(resume_from_checkpoint, dtype=learner.dtype, use_safetensors=True)
        learner.load_state_dict(saved.state_dict())

    def log(self, logs: dict[str, float], *args: Any) -> None:
        """Adds the running figures since the last log to a log of the training loss."""
        if "loss" in logs:
            logs = logs | {name: float(torch.stack(values).mean()) for name, values in self._running.items()}
            self._running.clear()
        super().log(logs, *args)
