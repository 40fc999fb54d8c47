"""Training questions for the judge: twelve about one picture packed into a sequence, with where words should look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mini.judge.model import ANSWER, IMAGE_TOKENS, build_tokenizer
from mini.judge.questioning import GRID, ask
from mini.world.questions import NUMBERS, Noun, Query, at_place, stands
from mini.world.sampling import Rng
from mini.world.scene import RELATIONS, SHAPES, WORDS, CutOut, Scene

QUESTIONS = 12
LENGTH = 15
NONSENSE = 0.03
OPEN = 0.35
"""Share of questions that want a word instead of yes or no."""
PREFIX = 1 + IMAGE_TOKENS
VOCABULARY: dict[str, int] = build_tokenizer().get_vocab()
YES, NO, UNSURE = (VOCABULARY[w] for w in ("yes", "no", "unsure"))


@dataclass(frozen=True)
class QuestionBatch:
    """Packed questions: ids (B, QUESTIONS, LENGTH), `end` (B, Q) position of the answer's cue, `answer` (B, Q) token
    id; `nouns` (N, 3) index of image, question, position; `count` (N,), `where` (N, 6) least and greatest x, y and
    3 * radius of what it names; `ground` (N, PREFIX) where the noun's last word should look (see `_grounds`); `values`
    (M, 3) and `value_ground` (M, PREFIX) the same for the words of values, `relations` (R, 3) and `relation_ground`
    (R, PREFIX) for the question marks of relations; `kinds` (B * Q,) kinds of question, or "open", or "nonsense"."""

    ids: Tensor
    end: Tensor
    answer: Tensor
    nouns: Tensor
    count: Tensor
    where: Tensor
    ground: Tensor
    values: Tensor
    value_ground: Tensor
    relations: Tensor
    relation_ground: Tensor
    kinds: tuple[str, ...]


def _open_question(rng: Rng, scene: Scene) -> tuple[list[str], str] | None:
    """A question that is answered with a word, and that word, or None if this draw has no single answer.

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
    cutouts = noun.find(scene)
    name = str(Noun(noun.shape, noun.color, len(cutouts) > 1)).split()
    if pick < 0.45:
        return (["colour", *name], cut.color) if len({c.color for c in cutouts}) == 1 else None
    if pick < 0.60:
        return (["exactly", *name], NUMBERS[len(cutouts)]) if len(cutouts) < len(NUMBERS) else None
    if pick < 0.70:
        return (["size", *name], cut.size) if len({c.size for c in cutouts}) == 1 else None
    if pick < 0.80:
        return (["pattern", *name], cut.fill) if len({c.fill for c in cutouts}) == 1 else None
    x, y = float(np.mean([c.x for c in cutouts])) - 0.5, float(np.mean([c.y for c in cutouts])) - 0.5
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
    if query.kind == "place" and query.noun is not None:
        return _grounds([c for c in query.noun.find(scene) if at_place(c, query.value)])
    return None


def _relation_ground(query: Query, scene: Scene) -> NDArray[np.float32] | None:
    """Where the question mark of a relation should look: at those of the first noun that stand in it."""
    if query.kind not in RELATIONS or query.kind == "same_color" or query.noun is None or query.other is None:
        return None
    others = query.other.find(scene)
    return _grounds([c for c in query.noun.find(scene) if others and all(stands(query.kind, c, o) for o in others)])


def _extent(found: Sequence[CutOut]) -> tuple[float, ...]:
    if not found:
        return (0.0,) * 6
    spans = ([c.x for c in found], [c.y for c in found], [c.radius * 3 for c in found])
    return tuple(limit(values) for values in spans for limit in (min, max))


def question_batch(rng: Rng, scenes: Sequence[Scene]) -> QuestionBatch:
    ids = np.zeros((len(scenes), QUESTIONS, LENGTH), dtype=np.int64)
    end = np.zeros((len(scenes), QUESTIONS), dtype=np.int64)
    answer = np.zeros((len(scenes), QUESTIONS), dtype=np.int64)
    nouns: list[tuple[int, int, int]] = []
    count: list[int] = []
    where: list[tuple[float, ...]] = []
    ground: list[NDArray[np.float32]] = []
    values: list[tuple[int, int, int]] = []
    value_ground: list[NDArray[np.float32]] = []
    relations: list[tuple[int, int, int]] = []
    relation_ground: list[NDArray[np.float32]] = []
    kinds: list[str] = []
    for b, scene in enumerate(scenes):
        for q in range(QUESTIONS):
            question = _open_question(rng, scene) if rng.random() < OPEN else None
            query, truth = ask(rng, scene)
            words = _words(query)
            target = YES if truth else NO
            if question is not None:
                words, target = list(question[0]), VOCABULARY[question[1]]
                kinds.append("open")
            elif rng.random() < NONSENSE:
                # Half of it words out of order, half a question with a word that is not of this world.
                if rng.random() < 0.5:
                    rng.shuffle(words)
                else:
                    words[int(rng.integers(1, len(words) - 1))] = "<unk>"
                target = UNSURE
                kinds.append("nonsense")
            else:
                kinds.append(query.kind)
                for position, noun in _noun_ends(words, query):
                    cutouts = noun.find(scene)
                    nouns.append((b, q, position))
                    count.append(min(len(cutouts), 6))
                    where.append(_extent(cutouts))
                    ground.append(_grounds(cutouts))
                value = _value_ground(query, scene)
                if value is not None:
                    values.append((b, q, len(words) - 2))
                    value_ground.append(value)
                standing = _relation_ground(query, scene)
                if standing is not None:
                    relations.append((b, q, len(words) - 1))
                    relation_ground.append(standing)
            words.append(ANSWER)
            ids[b, q, : len(words)] = [VOCABULARY.get(w, VOCABULARY["<unk>"]) for w in words]
            end[b, q] = len(words) - 1
            answer[b, q] = target
    return QuestionBatch(
        torch.from_numpy(ids), torch.from_numpy(end), torch.from_numpy(answer),
        torch.tensor(nouns), torch.tensor(count), torch.tensor(where),
        _stack(ground), torch.tensor(values).reshape(-1, 3), _stack(value_ground),
        torch.tensor(relations).reshape(-1, 3), _stack(relation_ground), tuple(kinds),
    )  # fmt: skip


def _stack(grounds: Sequence[NDArray[np.float32]]) -> Tensor:
    return torch.from_numpy(np.stack(grounds)) if grounds else torch.zeros(0, PREFIX)
