"""The command line: draw, judge, resume, profiles.

stdout holds the result and nothing else (one JSON object with --json); all that is told on the way goes to stderr.
Exit codes: 0 done (accepted, or the best there was), 2 usage or bad input, 3 a model or server failed, 130 interrupted.
Everything heavy is imported inside the commands, so that `redraft --help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="redraft",
    help="Rewrites a prompt, draws it, judges the picture point by point, and redraws until it is right.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ProfileOption = Annotated[str, typer.Option("--profile", help="Built-in profile or path to a .toml file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")]


@app.command()
def draw(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    profile: ProfileOption = "mini",
    out: Annotated[Path | None, typer.Option("--out", help="Folder for runs; the profile's own otherwise.")] = None,
    rounds: Annotated[int | None, typer.Option("--rounds", help="Most rounds.")] = None,
    accept: Annotated[float | None, typer.Option("--accept", help="Score from which a picture is accepted.")] = None,
    images: Annotated[int | None, typer.Option("--images", help="Most pictures.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Repeats a run; drawn at random otherwise.")] = None,
    as_json: JsonOption = False,
    ask: Annotated[bool, typer.Option("--ask", help="Ask for approval after each round.")] = False,
) -> None:
    """Draw a picture, judge it, and redraw it until it is right."""
    from agent.commands import draw as run

    changes = {"rounds": rounds, "accept": accept, "images": images}
    run(prompt, profile_name=profile, out=out, changes=changes, seed=seed, ask=ask, as_json=as_json)


@app.command()
def resume(run_dir: Annotated[Path, typer.Argument(help="Folder of the run.")], as_json: JsonOption = False) -> None:
    """Go on with a run that was interrupted, killed, failed, or waits for an answer."""
    from agent.commands import resume as run

    run(run_dir, as_json=as_json)


@app.command()
def judge(
    image: Annotated[Path, typer.Argument(help="Picture file.")],
    prompt: Annotated[str, typer.Argument(help="What it should show.")],
    profile: ProfileOption = "mini",
    as_json: JsonOption = False,
) -> None:
    """Judge a picture against a prompt, point by point."""
    from agent.commands import judge as run

    run(image, prompt, profile_name=profile, as_json=as_json)


@app.command()
def profiles() -> None:
    """List the profiles that come with redraft."""
    from agent.commands import profiles as run

    run()


@app.command(
    "eval",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def evaluate(context: typer.Context) -> None:
    """Measure a profile on the field's benchmarks, or a judge on benchmarks of judges."""
    _from_above("eval_suites.command:main", context.args)


def _from_above(place: str, arguments: Sequence[str]) -> None:
    """Runs a command of a floor above the agent, by dotted path: nothing here knows what it does or needs."""
    module, _, name = place.partition(":")
    getattr(import_module(module), name)(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point; always ends with SystemExit. Errors that redraft raises on purpose are told in plain words.

    `arguments` None takes those of the process.
    """
    from core.errors import RedraftError, printable

    try:
        app(None if arguments is None else list(arguments))
    except RedraftError as error:
        sys.stderr.write(f"error: {printable(str(error))}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
