"""Styles: how a rewriter model is asked, and how its rewrites are checked. A style is a folder:

rewrite.txt       {{request}}                          asks for a rewrite
repair.txt        {{request}} {{before}} {{failed}}    asks again, with what was wrong with the picture
guard_repair.txt  {{request}} {{before}} {{failed}}    asks again, with what the guard found
system.txt        no placeholder; only with `system = true`
system_tags.txt   instead of it, for image models that want tags; only if `forms` has "tags"
style.toml        the settings below

A template may leave placeholders out, except {{request}}. `mini/rewriter/style` is the smallest example.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from redraft.chat import Message
from redraft.errors import ConfigError
from redraft.templates import fence, fill, fold_text, is_shouted, load_template, placeholders, style_folder
from rewriter.guard import RULES, GuardSettings
from rewriter.keep import KeepSettings
from rewriter.target import Form, Target

_PACKAGE = "rewriter"


class StyleSettings(BaseModel):
    """style.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: bool = True
    """Whether there is a system.txt."""
    forms: tuple[Form, ...] = ()
    """What a model that was trained for it writes, each asked for by a system message of its own. Such a style reads no
    notes on image models. () if the model follows notes."""
    fence: bool = True
    """Whether what the user and the model wrote is fenced off from the template's own words."""
    fold: bool | Literal["shouted"] = False
    """Whether the model reads what the user wrote as ordinary sentences are typed (`redraft.templates.fold_text`): always,
    never, or if most of it is in capitals."""
    join: str = "\n"
    """What stands between failed checks."""
    reply: Literal["tags", "bare", "json"] = "tags"
    """How the model replies (`rewriter.reply`): `<think>…</think><answer>…</answer>`, the prompt alone (a thought before it or
    not), or JSON with `thought` and `prompt`, which servers are asked to hold it to."""
    guard: GuardSettings = GuardSettings()
    keep: KeepSettings = KeepSettings()


@dataclass(frozen=True)
class Style:
    """A loaded style: templates and settings."""

    settings: StyleSettings
    system: str | None
    rewrite: str
    repair: str
    guard_repair: str
    system_tags: str | None = None

    def rewrite_messages(self, request: str) -> tuple[Message, ...]:
        """Ask for a rewrite of `request`."""
        return self._messages(self.rewrite, request, "", ())

    def repair_messages(self, request: str, before: str, failed: tuple[str, ...]) -> tuple[Message, ...]:
        """Ask again: the picture that `before` drew failed these checks."""
        return self._messages(self.repair, request, before, failed)

    def guard_repair_messages(self, request: str, before: str, failed: tuple[str, ...]) -> tuple[Message, ...]:
        """Ask again: the guard refused the rewrite `before` for these reasons."""
        return self._messages(self.guard_repair, request, before, failed)

    def for_target(self, target: Target) -> Style:
        """The style as it asks for this image model's prompts. Raises ConfigError if it cannot ask for them."""
        if not self.settings.forms:
            return self.with_notes(target.notes)
        return self.for_form("tags" if target.form == "tags" else "prose")

    def for_form(self, form: str) -> Style:
        """The style as it asks for prose or tags. Raises ConfigError if its model writes no such thing."""
        if form not in self.settings.forms:
            raise ConfigError(
                f"this rewriter writes {' and '.join(self.settings.forms) or 'what notes say'}, not {form!r}"
            )
        return replace(self, system=self.system_tags) if form == "tags" else self

    def with_system(self, text: str) -> Style:
        """The style with another system message. Raises ConfigError if it has none, or one that depends on the form."""
        if self.system is None or "tags" in self.settings.forms:
            raise ConfigError("this style has no system message that another could replace; leave `system` out")
        return replace(self, system=text.strip())

    def with_notes(self, notes: str) -> Style:
        """The style with `notes` on the image model behind its system message. Raises ConfigError if it has none."""
        if not notes:
            return self
        if self.system is None:
            raise ConfigError("this rewriter reads no notes on image models (its style has no system.txt)")
        return replace(self, system=f"{self.system}\n\n{notes.strip()}")

    def _messages(self, template: str, request: str, before: str, failed: tuple[str, ...]) -> tuple[Message, ...]:
        if self.settings.fold is True or (self.settings.fold == "shouted" and is_shouted(request)):
            request = fold_text(request)
        texts = {"request": request, "before": before, "failed": self.settings.join.join(failed)}
        values = {name: _spell_out(texts[name]) for name in placeholders(template)}
        if self.settings.fence:
            labels = {"request": "user_prompt", "before": "last_rewrite", "failed": "found"}
            values = {name: fence(value, labels[name]) for name, value in values.items()}
        filled = fill(template, **values)
        system = () if self.system is None else (Message("system", self.system),)
        return (*system, Message("user", filled))


_REPLY_TAG = re.compile(r"<(?=/?(?:think|answer)>)")


def _spell_out(text: str) -> str:
    """`text` with a space in each tag of the replies: tokenizers have some of them as special tokens, which the template may
    use and what a user writes may not."""
    return _REPLY_TAG.sub("< ", text)


def load_style(name: str) -> Style:
    """The built-in style of that name, or the one in the folder `name`. Raises ConfigError."""
    settings = _settings(name)
    templates = {part: load_template(_PACKAGE, name, part) for part in ("rewrite", "repair", "guard_repair")}
    for part, text in templates.items():
        names = placeholders(text)
        if "request" not in names or not names <= {"request", "before", "failed"}:
            raise ConfigError(
                f"{part}.txt of style {name!r} must hold {{{{request}}}} and may hold {{{{before}}}} and "
                f"{{{{failed}}}}; it holds {', '.join(sorted(names)) or 'no placeholder'}"
            )
    system = load_template(_PACKAGE, name, "system") if settings.system else None
    if system is not None and placeholders(system):
        raise ConfigError(
            f"system.txt of style {name!r} must not hold placeholders; what the user wrote goes elsewhere"
        )
    tags = None
    if "tags" in settings.forms:
        tags = load_template(_PACKAGE, name, "system_tags")
        if placeholders(tags):
            raise ConfigError(
                f"system_tags.txt of style {name!r} must not hold placeholders; what the user wrote goes elsewhere"
            )
    return Style(settings, system, **templates, system_tags=tags)


def _settings(name: str) -> StyleSettings:
    path = style_folder(_PACKAGE, name) / "style.toml"
    try:
        settings = StyleSettings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; every rewriter style needs one") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    except ValidationError as error:
        lines = [f"  {'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"{path} has mistakes:\n" + "\n".join(lines)) from None
    if unknown := set(settings.guard.off) - RULES.keys():
        raise ConfigError(f"{path}: no such guard rule: {', '.join(sorted(unknown))}; there are {', '.join(RULES)}")
    return settings
