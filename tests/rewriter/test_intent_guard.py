"""The intent guard, case by case; the corpus has a test of its own."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from redraft.errors import ConfigError
from rewriter.guard import RULES, Finding, GuardSettings, check_intent
from rewriter.guard.passage import find_quotes
from rewriter.styles import load_style
from tests.rewriter.saboteurs import load_samples


def pairs(file: str) -> list[tuple[str, str, str]]:
    """(language, prompt, rewrite) of each line."""
    lines = (Path(__file__).parent / file).read_text(encoding="utf-8").splitlines()
    rows = [line.split(" | ") for line in lines if line and not line.startswith("#")]
    return [(language.strip(), prompt.strip(), rewrite.strip()) for language, prompt, rewrite in rows]


BAD = pairs("bad_rewrites.txt")
SAMPLES = load_samples(Path(__file__).parents[1] / "data" / "intent")
MINI = load_style("package:mini/rewriter/style").settings.guard


def rules_of(findings: tuple[Finding, ...]) -> set[str]:
    return {finding.rule for finding in findings}


QUOTED = [
    "\"{}\"", "'{}'", "“{}”", "‘{}’", "”{}”", "„{}“", "„{}”", "‚{}‘", "«{}»", "« {} »", "»{}«", "‹{}›", "›{}‹",
    "「{}」", "『{}』", "﹁{}﹂", "﹃{}﹄", "〝{}〟", "＂{}＂", "《{}》", "〈{}〉", "`{}`",
]  # fmt: skip


TEXTS = ["OPEN 24h", "Don't", "l’été", "开门大吉", "مفتوح", "खुला है", "Ёлка №5"]


@pytest.mark.parametrize("marks", QUOTED)
@pytest.mark.parametrize("text", TEXTS)
def test_quotes_of_every_kind(text: str, marks: str) -> None:
    prompt = f"a sign that says {marks.format(text)} above the door"
    assert check_intent(prompt, f"Above a red door hangs a sign that says {marks.format(text)}.") == ()
    assert check_intent(prompt, f'Above a red door hangs a sign that says "{text}".') == ()
    for bad in (text[:-1], text + "!", text.swapcase() if text.swapcase() != text else text[1:]):
        if bad != text:
            found = check_intent(prompt, f"Above a red door hangs a sign that says {marks.format(bad)}.")
            assert "quoted_text" in rules_of(found), bad


@pytest.mark.parametrize(
    "prompt",
    [
        "the dogs' bowls and the cat's bed, it's raining",
        "rock 'n' roll in the '90s",
        'a 12" record, 5\' 2" tall, two 6" rulers',
        "l'ours n'a pas d'ami, aujourd'hui",
        "Hans' und Fritz' Fahrräder",
        "o'clock, y'all, 'tis the season",
        "dell'arte, un po' di vento e l'isola",
    ],
)
def test_apostrophes_are_no_quotes(prompt: str) -> None:
    assert find_quotes(prompt) == ()


def test_broken_apostrophes_are_caught() -> None:
    found = check_intent("a man who doesn't smile", 'A man who doesn"t smile stands by a wall.')
    assert "apostrophes" in rules_of(found)


# What cannot be made from a good rewrite by machine: one line a case, prompt and bad rewrite.
NUMBERS = [
    ("three red apples", "a still life of two red apples"),
    ("a dozen eggs", "ten eggs in a basket"),
    ("half a dozen muffins", "twelve muffins on a rack"),
    ("a pair of owls on a branch", "three owls on a branch"),
    ("twenty-five balloons", "twenty-four balloons over a city"),
    ("a cake with 7 candles", "a cake with many candles"),
    ("portrait of a 60 year old man", "portrait of a 16-year-old boy"),
    ("the number 42 on a wall", "the number 24 on a wall"),
    ("1,500 sheep on a hill", "1,000 sheep on a hill"),
    ("三只猫在屋顶上", "五只猫坐在屋顶上"),
    ("一对天鹅在湖面上", "四只天鹅在湖面上"),
    ("十二个月亮", "十个月亮挂在夜空"),
    ("drei rote Äpfel in einer Schale", "Ein Stillleben mit vier roten Äpfeln in einer Schale"),
    ("trois pommes rouges dans un bol", "Une nature morte avec cinq pommes rouges dans un bol"),
    ("tres manzanas rojas en un plato", "Un bodegón con dos manzanas rojas en un plato"),
    ("三匹の犬が公園で遊ぶ", "緑の公園で五匹の犬が遊んでいる"),
    ("七つの星", "夜空に六つの星が輝く"),
    ("три красных яблока на столе", "На столе лежат четыре красных яблока"),
    ("пять шаров", "шесть воздушных шаров над лугом"),
    ("ثلاث تفاحات حمراء في وعاء", "أربع تفاحات حمراء في وعاء"),
    ("٣ قطط في حديقة", "خمس قطط في حديقة"),
]
COUNTS = [
    ("two cats and three dogs", "three cats and two dogs on a lawn"),
    ("a cat on a mat", "three cats on a mat"),
    ("one tree in a field", "two trees in a field"),
    ("zwei Katzen und drei Hunde im Haus", "Drei Katzen und zwei Hunde im Haus"),
    ("deux chats et trois chiens dans un jardin", "Trois chats et deux chiens dans un jardin"),
    ("dos gatos y tres perros en la casa", "Tres gatos y dos perros en la casa"),
]
NEGATIONS = [
    ("a man without a hat", "A man wearing a red hat stands on a pier"),
    ("a man without a hat", "A man without a hat, wearing a tall hat"),
    ("a beach with no people", "A beach full of people under umbrellas"),
    ("a beach, nobody there", "A beach crowded with people"),
    ("a street without cars or trees", "A street lined with trees, no cars"),
    ("a car, not red, in a garage", "A shiny red car in a garage"),
    ("a drink with no ice", "A tall drink with ice and a straw"),
    ("a gluten-free cake", "A cake rich in gluten"),
    ("don't add any text, just a lighthouse", "A lighthouse with bold text above it"),
    ("a boy not smiling", "A boy smiling broadly"),
    ("a room free of furniture", "A room with heavy furniture"),
    ("no stars, a red circle", "one red circle, two stars"),
    ("没有汽车的街道", "一条宽阔的街道，路边停着许多汽车"),
    ("穿旗袍的女人，不要文字", "一位穿旗袍的女人，旁边写着文字"),
    ("eine Straße ohne Autos", "Eine Straße, auf der viele Autos stehen"),
    ("ein Garten, keine Blumen, nur Gras", "Ein Garten mit bunten Blumen und Gras"),
    ("une plage sans personnes", "Une plage avec des personnes qui marchent"),
    ("un ciel sans nuages", "Un ciel couvert de nuages gris"),
    ("l'homme n'a pas de chapeau", "L'homme porte un grand chapeau"),
    ("una calle sin coches", "Una calle llena de coches"),
    ("車のない道路", "車が走る静かな道路"),
    ("улица без машин", "Улица, по которой едут машины"),
    ("человек без шляпы под дождём", "Человек в шляпе под дождём"),
    ("شارع بدون سيارات", "شارع مليء بالسيارات عند الغروب"),
]
COLOURS = [
    ("a red circle left of a blue square", "a blue circle left of a red square"),
    ("a red car at night", "A blue car races through the night"),
    ("a girl with blue eyes", "A girl with brown eyes looks up"),
    ("a woman in a yellow raincoat", "A woman wearing a green raincoat"),
    ("ein roter Ball auf der Wiese", "Ein blauer Ball liegt auf der Wiese"),
    ("une voiture rouge dans la rue", "Une voiture bleue dans la rue"),
    ("un gato negro en la casa", "Un gato blanco en la casa"),
    ("синий мяч на полу", "На полу лежит красный мяч"),
    ("一只红色的猫", "一只蓝色的猫坐在窗台上"),
    ("赤い傘を持つ女性", "青い傘を持つ女性が立っている"),
]
BY_HAND = [
    *(("numbers", *case) for case in NUMBERS),
    *(("counts", *case) for case in COUNTS),
    *(("negations", *case) for case in NEGATIONS),
    *(("colours", *case) for case in COLOURS),
]


@pytest.mark.parametrize(("rule", "prompt", "bad"), BY_HAND)
def test_changed_content_is_caught(rule: str, prompt: str, bad: str) -> None:
    assert rule in rules_of(check_intent(prompt, bad))


@pytest.mark.parametrize(("language", "prompt", "bad"), BAD)
def test_bad_rewrites_are_caught(language: str, prompt: str, bad: str) -> None:
    assert rules_of(check_intent(prompt, bad)) & {"numbers", "counts", "negations", "colours", "quoted_text"}, language


def test_findings_name_what_they_found() -> None:
    for _, prompt, bad in BY_HAND:
        for finding in check_intent(prompt, bad):
            side = prompt if finding.side == "request" else bad
            assert finding.text
            assert side[finding.start : finding.end] == finding.text or finding.rule == "quoted_text"
            assert finding.message.endswith(".")
            assert str(finding).startswith(finding.rule)


@pytest.mark.parametrize(
    ("prompt", "caption"),
    [
        ("a couple of tiny crimson stars, please", "two small red stars"),
        ("two stars in red and one more in blue", "two red stars, one blue star"),
        ("three stars: two red ones and a blue one", "two red stars, one blue star"),
        ("a red star and two more red stars", "three red stars"),
        ('write "HELLO" at the top, over a blue circle', "one blue circle, word HELLO at the top"),
        ("the word 'JAZZ' next to a heart, no circles", "one heart, word JAZZ"),
        ("a pair of hearts on a cream sheet", "two hearts, cream sheet"),
        ("both moons should be yellow, no stars and nothing blue", "two yellow moons"),
        ("I'd like 3 green squares; there shouldn't be any triangles", "three green squares"),
        ("a big cross without any hearts or diamonds, on grey", "one large cross, grey sheet"),
        ("put a violet diamond inside a big yellow square", "one purple diamond, one large yellow square"),
        ("a lavender sheet with a navy moon", "one blue moon, lilac sheet"),
        ("a red circle, not blue, on a white sheet", "one red circle, white sheet"),
        ("not a circle but a square", "one square"),
    ],
)
def test_mini_captions_pass(prompt: str, caption: str) -> None:
    assert check_intent(prompt, caption, MINI) == ()


@pytest.mark.parametrize(
    ("prompt", "caption", "rule"),
    [
        ("two tiny red stars", "three small red stars", "numbers"),
        ("a star and two hearts", "two stars, one heart", "counts"),
        ('"HELLO" over a circle', "one circle, word HELL", "quoted_text"),
        ('"HELLO" over a circle', "one circle, word HELLOS", "quoted_text"),
        ("a circle, no stars", "one circle, one star", "negations"),
        ("a circle and nothing blue", "one circle, one blue heart", "negations"),
        ("a red circle", "one blue circle", "colours"),
    ],
)
def test_mini_captions_are_caught(prompt: str, caption: str, rule: str) -> None:
    assert rule in rules_of(check_intent(prompt, caption, MINI))


def test_rules_can_be_switched_off() -> None:
    prompt, bad = "three red apples", "Sure, two blue apples"
    assert rules_of(check_intent(prompt, bad)) == {"numbers", "counts", "remnants"} | {"colours"}
    quiet = GuardSettings(off=("numbers", "counts", "remnants", "colours"))
    assert check_intent(prompt, bad, quiet) == ()
    with pytest.raises(ConfigError, match="colors"):
        check_intent(prompt, bad, GuardSettings(off=("colors",)))


def test_long_prompts_may_stay_long() -> None:
    prompt = ", ".join(f"tower {i} of old grey stone" for i in range(150))
    assert check_intent(prompt, prompt) == ()


def texts(rng: random.Random) -> Iterator[str]:
    pieces = [part for sample in SAMPLES for part in re.findall(r"\w+|\W", sample.prompt + sample.rewrite)]
    marks = "\"'“”«»「」‘’-.,!?\n0٣三十百万\0\ud800"
    pieces += [*marks, "million", "9" * 5000, "no", "without", "pair of", "dozen"]
    for _ in range(1500):
        yield "".join(rng.choice(pieces) for _ in range(rng.randrange(30)))


def test_no_text_makes_the_guard_raise() -> None:
    rng = random.Random(7)
    for prompt, rewrite in zip(texts(rng), texts(rng), strict=True):
        for finding in check_intent(prompt, rewrite):
            assert finding.rule in RULES
    loops = ("million " * 500, "万" * 500, "no " * 500, '"' * 500, "two " * 500, "red " * 500, "'" * 400 + "a b " * 400)
    for text in loops:
        check_intent(text, text + "x")
