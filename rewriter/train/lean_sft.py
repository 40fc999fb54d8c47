"""SFT whose loss is made for CPUs: only the reply's tokens meet the vocabulary, once, in bfloat16.

TRL's own head saves the memory of a GPU: it goes through the vocabulary in tiles, twice, in float32, and measures entropy on
the way. On a CPU that took 0.4 of a step of a model of 135M parameters with 49,152 words.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from trl import SFTTrainer


class LeanSFTTrainer(SFTTrainer):
    """TRL's SFTTrainer, for causal language models with `model` and `lm_head`, with or without an adapter."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean negative log-likelihood of the labelled tokens."""
        inner = self.accelerator.unwrap_model(model)
        inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
        with self.compute_loss_context_manager():
            hidden = inner.model(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
            ).last_hidden_state
            labels = inputs["labels"][:, 1:]
            taught = labels != -100
            logits = inner.lm_head(hidden[:, :-1][taught])
        count = taught.sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
        loss = F.cross_entropy(logits.float(), labels[taught], reduction="sum") / count.clamp(min=1)
        return (loss, {"loss": loss}) if return_outputs else loss
