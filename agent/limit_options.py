"""Options of the command line that change a limit, one for each field of `Limits`."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, Signature
from typing import Any

import typer
from typer.core import TyperCommand
from typer.main import get_command

_KEY = "redraft.limits"


def option_name(limit: str) -> str:
    """The option that changes `limit`: `--rounds` for max_rounds."""
    from redraft.limits import ALIASES

    return f"--{ALIASES.get(limit, limit).replace('_', '-')}"


def limit_changes(context: typer.Context) -> Mapping[str, object]:
    """The limits that the user of a `LimitedCommand` changed."""
    changes: dict[str, object] = context.meta.setdefault(_KEY, {})
    return changes


class LimitedCommand(TyperCommand):
    """A command with an option for each limit. They are made when its parameters are read, so that `redraft --help` need
    not import `Limits`."""

    def get_params(self, ctx: Any) -> list[Any]:
        return [*_limit_options(), *super().get_params(ctx)]


def _limit_options() -> list[Any]:
    from redraft.limits import Limits

    parameters = []
    for name, field in Limits.model_fields.items():
        if field.annotation not in (int, float, bool):
            continue  # nested limits are set in profiles
        flag = option_name(name)
        flags = f"{flag}/--no-{flag[2:]}" if field.annotation is bool else flag
        option = typer.Option(None, flags, help=" ".join((field.description or "").split()), callback=_note)
        parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, default=option, annotation=field.annotation))

    def limits(**_: object) -> None: ...

    limits.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    limits.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command = typer.Typer(add_completion=False)
    command.command(add_help_option=False)(limits)
    options = get_command(command).params
    for option in options:
        option.expose_value = False  # the command reads `limit_changes` instead
    return options


def _note(context: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    if value is not None:
        context.meta.setdefault(_KEY, {})[param.name] = value
    return value
