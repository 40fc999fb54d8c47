"""What the mini rewriter is taught: chats of three tasks, made from specs of the training split.

    Rewrite: <prompt>                                     -> <think>…</think><answer>canonical caption</answer>
    Checklist: <prompt>                                   -> lines "key_point | question"
    Repair: <prompt> / Before: <caption> / Failed: <questions> -> <think>…</think><answer>better caption</answer>

The three prompts are the templates of style "mini" in rewriter/ and evaluator/; a test proves that they are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from mini.rewriter.thoughts import thought_of
from mini.world import questions
from mini.world.captions import caption, caption_unaware
from mini.world.sampling import Rng, Split, holds_out, noun, sample_scene, sample_spec
from mini.world.scene import COLORS, FILLS, SHAPES, SIZES, Group, Relation, Spec
from mini.world.wording import Wording, say

Task = Literal["rewrite", "checklist", "repair"]
TASKS: dict[Task, float] = {"rewrite": 0.45, "checklist": 0.30, "repair": 0.25}


@dataclass(frozen=True)
class Lesson:
    """One turn of the user and the reply to learn. Of a repair: what drew the last picture, and what it failed."""

    task: Task
    prompt: str
    reply: str
    wording: Wording
    before: str = ""
    failed: tuple[str, ...] = ()


def reply_of(thought: str, answer: str) -> str:
    return f"<think>{thought}</think><answer>{answer}</answer>"


def parts_of(reply: str) -> tuple[str, str]:
    """The thought and the answer that `reply_of` was given."""
    thought, answer = reply.removeprefix("<think>").removesuffix("</answer>").split("</think><answer>")
    return thought, answer


def _spoil_group(rng: Rng, group: Group) -> Group:
    match int(rng.integers(5)):
        case 0:
            return replace(group, color=str(rng.choice(tuple(COLORS))) if rng.random() < 0.6 else None)
        case 1:
            return replace(group, shape=str(rng.choice(SHAPES)))
        case 2:
            return replace(group, count=max(1, min(6, group.count + int(rng.choice((-1, 1))))))
        case 3:
            return replace(group, size=str(rng.choice(SIZES)) if group.size is None else None)
        case _:
            return replace(group, fill=str(rng.choice(FILLS)) if group.fill is None else None)


def _spoil(rng: Rng, spec: Spec) -> Spec:
    """The spec as a hasty rewriter would have understood it."""
    pick = rng.random()
    if pick < 0.5:
        i = int(rng.integers(len(spec.groups)))
        groups = list(spec.groups)
        groups[i] = _spoil_group(rng, groups[i])
        return replace(spec, groups=tuple(groups))
    if pick < 0.7 and spec.relations:
        return replace(spec, relations=spec.relations[1:])
    if pick < 0.8 and spec.sheet:
        return replace(spec, sheet=None)
    if pick < 0.9 and spec.word:
        return replace(spec, word=None, word_place=None)
    if spec.absent and spec.absent[0].shape and sum(g.count for g in spec.groups) < 6:
        return replace(spec, groups=(*spec.groups, Group(1, spec.absent[0].shape, spec.absent[0].color)))
    if len(spec.groups) > 1 and not spec.relations:
        return replace(spec, groups=spec.groups[:-1])
    return spec


def first_come(spec: Spec, first: list[int]) -> Spec:
    """The spec with the groups numbered in `first` moved to the front."""
    order = [*first, *(i for i in range(len(spec.groups)) if i not in first)]
    place = {old: new for new, old in enumerate(order)}
    return replace(
        spec,
        groups=tuple(spec.groups[i] for i in order),
        relations=tuple(Relation(r.kind, place[r.a], place[r.b]) for r in spec.relations),
    )


def _repair(rng: Rng, wording: Wording, once: float) -> Lesson:
    """What was drawn before may have been asked for wrongly, or drawn wrongly."""
    spec = wording.spec
    before = _spoil(rng, spec) if rng.random() < 0.5 else spec
    if holds_out(before) and not holds_out(spec):
        before = spec
    asked = [question for _, question in wording.checks]
    failed: list[str] = []
    scene = sample_scene(rng, before, tries=3) if before != spec else None
    if scene is not None:
        parsed = [(q, questions.parse(q)) for q in asked]
        failed = [q for q, query in parsed if query is not None and not questions.answer(query, scene)]
    if not failed:
        count = min(len(asked), int(rng.integers(1, 4)))
        failed = [asked[int(i)] for i in sorted(rng.choice(len(asked), size=count, replace=False))]
    named = [str(noun(spec, i)) for i in range(len(spec.groups))]
    first = [i for i, name in enumerate(named) if any(name in question for question in failed)]
    again = first_come(spec, first)
    # The loop repairs the best picture's prompt, and that may be the user's own.
    said = wording.text if before == spec and rng.random() < 0.35 else _caption(rng, before, once)
    prompt = f"Repair: {wording.text}\nBefore: {said}\nFailed: {' '.join(failed)}"
    reply = reply_of(thought_of(again), _caption(rng, again, once))
    return Lesson("repair", prompt, reply, wording, said, tuple(failed))


def _caption(rng: Rng, spec: Spec, once: float) -> str:
    # Draws nothing if every relation is stated from both sides: the committed weights' lessons stay what they were.
    return caption_unaware(rng, spec, once) if once else caption(spec)


def lesson(rng: Rng, split: Split = "train", task: Task | None = None, once: float = 0.0) -> Lesson:
    """A lesson of the given task, or of one drawn by their shares. `once`: the share of relations that its captions
    tell from one side only, which the generator draws less well (`mini.world.captions`)."""
    wording = say(rng, sample_spec(rng, split))
    if task is None:
        task = tuple(TASKS)[int(rng.choice(len(TASKS), p=list(TASKS.values())))]
    if task == "repair":
        return _repair(rng, wording, once)
    if task == "checklist":
        lines = "\n".join(f"{key} | {question}" for key, question in wording.checks)
        return Lesson(task, f"Checklist: {wording.text}", lines, wording)
    # Who knows the canonical language may use it: such a prompt stays as it is.
    caption = _caption(rng, wording.spec, once)
    text = caption if rng.random() < 0.04 and not wording.spec.absent else wording.text
    return Lesson(task, f"Rewrite: {text}", reply_of(wording.thought, caption), wording)
