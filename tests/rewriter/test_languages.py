"""Languages are files: what is in them, and that a file is all it takes to add one."""

from __future__ import annotations

from pathlib import Path

import pytest

from redraft.errors import ConfigError
from rewriter.guard import GuardSettings, check_intent, detect_language, load_languages

POLISH = """
name = "Polish"
script = "latin"
words = '''
i w na z do nie się jest są ze od po pod nad przed bez oraz dla jak obok który która jeden dwa trzy cztery pięć kot koty
kotów pies psy psów dom czerwony czerwona czerwone niebieski niebieska zielony zielona biały biała czarny czarna
mężczyzna kobieta dziewczyna chłopiec kapelusz kapelusza piłka samochód ulica trawa stół okno drzewo drzewa gwiazda
gwiazdy księżyc siedzi stoi leży trzyma'''
letters = '[ąęłńśźż]'
inflected = true

[numbers]
from_zero = ["zero", "jeden jedna jedno", "dwa dwie dwóch", "trzy trzech", "cztery czterech", "pięć pięciu"]

[negation]
cues = "bez żadnych żadnego"
stops = "i w na z pod nad przed obok ale"
denies_all = "bez nie żadn*"
asserts = "z ale"

[colours]
endings = "(?:y|a|e|i|ego|ej|ą|ym|im)"

[colours.words]
red = "czerwon"
blue = "niebiesk"
green = "zielon"
"""


@pytest.fixture
def polish(tmp_path: Path) -> GuardSettings:
    (tmp_path / "pl.toml").write_text(POLISH, encoding="utf-8")
    return GuardSettings(languages=(str(tmp_path),))


@pytest.mark.parametrize(
    ("rule", "request_", "good", "bad"),
    [
        (
            "numbers",
            "trzy koty na stole",
            "Trzy koty siedzą obok siebie na drewnianym stole przy oknie.",
            "Pięć kotów siedzi obok siebie na drewnianym stole przy oknie.",
        ),
        (
            "negations",
            "mężczyzna bez kapelusza stoi na ulicy",
            "Mężczyzna bez kapelusza stoi na pustej ulicy w świetle latarni.",
            "Mężczyzna w wysokim kapeluszu stoi na pustej ulicy w świetle latarni.",
        ),
        (
            "colours",
            "czerwona piłka na trawie",
            "Na trawie leży czerwona piłka, nad nią jasne niebo.",
            "Na trawie leży niebieska piłka, nad nią jasne niebo.",
        ),
    ],
)
def test_a_file_adds_a_language(polish: GuardSettings, rule: str, request_: str, good: str, bad: str) -> None:
    assert check_intent(request_, good, polish) == ()
    assert [finding.rule for finding in check_intent(request_, bad, polish)] == [rule]
    assert rule not in {finding.rule for finding in check_intent(request_, bad)}  # without the file nothing is known


def test_an_added_language_is_told_from_the_others(polish: GuardSettings) -> None:
    assert detect_language("trzy koty na stole", load_languages(*polish.languages)) == "pl"
    found = check_intent("trzy koty na stole", "Three cats sit side by side on a wooden table.", polish)
    assert "The request is in Polish; the rewrite is in English." in [finding.message for finding in found]


def test_every_language_that_the_guard_knows_has_a_file() -> None:
    known = {language.code for language in load_languages() if language.chat}
    assert known == {"en", "de", "fr", "es", "it", "pt", "nl", "ru", "ar", "hi", "zh", "ja", "ko"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('name = "Polish"', "script"),
        ('name = "Polish"\nscript = "latin"\ncolours = 3', "colours"),
        ('name = "Polish"\nscript = "latin"\nletters = "["', "pl.toml"),
        ("name = ", "pl.toml"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "pl.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=complaint):
        load_languages(str(tmp_path))


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no language files"):
        check_intent("a", "b", GuardSettings(languages=(str(tmp_path),)))
