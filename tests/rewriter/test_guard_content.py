"""What a request is about, what steers a program, and what is no description of a picture; and what is not covered."""

from __future__ import annotations

import unicodedata

import pytest

from rewriter.guard import check_intent


def rules(request: str, rewrite: str) -> set[str]:
    return {finding.rule for finding in check_intent(request, rewrite)}


@pytest.mark.parametrize(
    ("request_", "rewrite"),
    [
        ("two red stars", "two diamonds"),
        ("a photo of a cat", "a plain cross"),
        ("a red fox in snow", "A blue sports car on a mountain road at sunset"),
        ("a cat on a sofa", "A golden retriever on a lawn in the evening sun"),
        ("ein Hund im Garten", "Eine alte Brücke über dem Fluss im Nebel"),
        ("un phare sur la falaise", "Une vieille voiture garée devant la maison"),
        ("кот на диване", "Старый мост над рекой в тумане"),
        ("雪中的狐狸", "一辆蓝色跑车停在山路上"),
    ],
)
def test_another_subject_is_caught(request_: str, rewrite: str) -> None:
    assert "subject" in rules(request_, rewrite)


@pytest.mark.parametrize(
    ("request_", "rewrite"),
    [
        ("a cat", "A tabby cat asleep on a windowsill"),
        ("cats", "A tabby cat asleep beside another cat"),
        ("two", "Two pears on a plate"),
        ("three red ones", "Three crimson shapes on white"),
        ('"OPEN" in neon', 'A shop window at night; glowing tubes spell "OPEN".'),
        ("雪中的狐狸", "一只火红的狐狸蹲在雪地里"),
    ],
)
def test_a_subject_that_comes_back_is_not(request_: str, rewrite: str) -> None:
    assert "subject" not in rules(request_, rewrite)


@pytest.mark.parametrize(
    ("request_", "kept", "lost"),
    [
        ("an oil painting of a cat", "a painting of a cat in oil", "a 3D render of a cat"),
        ("a photo of a cat", "a close photograph of a cat", "a sketch of a cat"),
        ("ein Foto einer Katze", "Eine Fotografie einer Katze auf dem Sofa", "Eine Zeichnung einer Katze auf dem Sofa"),
        ("一张猫的照片", "一张猫的照片，光线柔和", "一幅猫的素描，光线柔和"),
    ],
)
def test_the_medium_stays(request_: str, kept: str, lost: str) -> None:
    assert rules(request_, kept) == set()
    assert "medium" in rules(request_, lost)


@pytest.mark.parametrize(
    ("request_", "kept", "lost"),
    [
        ("<lora:detail:0.8> a cat", "<lora:detail:0.8> a fluffy cat", "a fluffy cat on a sofa"),
        ("(red hat:1.4) woman", "a woman in a (red hat:1.4)", "a woman in a red hat"),
        ("a __animal__ in a field", "a __animal__ in a sunny field", "an animal in a field"),
        ("a {red|blue} car", "a shiny {red|blue} car", "a red car"),
        ("embedding:easynegative, a cat", "embedding:easynegative, a fluffy cat", "a cat"),
        ("a cat --ar 16:9 --v 6", "a fluffy cat --ar 16:9 --v 6", "a fluffy cat --ar 16:9"),
    ],
)
def test_what_steers_a_program_comes_back(request_: str, kept: str, lost: str) -> None:
    assert rules(request_, kept) == set()
    assert "syntax" in rules(request_, lost)


@pytest.mark.parametrize("code", ["(soft light:1.3)", "{red|blue}", "embedding:bad-hands", "[cat:dog:0.5]"])
def test_what_steers_a_program_is_not_invented(code: str) -> None:
    assert "syntax" in rules("a cat on a sofa", f"a cat on a sofa, {code}")


@pytest.mark.parametrize(
    "rewrite",
    [
        "<div style='width:100%'>a cat</div>",
        "<output>a cat on a sofa</output>",
        "<svg viewBox='0 0 9 9'><circle r='3'/></svg> cat",
        '{"Rewritten": "a cat on a sofa"}',
        '["a cat on a sofa"]',
        r"\boxed{a cat on a sofa}",
        "a cat &amp; a sofa",
        r"a cat\non a sofa",
        "A cat on a sofa. (6 words)",
        "the prompt",
        "A cat? Please provide more details.",
    ],
)
def test_markup_and_wrappers_are_no_prompt(rewrite: str) -> None:
    assert "remnants" in rules("a cat on a sofa", rewrite)


def test_markup_that_the_user_wrote_may_come_back() -> None:
    request = 'a sign that says "<b>Tom & Jerry</b>"'
    assert rules(request, 'A wooden sign that says "<b>Tom & Jerry</b>" over a door') == set()


@pytest.mark.parametrize(
    ("request_", "rewrite", "rule"),
    [
        ("a star between two circles", "a star beside one circle", "numbers"),
        ("一只黑猫坐在白色沙发上", "一只白猫坐在黑色沙发上", "colours"),
        ("穿红裙子的女孩", "穿蓝裙子的女孩", "colours"),
        ("红苹果", "青苹果", "colours"),
        ("赤い靴と青い帽子", "青い靴と赤い帽子", "colours"),
        ("金髪の少女", "黒髪の少女", "colours"),
        ("a single rose", "a bouquet of roses", "counts"),
        ("exactly one dog", "a pack of dogs", "counts"),
        ("a beach, nobody around", "a crowded beach full of tourists", "negations"),
        ("photo of sks dog in a bucket", "photo of a dog in a bucket", "syntax"),
        ("貓戴著紅色帽子坐在窗邊", "猫戴着红色帽子坐在窗边", "language"),
        ("一只猫戴着红帽子坐在窗边", "一隻貓戴著紅色帽子坐在窗邊", "language"),
    ],
)
def test_more_changes_are_caught(request_: str, rewrite: str, rule: str) -> None:
    assert rule in rules(request_, rewrite)


@pytest.mark.parametrize(
    ("request_", "rewrite"),
    [
        (unicodedata.normalize("NFD", 'café sign that says "CAFÉ"'), 'a café sign that says "CAFÉ", warm lights'),
        ("a sign that says 'Rock 'n' Roll'", "a sign that says \"Rock 'n' Roll\" in neon"),
        ("no solo rosas sino también tulipanes", "rosas y tulipanes en un jarrón de cristal"),
        ("a trio of musicians", "three musicians on stage"),
        ("一双红色高跟鞋", "红色高跟鞋放在白色台面上"),
        ("a single rose", "A single rose among fallen roses"),
        ("a sign reading “Don’t Panic”", 'a sign reading "Don\'t Panic" in large letters'),
        ("photo of sks dog in a bucket", "A photo of sks dog, who sits in a wooden bucket"),
        ("an hdr photo of a lake", "A lake under a bright sky, photo"),
        ("一隻貓坐在窗邊，外面下著雪", "一隻毛茸茸的貓坐在木製窗臺上，窗外飄著雪"),
    ],
)
def test_no_false_alarm(request_: str, rewrite: str) -> None:
    assert rules(request_, rewrite) == set()


@pytest.mark.parametrize(
    ("request_", "rewrite"),
    [
        ("a cat on a sofa", "a dog on a sofa"),  # part of the subject comes back
        ("an oil painting of a cat", "a cat on a sofa"),  # the medium, if it is only lost
        ("photo of zephyr dog in a bucket", "photo of a dog in a bucket"),  # a trigger word that can be pronounced
    ],
)
def test_what_is_not_covered(request_: str, rewrite: str) -> None:
    assert rules(request_, rewrite) == set()
