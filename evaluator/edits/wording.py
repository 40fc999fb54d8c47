"""The words in which an edit is put to a judge: a template of the style's folder, with what users wrote fenced off."""

from __future__ import annotations

from evaluator.edits.types import Edit
from redraft.chat import Part
from redraft.errors import ConfigError
from redraft.templates import fence, fill, load_template, placeholders


class EditWording:
    """One template of a judging style, filled for an edit.

    Placeholders: `{{fenced_instruction}}` (needed where `asks_instruction`), `{{requirement}}` (the edit's, in the
    words of `requirement.txt`; empty where it has none), and with `scale` `{{low}}` and `{{high}}`. Raises ConfigError
    for others, and for a template that lacks what it needs.
    """

    def __init__(self, style: str, template: str, *, asks_instruction: bool, scale: bool) -> None:
        self._template = load_template("evaluator", style, template)
        self._wanted = placeholders(self._template)
        known = {"fenced_instruction", "requirement"} | ({"low", "high"} if scale else set())
        needed = {"fenced_instruction"} if asks_instruction else set()
        if self._wanted - known or needed - self._wanted:
            must = "must have {{fenced_instruction}}, and " if asks_instruction else ""
            others = ", ".join(f"{{{{{name}}}}}" for name in sorted(known - needed))
            raise ConfigError(
                f"{template}.txt of style {style!r} {must}may have {others}, but nothing else in double braces"
            )
        self._requirement = load_template("evaluator", style, "requirement") if "requirement" in self._wanted else ""

    def __call__(self, edit: Edit, **scale: str) -> str:
        requirement = ""
        if edit.requirement.strip() and self._requirement:
            requirement = fill(self._requirement, fenced_requirement=fence(edit.requirement, "requirement")) + "\n"
        values = {
            "fenced_instruction": fence(edit.instruction, "edit_instruction"),
            "requirement": requirement,
            **scale,
        }
        return fill(self._template, **{name: value for name, value in values.items() if name in self._wanted})


def pictures(edit: Edit, *, with_source: bool, text: str) -> tuple[Part, ...]:
    """What a judge is shown. The source comes first: all candidates of an edit then share a server's prefix cache."""
    before: tuple[Part, ...] = ("The picture before the edit:", edit.source, "The picture after the edit:")
    return (*(before if with_source else ()), edit.result, text)
