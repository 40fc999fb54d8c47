"""How the judge learns to answer: the packed attention, the projector's start, the losses and the measurement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from mini.judge.looking import PatchBatch, PatchHeads, PictureSource, pictures
from mini.judge.packing import LENGTH, NO, PREFIX, QUESTIONS, VOCABULARY, YES, QuestionBatch, question_batch
from mini.judge.questioning import THINGS
from mini.world.questions import plural
from mini.world.scene import COLORS, FILLS, SHAPES, SHEETS, WORDS

NOUN_WEIGHT, NAME_WEIGHT = 0.35, 0.3
GROUND_LAYER, RELATION_LAYER, GROUND_HEADS, GROUND_WEIGHT = 1, 2, 2, 0.5


def _weigh(scores: Tensor) -> Tensor:
    return scores.float().softmax(-1).to(scores.dtype)


def packed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: object
) -> tuple[Tensor, None]:
    """Attention of (B, heads, PREFIX + QUESTIONS * LENGTH, dim): the prefix is causal, a question's token sees the
    prefix and what stands before it in its own question. Two small products instead of one large, mostly masked one."""
    q, k, v = query * query.shape[-1] ** -0.5, key, value
    causal = torch.full((PREFIX, PREFIX), -1e9, dtype=q.dtype).triu(1)
    pre_k, pre_v = k[:, :, :PREFIX], v[:, :, :PREFIX]
    prefix = _weigh(q[:, :, :PREFIX] @ pre_k.transpose(-1, -2) + causal) @ pre_v
    own_q, own_k, own_v = (t[:, :, PREFIX:].unflatten(2, (QUESTIONS, LENGTH)) for t in (q, k, v))
    back = (q[:, :, PREFIX:] @ pre_k.transpose(-1, -2)).unflatten(2, (QUESTIONS, LENGTH))
    own = own_q @ own_k.transpose(-1, -2) + causal[:LENGTH, :LENGTH]
    weights = _weigh(torch.cat([back, own], -1))
    if module.layer_idx in (GROUND_LAYER, RELATION_LAYER):
        module.ground = weights[:, :GROUND_HEADS, ..., :PREFIX]  # for JudgeWithHeads.losses
    mixed = (weights[..., :PREFIX].flatten(2, 3) @ pre_v) + (weights[..., PREFIX:] @ own_v).flatten(2, 3)
    return torch.cat([prefix, mixed], 2).transpose(1, 2), None


_SHAPE_IDS = torch.tensor([[VOCABULARY[s], VOCABULARY[plural(s)]] for s in SHAPES])
_COLOR_IDS, _SHEET_IDS, _WORD_IDS = (torch.tensor([VOCABULARY[w] for w in ws]) for ws in (COLORS, SHEETS, WORDS))


def naming_loss(projected: Tensor, embeddings: Tensor, labels: PatchBatch) -> Tensor:
    """How badly the words for what lies in a patch are read off its projected feature (B, patches, width), by products
    with the word embeddings (V, width): what the language model gets to see of a patch shall look like its words."""
    scores = F.linear(F.rms_norm(projected.float(), projected.shape[-1:]), embeddings.float()).log_softmax(-1)
    cut = (labels.thing > 0) & (labels.thing < THINGS - 1)
    ink = labels.thing == THINGS - 1
    bare = labels.thing == 0
    shapes = scores[cut].gather(1, _SHAPE_IDS[labels.thing[cut] - 1]).mean(1)
    colors = scores[cut].gather(1, _COLOR_IDS[labels.color[cut]][:, None]).squeeze(1)
    sheets = scores.gather(2, _SHEET_IDS[labels.sheet][:, None, None].expand(-1, scores.shape[1], 1)).squeeze(2)[bare]
    loss = -(shapes + colors).mean() / 2 - 0.3 * sheets.mean()
    if ink.any():
        loss = loss - 0.3 * scores[ink].gather(1, _WORD_IDS[labels.word[ink]][:, None]).mean()
    return loss


@torch.no_grad()
def start_projector(model: LlavaForConditionalGeneration, heads: PatchHeads) -> None:
    """Lets the projector start from what the patch heads read: a hidden unit for each class, passed on in the direction
    of its word. From random weights it found colours within 300 steps, but not the fainter shapes.
    """
    projector, embeddings = model.model.multi_modal_projector, model.get_input_embeddings().weight
    embeddings.mul_(4.0)  # words far enough apart to be told from each other from the start
    rows, bias = heads.head.weight, heads.head.bias
    names, n = ["sheet", *SHAPES, "word", *COLORS, *FILLS, *WORDS, *SHEETS], len(rows)
    projector.linear_1.weight.normal_(std=projector.linear_1.in_features**-0.5)
    projector.linear_1.weight[:n], projector.linear_1.bias[:n] = rows, bias
    # The numbers after the classes (middle, lengths) have two signs, and the activation lets one through.
    signed = slice(n, n + n - len(names))
    projector.linear_1.weight[signed], projector.linear_1.bias[signed] = -rows[len(names) :], -bias[len(names) :]
    projector.linear_2.weight.normal_(std=0.05)
    names += ["exactly", "right", "bottom", "large", "not a middle", "left", "top", "small"]
    for unit, name in enumerate(names):
        if name not in VOCABULARY:
            continue
        word = F.normalize(embeddings[VOCABULARY[name]], dim=0)
        if name in SHAPES:
            word = F.normalize(word + F.normalize(embeddings[VOCABULARY[plural(name)]], dim=0), dim=0)
        projector.linear_2.weight[:, unit] = word


class JudgeWithHeads(nn.Module):
    """The whole judge with throw-away heads at noun phrases. The vision tower stays as it has learnt to look: trained
    on, it lost what it knew of shapes to the noise of early answers."""

    positions: Tensor

    def __init__(self, model: LlavaForConditionalGeneration) -> None:
        super().__init__()
        self.judge: LlavaForConditionalGeneration = model
        self.judge.model.vision_tower.requires_grad_(False)
        self.noun = nn.Linear(model.config.text_config.hidden_size, 7 + 6)
        model.set_attn_implementation({"text_config": "packed", "vision_config": "eager"})
        positions = torch.cat([torch.arange(PREFIX), (PREFIX + torch.arange(LENGTH)).repeat(QUESTIONS)])
        self.register_buffer("positions", positions[None], persistent=False)
        model.model.language_model.layers[GROUND_LAYER].register_forward_hook(self._keep_grounded)

    def _keep_grounded(self, module: nn.Module, given: object, out: Tensor) -> None:
        """What is known of a noun phrase once it has looked; layers after it compare."""
        self._grounded = out[:, PREFIX:].view(len(out), QUESTIONS, LENGTH, -1)

    @torch.no_grad()
    def look(self, images: Tensor) -> Tensor:
        """Features (B, patches, width) of pictures (B, 3, SIDE, SIDE)."""
        features: Tensor = self.judge.model.vision_tower(pixel_values=images).last_hidden_state[:, 1:]
        return features

    def hidden(self, features: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states (B, Q, LENGTH, width) of packed questions, and projected features (B, patches, width)."""
        inner = self.judge.model
        embed = inner.get_input_embeddings()
        bos = embed(torch.full((len(features), 1), VOCABULARY["<s>"]))
        text = embed(ids.flatten(1))
        projected = inner.multi_modal_projector(features)
        sequence = torch.cat([bos, projected.to(bos.dtype), text], 1)
        out = inner.language_model(
            inputs_embeds=sequence, attention_mask=torch.zeros(1, 1, 1, 1),  # ready made: packed_attention has its own
            position_ids=self.positions.expand(len(features), -1), use_cache=False,
        ).last_hidden_state  # fmt: skip
        return out[:, PREFIX:].unflatten(1, (QUESTIONS, LENGTH)), projected

    def _grounding(self, places: Tensor, target: Tensor, layer: int = GROUND_LAYER) -> Tensor:
        """How far the attention (of a few heads of one layer) at places (N, 3) is from where they should look: the
        Kullback-Leibler divergence from the target (N, PREFIX)."""
        if not len(places):
            return target.new_zeros(())
        weights: Tensor = self.judge.model.language_model.layers[layer].self_attn.ground
        looks = weights[places[:, 0], :, places[:, 1], places[:, 2]].float()
        known = torch.where(target > 0, target, 1.0).log() * target
        return known.sum(-1).mean() - (looks.clamp(min=1e-6).log() * target[:, None]).sum(-1).mean()

    def losses(self, features: Tensor, batch: QuestionBatch, labels: PatchBatch) -> dict[str, Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden, projected = self.hidden(features, batch.ids)
            final = hidden.gather(2, batch.end[..., None, None].expand(-1, -1, 1, hidden.shape[-1])).squeeze(2)
            logits = self.judge.lm_head(final).float()
            nouns = self.noun(self._grounded[batch.nouns[:, 0], batch.nouns[:, 1], batch.nouns[:, 2]]).float()
        answer = F.cross_entropy(logits.flatten(0, 1), batch.answer.flatten())
        named = batch.count > 0
        counted = F.cross_entropy(nouns[:, :7], batch.count)
        placed = F.smooth_l1_loss(nouns[named, 7:] * 0.25 + 0.5, batch.where[named], beta=0.05)
        grounding = (self._grounding(batch.nouns, batch.ground) + self._grounding(batch.values, batch.value_ground)) / 2
        related = self._grounding(batch.relations, batch.relation_ground, RELATION_LAYER)
        words = naming_loss(projected, self.judge.model.get_input_embeddings().weight, labels)
        sure = (batch.answer == YES) | (batch.answer == NO)
        right = ((logits[..., YES] > logits[..., NO]) == (batch.answer == YES))[sure].float().mean()
        return {
            "loss": answer + NOUN_WEIGHT * (counted + 4 * placed) + NAME_WEIGHT * words
            + GROUND_WEIGHT * (grounding + 0.5 * related),
            "answer": answer, "counted": counted, "placed": placed, "words": words, "ground": grounding,
            "related": related, "right": right,
        }  # fmt: skip


@dataclass(frozen=True)
class AnswerFigures:
    """Accuracy on pictures and questions that were not trained on, in all and by kind of question; label mass on
    questions and on nonsense; and the temperature by which the logit of P(yes) is to be divided, which makes the
    answers likeliest (Guo et al. 2017)."""

    accuracy: float
    kinds: dict[str, float]
    mass: float
    mass_of_nonsense: float
    temperature: float


@torch.no_grad()
def measure(whole: JudgeWithHeads, source: PictureSource, seed: int, batches: int, size: int = 32) -> AnswerFigures:
    whole.eval()
    rng = np.random.default_rng((seed, 3))
    gaps: list[Tensor] = []
    truths: list[Tensor] = []
    masses: list[Tensor] = []
    kinds: list[str] = []
    for _ in range(batches):
        _, read, images = pictures(rng, source, size, True)
        batch = question_batch(rng, read)
        hidden, _ = whole.hidden(whole.look(images), batch.ids)
        final = hidden.gather(2, batch.end[..., None, None].expand(-1, -1, 1, hidden.shape[-1])).squeeze(2)
        logs = whole.judge.lm_head(final).float().log_softmax(-1).flatten(0, 1)
        gaps.append(logs[:, YES] - logs[:, NO])
        masses.append(logs[:, [YES, NO]].logsumexp(-1).exp())
        truths.append((batch.answer == YES).flatten())
        kinds += batch.kinds
    whole.train()
    gap, truth, mass = torch.cat(gaps), torch.cat(truths), torch.cat(masses)
    sure = torch.tensor([kind not in ("nonsense", "open") for kind in kinds])
    nonsense = torch.tensor([kind == "nonsense" for kind in kinds])
    right = (gap > 0) == truth
    temperatures = torch.linspace(0.5, 4.0, 141)
    losses = [F.binary_cross_entropy_with_logits(gap[sure] / t, truth[sure].float()) for t in temperatures]
    by_kind = {
        kind: float(right[torch.tensor([k == kind for k in kinds])].float().mean())
        for kind in sorted(set(kinds) - {"nonsense", "open"})
    }
    return AnswerFigures(
        accuracy=float(right[sure].float().mean()),
        kinds=by_kind,
        mass=float(mass[sure].mean()),
        mass_of_nonsense=float(mass[nonsense].mean()),
        temperature=round(float(temperatures[int(torch.stack(losses).argmin())]), 3),
    )
