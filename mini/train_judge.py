"""Trains the mini judge in two stages (about half an hour on one core).

    python -m mini.train_judge --out mini/weights/judge

look: the vision tower learns what lies in each patch (thing, colour, fill, word, middle, size), which tells it far
more per picture than yes or no. ask: the language model learns to answer, while the tower stays as it is. Twelve
questions share one picture, packed into one sequence in which each sees the picture and itself alone. Three helps get
it off the ground, since whether a red star is there cannot be told from the picture or the question alone: patches are
to look like the words for what lies in them, a third of the questions are open ("colour stars": "red"), and the last
word of each noun phrase must tell how many cut-outs it names and where they lie (by throw-away heads).

Pictures are training scenes as they are, scenes left messy, and, where `--generated` names a file of them, the
generator's own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import AttentionInterface, CLIPVisionModel, LlavaForConditionalGeneration

from mini import codec, oracle
from mini.data import load_pool
from mini.judge import ANSWER, IMAGE_TOKENS, SIDE, build_model, build_tokenizer, save
from mini.questioning import GRID, THINGS, ask, mess, patch_labels
from mini.questions import NUMBERS, Noun, Query, plural
from mini.raster import draw
from mini.sampling import Rng
from mini.training import Trainer, console
from mini.world import COLORS, FILLS, SHAPES, SHEETS, WORDS, CutOut, Scene

QUESTIONS = 12
LENGTH = 15
NONSENSE = 0.03
OPEN = 0.35
"""Share of questions that want a word instead of yes or no."""
WORD_WEIGHT, NOUN_WEIGHT, NAME_WEIGHT = 0.5, 0.35, 0.3
ASKED_AGAIN = 3
GROUND_LAYER, GROUND_HEADS, GROUND_WEIGHT = 1, 2, 0.5
PREFIX = 1 + IMAGE_TOKENS
_VOCABULARY: dict[str, int] = build_tokenizer().get_vocab()
_YES, _NO, _UNSURE = (_VOCABULARY[w] for w in ("yes", "no", "unsure"))


class PatchHeads(nn.Module):
    """What lies in a patch, read off its feature; thrown away after training."""

    SIZES = (THINGS, len(COLORS), len(FILLS), len(WORDS), len(SHEETS), 1, 3)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, sum(self.SIZES))

    def forward(self, features: Tensor, labels: PatchBatch) -> dict[str, Tensor]:
        """Losses of features (B, patches, width)."""
        thing, color, fill, word, sheet, middle, lengths = self.head(features).float().split(self.SIZES, -1)

        def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
            return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100)

        on = labels.color >= 0
        error = F.smooth_l1_loss(lengths, labels.lengths, reduction="none").mean(-1)
        here = labels.thing > 0
        things = F.cross_entropy(thing.flatten(0, 1), labels.thing.flatten(), reduction="none").view_as(error)
        # Bare sheet is most of a picture: averaged over all patches, shape would weigh an eighth of what colour does.
        found = (things * here).sum() / here.sum().clamp(min=1) + 0.5 * (things * ~here).sum() / (~here).sum()
        parts = {
            "thing": found,
            "color": cross_entropy(color, labels.color),
            "fill": cross_entropy(fill, labels.fill),
            "sheet": cross_entropy(sheet, labels.sheet[:, None].expand(-1, sheet.shape[1])) * 0.3,
            "middle": F.binary_cross_entropy_with_logits(
                middle.squeeze(-1), labels.middle, pos_weight=torch.tensor(4.0)
            ),
            "lengths": (error * on).sum() / on.sum().clamp(min=1),
        }
        if (labels.word >= 0).any():
            parts["word"] = cross_entropy(word, labels.word) * WORD_WEIGHT
        with torch.no_grad():
            parts["shape_right"] = (thing.argmax(-1) == labels.thing)[here].float().mean()
        return parts


@dataclass(frozen=True)
class PatchBatch:
    """Patch labels of a batch: (B, patches), lengths (B, patches, 3), sheet (B,)."""

    thing: Tensor
    color: Tensor
    fill: Tensor
    word: Tensor
    middle: Tensor
    lengths: Tensor
    sheet: Tensor


def patch_batch(scenes: Sequence[Scene]) -> PatchBatch:
    labels = [patch_labels(scene, SIDE) for scene in scenes]
    names = list(SHEETS)
    stacked = {
        part: torch.from_numpy(np.stack([getattr(one, part) for one in labels]))
        for part in ("thing", "color", "fill", "word", "middle", "lengths")
    }
    return PatchBatch(**stacked, sheet=torch.tensor([names.index(scene.sheet) for scene in scenes]))


def pixels(images: Sequence[Image.Image]) -> Tensor:
    """(B, 3, SIDE, SIDE) in -1..1, resized as the judge's image processor does."""
    small = [np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for image in images]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 127.5 - 1


class Pictures:
    """Where training pictures come from: the pool, messes made of it, and the generator's own where there are any."""

    def __init__(self, rows: NDArray[np.float32], generated: NDArray[np.float32] | None, messy: float) -> None:
        self.rows, self.generated, self.messy = rows, generated, messy

    def __call__(self, rng: Rng) -> tuple[Scene, Image.Image, bool]:
        """The scene that was drawn, its picture, and whether the picture may differ from it (overlaps)."""
        if self.generated is not None and rng.random() < 0.5:
            scene = codec.from_rows(self.generated[int(rng.integers(len(self.generated)))])
            return scene, draw(scene), True
        scene = codec.from_rows(self.rows[int(rng.integers(len(self.rows)))])
        if rng.random() < self.messy:
            scene = mess(rng, scene)
            return scene, draw(scene), True
        return scene, draw(scene), False


class Look(nn.Module):
    """The vision tower with patch heads."""

    def __init__(self, model: LlavaForConditionalGeneration) -> None:
        super().__init__()
        self.tower: CLIPVisionModel = model.model.vision_tower
        self.heads = PatchHeads(self.tower.config.hidden_size)

    def losses(self, images: Tensor, labels: PatchBatch) -> dict[str, Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = self.tower(pixel_values=images).last_hidden_state[:, 1:]
            parts = self.heads(features, labels)
        return {"loss": torch.stack([v for k, v in parts.items() if k != "shape_right"]).sum(), **parts}


@dataclass(frozen=True)
class QuestionBatch:
    """Packed questions: ids (B, QUESTIONS, LENGTH), `end` (B, Q) position of the answer's cue, `answer` (B, Q) token
    id; `nouns` (N, 3) index of image, question, position; `count` (N,), `where` (N, 3) mean x, y, radius of what it
    names; `ground` (N, PREFIX) where the noun's last word should look (see `_grounds`); `values` (M, 3) and
    `value_ground` (M, PREFIX) the same for the words of values; `kinds` (B * Q,) kinds of question,
    or "open", or "nonsense"."""

    ids: Tensor
    end: Tensor
    answer: Tensor
    nouns: Tensor
    count: Tensor
    where: Tensor
    ground: Tensor
    values: Tensor
    value_ground: Tensor
    kinds: tuple[str, ...]


def _open_question(rng: Rng, scene: Scene) -> tuple[list[str], str] | None:
    """A question that is answered with a word, and that word, or None where this draw has no single answer.

    Whether a red star is there depends on picture and question at once, and neither alone tells a model anything; its
    colour, asked for openly, can be learnt from the first step on.
    """
    pick = rng.random()
    if pick < 0.12:
        return ["sheet"], scene.sheet
    if pick < 0.25:
        return (["word"], scene.word.text) if scene.word is not None and scene.word.text in WORDS else None
    known = [c for c in scene.cutouts if c.shape in SHAPES]
    if not known:
        return None
    cut = known[int(rng.random() * len(known))]
    noun = Noun(cut.shape, cut.color if pick > 0.45 and rng.random() < 0.6 else None)
    found = noun.find(scene)
    name = str(Noun(noun.shape, noun.color, len(found) > 1)).split()
    if pick < 0.45:
        return (["colour", *name], cut.color) if len({c.color for c in found}) == 1 else None
    if pick < 0.60:
        return (["exactly", *name], NUMBERS[len(found)]) if len(found) < len(NUMBERS) else None
    if pick < 0.70:
        return (["size", *name], cut.size) if len({c.size for c in found}) == 1 else None
    if pick < 0.80:
        return (["pattern", *name], cut.fill) if len({c.fill for c in found}) == 1 else None
    x, y = float(np.mean([c.x for c in found])) - 0.5, float(np.mean([c.y for c in found])) - 0.5
    if max(abs(x), abs(y)) < 0.1:
        return None
    across = abs(x) > abs(y)
    return ["where", *name], ("left" if x < 0 else "right") if across else ("top" if y < 0 else "bottom")


def _words(query: Query) -> list[str]:
    return str(query).replace("?", " ?").split()


def _noun_ends(words: list[str], query: Query) -> list[tuple[int, Noun]]:
    """Index of the last word of each noun phrase."""
    ends: list[tuple[int, Noun]] = []
    start = 0
    for noun in (query.noun, query.other):
        if noun is None:
            continue
        phrase = str(noun).split()
        for i in range(start, len(words) - len(phrase) + 1):
            if words[i : i + len(phrase)] == phrase:
                start = i + len(phrase)
                ends.append((start - 1, noun))
                break
    return ends


def _grounds(found: Sequence[CutOut]) -> NDArray[np.float32]:
    """(PREFIX,) weights: the middles of n cut-outs share n / (n + 1), the first token has the rest. Such an attention
    says at once whether there are any (what the first token gets), how many, and where they lie."""
    weights = np.zeros(PREFIX, dtype=np.float32)
    weights[0] = 1 / (len(found) + 1)
    for cut in found:
        column, row = (int(np.clip(v, 0, 0.999) * GRID) for v in (cut.x, cut.y))
        weights[1 + row * GRID + column] += 1 / (len(found) + 1)
    return weights


def _value_ground(query: Query, scene: Scene) -> NDArray[np.float32] | None:
    """Where the word for a value should look: at what has it, or at the first token."""
    if query.kind == "sheet":
        weights = np.full(PREFIX, 1 / PREFIX, dtype=np.float32)
        return weights if scene.sheet == query.value else _grounds(())
    if query.kind in ("size", "fill", "color") and query.noun is not None:
        return _grounds([c for c in query.noun.find(scene) if getattr(c, query.kind) == query.value])
    return None


def question_batch(rng: Rng, scenes: Sequence[Scene]) -> QuestionBatch:
    ids = np.zeros((len(scenes), QUESTIONS, LENGTH), dtype=np.int64)
    end = np.zeros((len(scenes), QUESTIONS), dtype=np.int64)
    answer = np.zeros((len(scenes), QUESTIONS), dtype=np.int64)
    nouns: list[tuple[int, int, int]] = []
    count: list[int] = []
    where: list[tuple[float, float, float]] = []
    ground: list[NDArray[np.float32]] = []
    values: list[tuple[int, int, int]] = []
    value_ground: list[NDArray[np.float32]] = []
    kinds: list[str] = []
    for b, scene in enumerate(scenes):
        for q in range(QUESTIONS):
            asked = _open_question(rng, scene) if rng.random() < OPEN else None
            query, truth = ask(rng, scene)
            words = _words(query)
            target = _YES if truth else _NO
            if asked is not None:
                words, target = list(asked[0]), _VOCABULARY[asked[1]]
                kinds.append("open")
            elif rng.random() < NONSENSE:
                # Half of it words out of order, half a question with a word that is not of this world.
                if rng.random() < 0.5:
                    rng.shuffle(words)
                else:
                    words[int(rng.integers(1, len(words) - 1))] = "<unk>"
                target = _UNSURE
                kinds.append("nonsense")
            else:
                kinds.append(query.kind)
                for position, noun in _noun_ends(words, query):
                    found = noun.find(scene)
                    nouns.append((b, q, position))
                    count.append(min(len(found), 6))
                    middle = np.mean([(c.x, c.y, c.radius * 3) for c in found], axis=0) if found else np.zeros(3)
                    where.append((float(middle[0]), float(middle[1]), float(middle[2])))
                    ground.append(_grounds(found))
                value = _value_ground(query, scene)
                if value is not None:
                    values.append((b, q, len(words) - 2))
                    value_ground.append(value)
            words.append(ANSWER)
            ids[b, q, : len(words)] = [_VOCABULARY.get(w, _VOCABULARY["<unk>"]) for w in words]
            end[b, q] = len(words) - 1
            answer[b, q] = target
    return QuestionBatch(
        torch.from_numpy(ids), torch.from_numpy(end), torch.from_numpy(answer),
        torch.tensor(nouns), torch.tensor(count), torch.tensor(where),
        torch.from_numpy(np.stack(ground)), torch.tensor(values).reshape(-1, 3),
        torch.from_numpy(np.stack(value_ground)) if value_ground else torch.zeros(0, PREFIX), tuple(kinds),
    )  # fmt: skip


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
    if module.layer_idx == GROUND_LAYER:
        module.ground = weights[:, :GROUND_HEADS, ..., :PREFIX]  # for Ask.losses
    mixed = (weights[..., :PREFIX].flatten(2, 3) @ pre_v) + (weights[..., PREFIX:] @ own_v).flatten(2, 3)
    return torch.cat([prefix, mixed], 2).transpose(1, 2), None


_SHAPE_IDS = torch.tensor([[_VOCABULARY[s], _VOCABULARY[plural(s)]] for s in SHAPES])
_COLOR_IDS, _SHEET_IDS, _WORD_IDS = (torch.tensor([_VOCABULARY[w] for w in ws]) for ws in (COLORS, SHEETS, WORDS))


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
    for unit, name in enumerate(names):
        word = F.normalize(embeddings[_VOCABULARY[name]], dim=0)
        if name in SHAPES:
            word = F.normalize(word + F.normalize(embeddings[_VOCABULARY[plural(name)]], dim=0), dim=0)
        projector.linear_2.weight[:, unit] = word


class Ask(nn.Module):
    """The whole judge with throw-away heads at noun phrases. The vision tower stays as it has learnt to look: trained
    on, it lost what it knew of shapes to the noise of early answers."""

    positions: Tensor

    def __init__(self, model: LlavaForConditionalGeneration) -> None:
        super().__init__()
        self.judge: LlavaForConditionalGeneration = model
        self.judge.model.vision_tower.requires_grad_(False)
        self.noun = nn.Linear(model.config.text_config.hidden_size, 7 + 3)
        model.set_attn_implementation({"text_config": "packed", "vision_config": "eager"})
        positions = torch.cat([torch.arange(PREFIX), (PREFIX + torch.arange(LENGTH)).repeat(QUESTIONS)])
        self.register_buffer("positions", positions[None], persistent=False)

    @torch.no_grad()
    def look(self, images: Tensor) -> Tensor:
        """Features (B, patches, width) of pictures (B, 3, SIDE, SIDE)."""
        features: Tensor = self.judge.model.vision_tower(pixel_values=images).last_hidden_state[:, 1:]
        return features

    def hidden(self, features: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states (B, Q, LENGTH, width) of packed questions, and projected features (B, patches, width)."""
        inner = self.judge.model
        embed = inner.get_input_embeddings()
        bos = embed(torch.full((len(features), 1), _VOCABULARY["<s>"]))
        text = embed(ids.flatten(1))
        projected = inner.multi_modal_projector(features)
        sequence = torch.cat([bos, projected.to(bos.dtype), text], 1)
        out = inner.language_model(
            inputs_embeds=sequence, attention_mask=torch.zeros(1, 1, 1, 1),  # ready made: packed_attention has its own
            position_ids=self.positions.expand(len(features), -1), use_cache=False,
        ).last_hidden_state  # fmt: skip
        return out[:, PREFIX:].unflatten(1, (QUESTIONS, LENGTH)), projected

    def _grounding(self, places: Tensor, target: Tensor) -> Tensor:
        """How far the attention (of a few heads of one layer) at places (N, 3) is from where they should look: the
        Kullback-Leibler divergence from the target (N, PREFIX)."""
        if not len(places):
            return target.new_zeros(())
        weights: Tensor = self.judge.model.language_model.layers[GROUND_LAYER].self_attn.ground
        looks = weights[places[:, 0], :, places[:, 1], places[:, 2]].float()
        known = torch.where(target > 0, target, 1.0).log() * target
        return known.sum(-1).mean() - (looks.clamp(min=1e-6).log() * target[:, None]).sum(-1).mean()

    def losses(self, features: Tensor, batch: QuestionBatch, labels: PatchBatch) -> dict[str, Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden, projected = self.hidden(features, batch.ids)
            final = hidden.gather(2, batch.end[..., None, None].expand(-1, -1, 1, hidden.shape[-1])).squeeze(2)
            logits = self.judge.lm_head(final).float()
            nouns = self.noun(hidden[batch.nouns[:, 0], batch.nouns[:, 1], batch.nouns[:, 2]]).float()
        answer = F.cross_entropy(logits.flatten(0, 1), batch.answer.flatten())
        named = batch.count > 0
        counted = F.cross_entropy(nouns[:, :7], batch.count)
        placed = F.smooth_l1_loss(nouns[named, 7:] * 0.25 + 0.5, batch.where[named], beta=0.05)
        grounding = (self._grounding(batch.nouns, batch.ground) + self._grounding(batch.values, batch.value_ground)) / 2
        words = naming_loss(projected, self.judge.model.get_input_embeddings().weight, labels)
        sure = (batch.answer == _YES) | (batch.answer == _NO)
        right = ((logits[..., _YES] > logits[..., _NO]) == (batch.answer == _YES))[sure].float().mean()
        return {
            "loss": answer + NOUN_WEIGHT * (counted + 4 * placed) + NAME_WEIGHT * words + GROUND_WEIGHT * grounding,
            "answer": answer, "counted": counted, "placed": placed, "words": words, "ground": grounding,
            "right": right,
        }  # fmt: skip


def _pictures(rng: Rng, source: Pictures, n: int, exact: bool) -> tuple[list[Scene], list[Scene], Tensor]:
    """Drawn scenes, the scenes as the oracle reads them off the pictures, and the pictures' pixels."""
    drawn, read, images = [], [], []
    for _ in range(n):
        scene, image, doubtful = source(rng)
        drawn.append(scene)
        read.append(oracle.read_scene(image) if doubtful and exact else scene)
        images.append(image)
    return drawn, read, pixels(images)


@dataclass(frozen=True)
class Measured:
    """Accuracy on pictures and questions that were not trained on, in all and by kind of question; label mass on
    questions and on nonsense; and the temperature by which the logit of P(yes) is to be divided, which makes the
    answers likeliest (Guo et al. 2017)."""

    accuracy: float
    kinds: dict[str, float]
    mass: float
    mass_of_nonsense: float
    temperature: float


@torch.no_grad()
def measure(whole: Ask, source: Pictures, seed: int, batches: int, size: int = 32) -> Measured:
    whole.eval()
    rng = np.random.default_rng((seed, 3))
    gaps: list[Tensor] = []
    truths: list[Tensor] = []
    masses: list[Tensor] = []
    kinds: list[str] = []
    for _ in range(batches):
        _, read, images = _pictures(rng, source, size, True)
        batch = question_batch(rng, read)
        hidden, _ = whole.hidden(whole.look(images), batch.ids)
        final = hidden.gather(2, batch.end[..., None, None].expand(-1, -1, 1, hidden.shape[-1])).squeeze(2)
        logs = whole.judge.lm_head(final).float().log_softmax(-1).flatten(0, 1)
        gaps.append(logs[:, _YES] - logs[:, _NO])
        masses.append(logs[:, [_YES, _NO]].logsumexp(-1).exp())
        truths.append((batch.answer == _YES).flatten())
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
    return Measured(
        accuracy=float(right[sure].float().mean()),
        kinds=by_kind,
        mass=float(mass[sure].mean()),
        mass_of_nonsense=float(mass[nonsense].mean()),
        temperature=round(float(temperatures[int(torch.stack(losses).argmin())]), 3),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; `argv` in place of the process's own arguments."""
    parser = argparse.ArgumentParser(description="Trains the mini judge.")
    parser.add_argument("--out", type=Path, default=Path("mini/weights/judge"))
    parser.add_argument("--work", type=Path, default=Path("work/mini/judge"))
    parser.add_argument("--pool", type=Path, default=Path("work/mini/pool.npz"))
    parser.add_argument("--pool-size", type=int, default=200_000)
    parser.add_argument("--generated", type=Path, help="an .npz with `rows` of the generator's own scenes")
    parser.add_argument("--look-steps", type=int, default=1800)
    parser.add_argument("--max-steps", type=int, default=1300)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--measure-batches", type=int, default=40, help="batches of the closing measurement")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    torch.manual_seed(options.seed)
    rows, _ = load_pool(options.pool, options.pool_size)
    generated = None
    if options.generated is not None:
        with np.load(options.generated) as data:
            generated = data["rows"]
    AttentionInterface.register("packed", packed_attention)
    model = build_model()
    console.print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")

    look = Look(model)
    plain = Pictures(rows, None, messy=0.5)

    def look_step(i: int) -> Mapping[str, Tensor]:
        drawn, _, images = _pictures(np.random.default_rng((options.seed, 1, i)), plain, 2 * options.batch, False)
        return look.losses(images, patch_batch(drawn))

    Trainer(look, look_step, options.look_steps, options.work / "look", 1e-3, ema=0.99).run()

    start_projector(model, look.heads)
    whole = Ask(model)
    source = Pictures(rows, generated, messy=0.5)

    seen: dict[int, tuple[list[Scene], Tensor, PatchBatch]] = {}

    def ask_step(i: int) -> Mapping[str, Tensor]:
        # Drawing, reading and looking take as long as answering: each picture is asked about in several steps.
        turn = i // ASKED_AGAIN
        if turn not in seen:
            drawn, read, images = _pictures(np.random.default_rng((options.seed, 2, turn)), source, options.batch, True)
            seen.clear()
            seen[turn] = (read, whole.look(images), patch_batch(drawn))
        scenes, features, labels = seen[turn]
        return whole.losses(features, question_batch(np.random.default_rng((options.seed, 4, i)), scenes), labels)

    def evaluate() -> Mapping[str, float]:
        found = measure(whole, source, options.seed, batches=6)
        return {"accuracy": found.accuracy, **found.kinds, "mass_of_nonsense": found.mass_of_nonsense}

    trainer = Trainer(
        whole, ask_step, options.max_steps, options.work / "ask", 1e-3,
        warmup=100, ema=0.995, evaluate=evaluate, evaluate_every=250,
    )  # fmt: skip
    trainer.run()
    whole.load_state_dict(trainer.average)
    found = measure(whole, source, options.seed, options.measure_batches)
    save(whole.judge, options.out)
    record = {"seed": options.seed, "steps": [options.look_steps, options.max_steps], **asdict(found)}
    (options.out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    console.print(f"saved {options.out}: {found}")


if __name__ == "__main__":
    main()
