"""Templates: of prompts, .txt files filled in one pass in which the user's text is fenced off from ours, and of pages."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from redraft.errors import ConfigError, show_directions
from redraft.files import PACKAGE, package_path

if TYPE_CHECKING:
    from jinja2 import Template

_BRACES = re.compile(r"\{\{(?:([A-Za-z_][A-Za-z0-9_]*)\}\})?")
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUOTE_OR_WORD = re.compile(
    r"""("[^"]*"|“[^“”]*”|„[^„“”]*[“”]|«[^«»]*»|(?<!\w)'[^']*'(?!\w)|(?<!\w)‘[^‘’]*’(?!\w))|[^\W\d_]+"""
)
_INVISIBLE = re.compile("[\u200b-\u200f\u2060\ufeff\u00ad]")


def fold_text(text: str) -> str:
    """`text` as ordinary sentences are typed, for models that were trained on nothing else: one space between words, no
    characters that nobody sees, and capitals only at the beginning of sentences. What is quoted keeps its case, and so does a
    word in capitals (HELLO) unless most words are.

    >>> fold_text("Two Red\\u00a0Stars, with the word 'Open'")
    "Two red stars, with the word 'Open'"
    """
    plain = " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).split())
    shouted = is_shouted(plain)

    def fold_word(match: re.Match[str]) -> str:
        word, start = match[0], match.start()
        if match[1] is not None or (len(word) > 1 and word.isupper() and not shouted):
            return word
        folded = "I" if word in "Ii" and plain[match.end() : match.end() + 1] != "." else word.lower()
        begins_sentence = start == 0 or plain[max(0, start - 2) : start] in (". ", "! ", "? ", "… ")
        return word[0] + folded[1:] if begins_sentence else folded

    return _QUOTE_OR_WORD.sub(fold_word, plain)


def is_shouted(text: str) -> bool:
    """Whether most words outside of quotation marks are in capitals."""
    words = [match[0] for match in _QUOTE_OR_WORD.finditer(text) if match[1] is None and len(match[0]) > 1]
    return 2 * sum(map(str.isupper, words)) > len(words)


def style_folder(package: str, style: str) -> Path:
    """The folder of a template style: `<package>/templates/<style>`, the folder `style` of the user's own, or what
    `package:NAME/FOLDER` names.

    A built-in style wins over a folder of that name in the working directory (write `./name` for the folder).
    Raises ConfigError if there is none.
    """
    builtin = Path(str(resources.files(package))) / "templates"
    styles = sorted(path.name for path in builtin.iterdir() if path.is_dir()) if builtin.is_dir() else []
    if style.startswith(PACKAGE):
        folder = package_path(style)
    else:
        folder = builtin / style if style in styles else Path(style).expanduser()
    if not folder.is_dir():
        raise ConfigError(
            f"unknown template style {style!r} for {package}; there are {', '.join(styles) or 'none built in'}, "
            f"or give a path to a folder of templates"
        )
    return folder


def load_template(package: str, style: str, name: str) -> str:
    """The text of `<package>/templates/<style>/<name>.txt`, or of `<style>/<name>.txt` if `style` is a folder.

    Line ends are made "\\n", blank lines at both ends are dropped. Raises ConfigError.
    """
    folder = style_folder(package, style)
    path = folder / f"{name}.txt"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"template {path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise ConfigError(f"cannot read template {path}: {error.strerror}; the style {style!r} needs it") from error
    text = text.strip("\n")
    if not text.strip():
        raise ConfigError(f"template {path} is empty; write the prompt into it")
    return text


def load_optional_template(package: str, style: str, name: str) -> str | None:
    """As `load_template`, but None if the style has no such file."""
    there = (style_folder(package, style) / f"{name}.txt").is_file()
    return load_template(package, style, name) if there else None


@lru_cache(maxsize=256)
def placeholders(template: str) -> frozenset[str]:
    """The names that `template` wants filled. Raises ConfigError for a malformed `{{`."""
    names = set()
    for match in _BRACES.finditer(template):
        if match[1] is None:
            line = template.count("\n", 0, match.start()) + 1
            raise ConfigError(f"template line {line}: '{{{{' must begin a placeholder such as {{{{prompt}}}}")
        names.add(match[1])
    return frozenset(names)


def fill(template: str, /, **values: str) -> str:
    """`template` with each `{{name}}` replaced by its value, in one pass: braces inside values stay as they are.

    Raises ConfigError if a placeholder has no value, or a value has no placeholder: a template that forgot the request
    would otherwise be sent without it.
    """
    wanted = placeholders(template)
    _refuse(values.keys() - wanted, "the template has no placeholder for {}", wanted)
    _refuse(wanted - values.keys(), "the template has an unknown placeholder {}", values)
    return _BRACES.sub(lambda match: values[match[1]], template)


def fence(text: str, label: str = "user_prompt") -> str:
    """`text` between tags that it cannot close: `<label>`, or with a number behind it if the text holds the label.

    Equal texts get equal fences, so that prefix caches keep working. The label is looked for without regard to case,
    width and invisible characters, since models read `</User_Prompt>` as a closing tag too.
    """
    if not _LABEL.fullmatch(label):
        raise ValueError(f"a fence label is a word, not {label!r}")
    tag, salt, seen = label, 0, _bare(text)
    while tag.casefold() in seen:
        digest = hashlib.sha256(f"{salt}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()
        tag, salt = f"{label}_{digest[:8]}", salt + 1
        # The plain label stays inside the text; only the whole tag, digest and all, must not.
    return f"<{tag}>\n{text}\n</{tag}>"


_FENCE = re.compile(r"<(user_prompt(?:_[0-9a-f]{8})?)>\n")


def unfence(text: str) -> str:
    """`text` for people: what stands between the tags of `fence` stands between quotation marks instead.

    >>> unfence("Does it show this? " + fence("a cat"))
    'Does it show this? “a cat”'
    """
    parts, at = [], 0
    while (opening := _FENCE.search(text, at)) is not None:
        closing = f"\n</{opening[1]}>"
        end = text.find(closing, opening.end())
        if end < 0:
            break
        parts += [text[at : opening.start()].strip(), f"“{text[opening.end() : end]}”"]
        at = end + len(closing)
    return " ".join(filter(None, [*parts, text[at:].strip()]))


def load_page(package: str, name: str) -> Template:
    """The HTML template `<package>/templates/<name>`. Everything that it is filled with is escaped, and shows the marks
    that change the direction of text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader(package, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: (
            show_directions(value) if isinstance(value, str) and not isinstance(value, Markup) else value
        ),
    )
    return environment.get_template(name)


def _bare(text: str) -> str:
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(char for char in plain if unicodedata.category(char) != "Cf")


def _refuse(names: Collection[str], complaint: str, known: Collection[str]) -> None:
    if names:
        wrong = ", ".join(f"{{{{{name}}}}}" for name in sorted(names))
        right = ", ".join(f"{{{{{name}}}}}" for name in sorted(known)) or "none"
        raise ConfigError(complaint.format(wrong) + f"; known here: {right}")
