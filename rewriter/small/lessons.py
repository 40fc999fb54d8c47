"""Lessons for the small rewriter: a request as people type it, a short thought, and the rewrite, in prose or in tags.

    >>> import random
    >>> lesson = make_lesson(random.Random(0), "train")
    >>> lesson.request, lesson.thought, lesson.prompt

A lesson is used only if it keeps what it teaches: `faults` holds its rewrite against coverage, the guard and the length.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from evaluator.coverage import find_coverage
from evaluator.types import Check
from rewriter.guard import check_intent
from rewriter.small.scenes import Sampler, Scene, sample_scene
from rewriter.small.words import Split, sentence, with_article
from rewriter.target import TARGET_OF_FORM, Form, load_target
from rewriter.train.text_reward import HIGH, LOW, other_media

_TAG_WORDS = 48
_MASS = (" art", "claymation", "origami", "graffiti", "embroidery", "manga", "silhouette", "photography")
_VIEW_WITH = frozenset(("shallow depth of field", "bokeh", "symmetrical composition"))
_ARTICLE = re.compile(r"\b(?:a|an|the) ", re.IGNORECASE)
_QUOTED = re.compile(r"(\"[^\"]*\"|“[^”]*”|'[^']*'(?!\w))")

_WISHES = {
    "train": (
        "draw {x}", "please draw {x}", "can you draw {x}?", "i want a picture of {x}", "show me {x}",
        "generate an image of {x}", "a picture of {x}", "picture of {x}",
        "an image of {x}", "make a picture with {x}", "could you make me a picture of {x}, please?",
        "i would like to see {x}", "I want {x}", "create an image of {x}, please",
        "hi, please draw {x}, thank you", "Could you please draw {x}? Thank you so much", "i was thinking of {x}",
        "depict {x}", "an image that shows {x}", "let me see {x}",
        "{x}, if possible", "so i want {x} and please make it look nice",
        "hello, i would like a picture of {x}, that's all", "render {x}", "image: {x}", "{x} please",
    ),
    "test": ("i'd want to have {x} in a picture", "would you be so kind and draw {x}",
    "produce {x}, keep it simple", "we want {x}!"),
}  # fmt: skip
_OPENINGS = {
    "train": (
        "{core} {is} the main subject, {view}", "{core} {fills} most of the frame, {view}",
        "In the middle of the frame {is} {core}, {view}", "The frame is given to {core}, {view}",
        "A clear view of {core}, {view}", "{core}, {view}", "The composition is built around {core}, {view}",
        "At the centre {is} {core}, {view}",
        "{core} {takes} up the centre of the frame, {view}", "A scene with {core}, {view}",
    ),
    "test": ("The eye falls first on {core}, {view}",),
}  # fmt: skip


@dataclass(frozen=True)
class Lesson:
    """What a user wrote, and what a good rewriter thinks and answers. `kind`: the scene's; `points`: its key points."""

    request: str
    thought: str
    prompt: str
    form: Form
    kind: str
    points: tuple[str, ...]

    @property
    def record(self) -> dict[str, object]:
        """A line for `rewriter.train.sft`."""
        return {
            "request": self.request,
            "thought": self.thought,
            "prompt": self.prompt,
            "form": self.form,
            "kind": self.kind,
            "points": list(self.points),
        }


def make_lesson(rng: random.Random, split: Split, tags: float = 0.25) -> Lesson:
    """A lesson of the split that has no faults. `tags`: the share of those whose rewrite is in tags."""
    while True:
        lesson = _try_lesson(rng, split, "tags" if rng.random() < tags else "prose")
        if not faults(lesson):
            return lesson


def faults(lesson: Lesson) -> tuple[str, ...]:
    """Why a lesson must not be taught."""
    words = count_words(lesson.prompt)
    found = []
    if lesson.form == "prose" and not LOW <= words <= HIGH:
        found.append("length")
    if uncovered(lesson.request, lesson.prompt):
        found.append("coverage")
    if other_media(lesson.request, lesson.prompt):
        found.append("medium")
    target = load_target(TARGET_OF_FORM[lesson.form])
    prompt, negative = target.split(lesson.prompt)
    found += [finding.rule for finding in check_intent(lesson.request, prompt)]
    found += [rule for rule, _ in target.faults(lesson.request, prompt, negative)]
    return tuple(found)


def uncovered(request: str, prompt: str) -> tuple[str, ...]:
    """The words of a request that a rewrite has lost."""
    return find_coverage(request, (Check("other", prompt),)).uncovered


def count_words(text: str) -> int:
    return len(text.split())


def _try_lesson(rng: random.Random, split: Split, form: Form) -> Lesson:
    sampler = Sampler(rng, split)
    scene, kind = sample_scene(rng, split)
    if scene.style is None and rng.random() < 0.08:
        scene.style = sampler.pick("styles_plain")
    request = _word_request(sampler, scene)
    prompt = _write_prose(sampler, scene) if form == "prose" else _write_tags(sampler, scene)
    return Lesson(request, _think(rng, scene), prompt, form, kind, tuple(dict.fromkeys(scene.points)))


# ---- what the user types


def _word_request(s: Sampler, scene: Scene) -> str:
    rng, roll = s.rng, s.rng.random()
    if scene.more:
        text = _several_sentences(s, scene)
    elif roll < 0.14:
        text = _in_tags(rng, scene)
    else:
        text = _with_style(rng, _with_view(rng, _with_light(rng, scene.typed or scene.core, scene), scene), scene)
        if roll < 0.36:
            frames = _WISHES[s.split if s.chance(0.5) else "train"]
            text = rng.choice(frames).format(x=text)
    return _as_typed(rng, text)


def _with_light(rng: random.Random, text: str, scene: Scene) -> str:
    if scene.light is None:
        return text
    return f"{text} {scene.light}" if rng.random() < 0.7 else f"{text}, {scene.light}"


def _with_view(rng: random.Random, text: str, scene: Scene) -> str:
    if scene.view is None:
        return text
    return rng.choice(
        (
            f"{text}, {scene.view}",
            f"{text}. {sentence(scene.view)}",
            f"{scene.view} of {text}" if scene.view[0] in "capw" else f"{text}, {scene.view}",
        )
    )


def _with_style(rng: random.Random, text: str, scene: Scene) -> str:
    style = scene.style
    if style is None:
        return text
    return rng.choice((
        f"{_one_style(style)} of {text}", f"{_one_style(style)} of {text}", f"{style} of {text}",
        f"{text}, {style}", f"{text}. {style}.", f"{text}, in the style of {_one_style(style)}",
        f"{text} as {_one_style(style)}", f"{_one_style(style)} with {text}", f"{_one_style(style)} depicting {text}",
    ))  # fmt: skip


def _several_sentences(s: Sampler, scene: Scene) -> str:
    first = _with_view(s.rng, _with_light(s.rng, scene.core, scene), scene)
    parts = [first, *(typed for typed, _ in scene.more)]
    if scene.style and s.chance(0.5):
        parts = [_with_style(s.rng, first, scene), *parts[1:]]
    elif scene.style:
        parts.append(
            s.rng.choice((scene.style, f"in the style of {_one_style(scene.style)}", f"{_one_style(scene.style)}"))
        )
    if s.chance(0.2):
        return ", ".join(parts)
    return " ".join(sentence(part.rstrip(".")) for part in parts)


def _in_tags(rng: random.Random, scene: Scene) -> str:
    parts = [_without_articles(part) if '"' not in part else part for part in scene.keep]
    return ", ".join([*parts, *(extra for extra in (scene.style, scene.light, scene.view) if extra)])


def _without_articles(text: str) -> str:
    return _ARTICLE.sub("", text)


def _as_typed(rng: random.Random, text: str) -> str:
    """As hasty hands type it. What stands in quotation marks stays."""
    roll = rng.random()
    if roll < 0.12:
        return _outside_quotes(text, _without_articles)
    if roll < 0.16:
        return _outside_quotes(text, str.upper)
    if roll < 0.26:
        return _outside_quotes(text, str.lower)
    if roll < 0.48:
        return sentence(text) if rng.random() < 0.6 else text[:1].upper() + text[1:]
    if roll < 0.55:
        return _outside_quotes(text, lambda part: _misspelt(rng, part))
    return text


def _outside_quotes(text: str, change: object) -> str:
    assert callable(change)
    return "".join(part if i % 2 else change(part) for i, part in enumerate(_QUOTED.split(text)))


def _misspelt(rng: random.Random, text: str) -> str:
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) > 5 and word.isalpha() and word.islower()]
    if not long:
        return text
    i = rng.choice(long)
    at = rng.randrange(2, len(words[i]) - 1)
    word = words[i]
    words[i] = rng.choice(
        (
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
            word[: at - 1] + word[at] + word[at - 1] + word[at + 1 :],
        )
    )
    return " ".join(words)


# ---- what the rewriter thinks


def _think(rng: random.Random, scene: Scene) -> str:
    keep = [*scene.keep, *(extra for extra in (scene.style, scene.light, scene.view) if extra)]
    parts = [f"Keep: {'; '.join(dict.fromkeys(keep))}."]
    if scene.hard:
        parts.append(f"Hard: {', '.join(scene.hard)}.")
    missing = [
        name
        for name, known in (
            ("place", scene.placed or scene.plain),
            ("light", scene.light or scene.plain),
            ("view", scene.view),
            ("style", scene.style),
        )
        if not known
    ]
    parts.append(f"Open: {', '.join(missing)}." if missing else "Open: nothing.")
    return " ".join(parts)


# ---- what it answers


def _write_prose(s: Sampler, scene: Scene) -> str:
    needed = [_open(s, scene)]
    if scene.light and scene.light not in needed[0]:
        needed.append(s.rng.choice((f"Everything is seen {scene.light}", f"The whole scene is shown {scene.light}")))
    needed += [full for _, full in scene.more]
    if scene.facts and (s.chance(0.8) or not scene.more):
        needed.append(scene.facts[0])
    optional = _additions(s, scene)
    last = _closing(s, scene, needed[0])
    parts, wanted = list(needed), s.rng.randint(54, 84)
    words = sum(map(count_words, needed)) + count_words(last)
    for text in optional:
        if words >= wanted or text == last:
            continue
        parts.append(text)
        words += count_words(text)
    return " ".join(sentence(part) for part in (*parts, last) if part)


def _open(s: Sampler, scene: Scene) -> str:
    core = scene.core
    if scene.light and s.chance(0.7):
        core = f"{core} {scene.light}"
    view = _seen(scene.view) if scene.view else s.pick("views")
    if scene.opening:
        return scene.opening if scene.view is None else f"{scene.opening}, {view}"
    if scene.style and s.chance(0.9):
        style = _one_style(scene.style)
        return s.rng.choice(
            (f"{style} of {core}, {view}", f"{core}, shown as {style}, {view}", f"{style} of {core}, {view}")
        )
    if scene.plain and scene.view is None:
        return s.rng.choice(
            (
                f"{core} in the middle of the frame",
                f"The frame holds {core}, centred and large",
                f"{core}, drawn large and centred",
                f"A plain layout with {core}",
            )
        )
    frames = _OPENINGS[s.split if s.chance(0.5) else "train"]
    many = scene.many
    said = s.rng.choice(frames).format(
        core="\0",
        view=view,
        **{"is": "are" if many else "is"},
        fills="fill" if many else "fills",
        takes="take" if many else "takes",
    )
    return said.replace("\0", core)


def _seen(view: str) -> str:
    if view in ("from above", "from below"):
        return f"seen {view}"
    if view in _VIEW_WITH:
        return f"with {view}"
    if view in ("black and white", "35mm film", "backlit"):
        return {"black and white": "in black and white", "35mm film": "on 35mm film"}.get(view, view)
    return f"in {with_article(view)}"


def _additions(s: Sampler, scene: Scene) -> list[str]:
    """Sentences that make the scene concrete; the first ones matter most."""
    if scene.plain:
        return s.rng.sample(s.words.lists["plain_looks"], 5)
    parts: list[str] = []
    group = scene.group
    shown = None
    if group and group.details:
        one, two = s.rng.sample(group.details, 2)
        shown = s.rng.choice((
            f"The light picks out {one} and {two}", f"Up close one can make out {one} and {two}",
            f"Small things are clear to see: {one} and {two}", f"{one} and {two} are easy to make out",
            f"Care is given to {one} and {two}", f"The eye can follow {one} and {two}",
            f"Details are plain to see, such as {one} and {two}", f"One notices {one} and {two}",
        ))  # fmt: skip
    setting = None
    if group and group.places and not scene.placed and s.chance(0.6):
        setting = s.rng.choice(
            ("The scene is set {p}", "All of it is set {p}", "It all takes place {p}", "The setting is quiet, {p}")
        ).format(p=s.rng.choice(group.places))
    elif not scene.placed:
        setting = s.rng.choice((
            "The background is plain and a little out of focus",
            "Behind the subject there is only an even, pale ground",
            "The background is simple and stays in the distance",
            "The surroundings are plain", "The ground is even and the background empty",
        ))  # fmt: skip
    light = s.pick("light_neutral") if scene.light or s.chance(0.3) else s.pick("lights")
    order = [part for part in (setting, shown, light) if part]
    if s.chance(0.3):
        s.rng.shuffle(order)
    parts += order
    parts += s.rng.sample(s.words.lists["finish"], 3)
    return parts


def _closing(s: Sampler, scene: Scene, opening: str) -> str:
    if scene.style and scene.style in opening:
        return s.rng.choice(
            (
                f"Everything keeps to the look of {_one_style(scene.style)}",
                f"The whole is done as {_one_style(scene.style)}",
                s.pick("finish"),
            )
        )
    if scene.style:
        return s.rng.choice(
            (
                f"The style is that of {_one_style(scene.style)}",
                f"It is done as {_one_style(scene.style)}",
                f"The picture is {_one_style(scene.style)}",
            )
        )
    return s.pick("plain_looks") if scene.plain else s.pick("photo_style")


def _one_style(style: str) -> str:
    return style if style.endswith(_MASS) else with_article(style)


def _write_tags(s: Sampler, scene: Scene) -> str:
    core = _without_first_article(scene.core)
    items = [*_outside_cut(core), *(full for _, full in scene.more)]
    items += [extra for extra in (scene.style, scene.light, scene.view) if extra]
    optional: list[str] = []
    if scene.group and scene.group.details and not scene.plain:
        optional += _some(s, scene.group.details, 2)
    if scene.group and scene.group.places and not scene.placed and s.chance(0.5):
        optional.append(s.rng.choice(scene.group.places))
    if not scene.light and not scene.plain:
        optional.append(s.pick("light_tags"))
    if not scene.view:
        optional.append(s.pick("view_tags"))
    optional += _some(s, s.words.lists["background_tags"], 2)
    if not scene.style:
        optional.append("realistic photo")
    words = sum(map(count_words, items))
    for item in optional:
        if words + count_words(item) <= _TAG_WORDS:
            items.append(item)
            words += count_words(item)
    unwanted = [*scene.absent, *_some(s, s.words.lists["negative"], s.rng.randint(3, 5))]
    return f"{', '.join(dict.fromkeys(items))}\nNegative prompt: {', '.join(unwanted)}"


def _some(s: Sampler, items: Sequence[str], count: int) -> list[str]:
    """`count` of `items`, always in one order: of a list in any order a greedy model finds no end."""
    taken = set(s.rng.sample(items, count))
    return [item for item in items if item in taken]


def _without_first_article(text: str) -> str:
    return _ARTICLE.sub("", text, count=1) if _ARTICLE.match(text) else text


def _outside_cut(text: str) -> Sequence[str]:
    """The parts of a phrase between commas; quoted text is not cut."""
    if '"' in text or "“" in text or "'" in text:
        return [text]
    return [part.strip() for part in text.split(",")]
