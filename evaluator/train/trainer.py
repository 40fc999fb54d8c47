"""Records as a model reads them in training, the loss on the first token of the reply, and the trainer.

Importing this module imports torch and transformers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import Trainer

from evaluator.judge import CheckWording
from evaluator.local_judge import VLM, Tensors, verdict_logs
from evaluator.train.records import Judgement

IGNORED = -100
"""Label of what is not learnt."""


class Lessons(torch.utils.data.Dataset[Judgement]):
    """Records as a torch data set; pictures are opened when a batch is made."""

    def __init__(self, records: Sequence[Judgement]) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Judgement:
        return self._records[index]


class Collator:
    """Makes a batch of B records: the model's inputs, and `labels` (B, K), K - 1 being the longest reason in tokens.

    `labels[:, 0]` is the verdict, 1 for accept and 0 for reject: what the first token of the reply decides, at the very
    position where the judge reads it. The other columns are the tokens of a reason that is learnt too, which follows
    the verdict and so cannot change it; IGNORED if there is none.
    """

    def __init__(self, vlm: VLM, wording: CheckWording, *, reasons: bool) -> None:
        self._vlm = vlm
        self._wording = wording
        self._reasons = reasons
        self._dtype = vlm.local.model.dtype

    def __call__(self, batch: Sequence[Judgement]) -> Tensors:
        rows = [self._vlm.row(r.picture.open(), *self._wording(r.request, [r.check])) for r in batch]
        inputs = {n: t.to(self._dtype) if t.is_floating_point() else t for n, t in self._vlm.local.encode(rows).items()}
        replies = [self._encode_reply(record) for record in batch]
        width = max(map(len, replies), default=0)
        own = torch.full((len(batch), width), IGNORED)
        for row, reply in zip(own, replies, strict=True):
            row[: len(reply)] = torch.tensor(reply, dtype=torch.long)
        verdicts = torch.tensor([[int(record.accept)] for record in batch])
        # Nothing follows the last token, so the model need not read it.
        return self._append(inputs, own[:, :-1]) | {"labels": torch.cat([verdicts, own[:, 1:]], dim=1)}

    def _encode_reply(self, record: Judgement) -> list[int]:
        """The tokens of a reply with a reason; without one the verdict is read off the request alone."""
        if not (self._reasons and record.reason):
            return []
        tokenizer = self._vlm.local.tokenizer
        reason = tokenizer.encode(f"\n{self._vlm.local.defuse(record.reason)}", add_special_tokens=False)
        return [(self._vlm.yes if record.accept else self._vlm.no)[0], *reason, *self._vlm.local.eos[:1]]

    def _append(self, inputs: Tensors, own: torch.Tensor) -> Tensors:
        """`inputs` with the tokens `own` after each row, padded on the right, which a causal model never reads."""
        more = own.clamp(min=0)
        taken = own != IGNORED
        padding = torch.zeros_like(more)
        appended = {
            "input_ids": torch.where(taken, more, self._vlm.local.tokenizer.pad_token_id),
            "attention_mask": taken,
        }
        shape = inputs["input_ids"].shape
        return {
            name: torch.cat([value, appended.get(name, padding).to(value)], dim=1) if value.shape == shape else value
            for name, value in inputs.items()
        }


def compute_losses(
    vlm: VLM, logits: torch.Tensor, labels: torch.Tensor, reason_weight: float
) -> dict[str, torch.Tensor]:
    """Losses and running figures of a batch: logits (B, K, V) from the position at which replies begin, labels (B, K)
    as from Collator.

        loss = mean of -log P(the right verdict) + reason_weight * mean of -log P(reason token)

    P(verdict) sums over its spellings as the judge does, and over the whole vocabulary, so that label mass is learnt
    along with the answer.
    """
    yes, no = verdict_logs(vlm, logits[:, 0])
    accept = labels[:, 0] == 1
    decision = -torch.where(accept, yes, no).mean()
    loss = decision
    if (labels[:, 1:] != IGNORED).any():
        reason = nn.functional.cross_entropy(
            logits[:, 1:].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORED
        )
        loss = decision + reason_weight * reason
    with torch.no_grad():
        right, mass = ((yes > no) == accept).float().mean(), (yes.exp() + no.exp()).mean()
    return {"loss": loss, "decision_loss": decision.detach(), "accuracy": right, "label_mass": mass}


class JudgeTrainer(Trainer):
    """Learns batches of `Collator`; logs accuracy, label mass and the loss of the verdict besides the loss."""

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
        """The loss of `compute_losses`. Logits are computed for the positions of the replies only."""
        features = dict(inputs)
        labels = features.pop("labels")
        outputs = model(**features, logits_to_keep=labels.shape[1], use_cache=False)
        parts = compute_losses(self._vlm, outputs.logits, labels, self._reason_weight)
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
