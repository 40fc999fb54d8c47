"""Records as a model reads them in training: exactly what the judge puts to it, and the reply to learn.

The text comes from `evaluator.judging.Wording`, the chat template and the processor from `evaluator.prefix.VLM`, the
tokens of yes and no from `redraft.choices`: the objects that judge. Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from evaluator.judging import Wording
from evaluator.prefix import VLM, Tensors, verdict_logs
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
    the verdict and so cannot change it; IGNORED where there is none.
    """

    def __init__(self, vlm: VLM, wording: Wording, *, reasons: bool) -> None:
        self._vlm = vlm
        self._wording = wording
        self._reasons = reasons
        self._dtype = vlm.local.model.dtype

    def __call__(self, batch: Sequence[Judgement]) -> Tensors:
        rows = [self._vlm.row(one.picture.open(), *self._wording(one.prompt, [one.check])) for one in batch]
        inputs = {n: t.to(self._dtype) if t.is_floating_point() else t for n, t in self._vlm.local.encode(rows).items()}
        replies = [self._reply(one) for one in batch]
        width = max(map(len, replies), default=0)
        own = torch.full((len(batch), width), IGNORED)
        for row, reply in zip(own, replies, strict=True):
            row[: len(reply)] = torch.tensor(reply, dtype=torch.long)
        verdicts = torch.tensor([[int(one.accept)] for one in batch])
        # Nothing follows the last token, so the model need not read it.
        return self._behind(inputs, own[:, :-1]) | {"labels": torch.cat([verdicts, own[:, 1:]], dim=1)}

    def _reply(self, one: Judgement) -> list[int]:
        """The tokens of a reply with a reason; without one the verdict is read off the request alone."""
        if not (self._reasons and one.reason):
            return []
        tokenizer = self._vlm.local.tokenizer
        said = tokenizer.encode(f"\n{self._vlm.local.defused(one.reason)}", add_special_tokens=False)
        return [(self._vlm.yes if one.accept else self._vlm.no)[0], *said, *self._vlm.local.eos[:1]]

    def _behind(self, inputs: Tensors, own: torch.Tensor) -> Tensors:
        """`inputs` with the tokens `own` behind each row: padded on the right, where no causal model looks."""
        more = own.clamp(min=0)
        taken = own != IGNORED
        padding = torch.zeros_like(more)
        behind = {
            "input_ids": torch.where(taken, more, self._vlm.local.tokenizer.pad_token_id),
            "attention_mask": taken,
        }
        shape = inputs["input_ids"].shape
        return {
            name: torch.cat([value, behind.get(name, padding).to(value)], dim=1) if value.shape == shape else value
            for name, value in inputs.items()
        }


def loss_of(vlm: VLM, logits: torch.Tensor, labels: torch.Tensor, reason_weight: float) -> dict[str, torch.Tensor]:
    """Losses and running figures of a batch: logits (B, K, V) where the replies begin, labels (B, K) as from Collator.

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
