"""Keeps the RL requests about which a rewriter is undecided: those from which GRPO can learn.

    python -m rewriter.train.undecided IN OUT.jsonl --model FOLDER --style STYLE
    python -m rewriter.train.undecided IN OUT.jsonl --model NAME --base-url http://host:8000/v1

IN: records as GRPO takes them (`rewriter.train.data`). The rewriter answers each `--samples` times, with its own
templates; OUT gets the records with at least `--distinct` different prompts, unchanged and in their order. If all
rewrites of a request are alike, all rewards are alike and GRPO learns nothing: this is the dynamic sampling of DAPO (arXiv
2503.14476), done beforehand and without drawing anything. A reply that cannot be read counts as a different prompt.

OUT.part keeps the counts, and the same command resumes from it after an interruption.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from redraft.chat import ChatModel, open_chat
from redraft.errors import BadReply, ConfigError
from redraft.files import write_atomically
from redraft.journal import Journal
from redraft.profiles import ModelConfig, RewriterConfig, ServerConfig, model_place
from redraft.training import console, report_loaded, run
from rewriter.cot import Asking
from rewriter.reply import parse_reply
from rewriter.target import load_target
from rewriter.train.data import RLRequest, load_requests
from rewriter.train.script import at_least_one, first_mistake
from rewriter.types import Feedback

CHUNK = 32
"""Requests under way at once, and what a kill may lose."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; `argv` defaults to the process's arguments. Returns the exit code."""
    return run(select, argv)


def select(argv: Sequence[str]) -> None:
    """Writes OUT. Raises ConfigError, InputError, ModelMissing, BackendError."""
    options = _parser().parse_args(argv)
    if options.distinct > options.samples:
        raise ConfigError(f"--distinct {options.distinct} of --samples {options.samples} is impossible: sample more")
    records = report_loaded("IN", load_requests([options.source], max_bad=options.max_bad)).records
    chat = open_chat(_config(options).model)
    asking = Asking.of(_config(options), load_target(options.target) if options.target else None)
    part = options.out.with_name(options.out.name + ".part")
    settings = {
        name: getattr(options, name)
        for name in ("model", "style", "target", "samples", "temperature", "top_p", "max_tokens", "seed")
    }
    with Journal(part, "undecided", about=settings) as journal:
        counts = asyncio.run(_count(chat, asking, records, options=options, journal=journal))
    kept = [record for record, count in zip(records, counts, strict=False) if count >= options.distinct]
    kept = kept[: options.count]
    lines = (json.dumps(as_row(record), ensure_ascii=False) + "\n" for record in kept)
    write_atomically(options.out, "".join(lines).encode("utf-8"))
    part.unlink()
    sampled = f"{len(counts):,} of {len(records):,}"
    console.print(
        f"{options.out}: {len(kept):,} records; {sampled} were sampled, and the rewriter is sure of the others"
    )


async def _count(
    chat: ChatModel, asking: Asking, records: Sequence[RLRequest], *, options: argparse.Namespace, journal: Journal
) -> list[int]:
    """The numbers of different prompts for the first records, until enough are undecided."""
    counts: list[int] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("records sampled", total=len(records))
        undecided = 0
        for at in range(0, len(records), CHUNK):
            chunk = records[at : at + CHUNK]

            async def count(record: RLRequest) -> int:
                made: int = await journal.aonce(
                    _key(record), lambda: count_prompts(chat, asking, record, options.samples, seed=options.seed)
                )
                return made

            new = await asyncio.gather(*(count(record) for record in chunk))
            counts += new
            undecided += sum(n >= options.distinct for n in new)
            progress.update(bar, advance=len(chunk), description=f"records sampled, {undecided:,} undecided")
            if options.count is not None and undecided >= options.count:
                break
    return counts


async def count_prompts(chat: ChatModel, asking: Asking, record: RLRequest, samples: int, *, seed: int = 0) -> int:
    """How many different prompts `samples` sampled replies hold. Raises BackendError."""
    missed = None if record.missed is None else Feedback(record.missed.before, record.missed.failed)

    async def sample(i: int) -> object:
        # Candidate 0 is the greedy one; GRPO samples all of them.
        try:
            reply = await chat(asking.first(record.request, i + 1, seed, missed))
        except BadReply:
            return i
        read = parse_reply(reply.text, reasoning=reply.reasoning, truncated=reply.truncated)
        return i if read.prompt is None else read.prompt

    return len(set(await asyncio.gather(*(sample(i) for i in range(samples)))))


def as_row(record: RLRequest) -> dict[str, Any]:
    """The record as `load_requests` reads it."""
    missed = record.missed
    return {
        "request": record.request,
        **({} if missed is None else {"before": missed.before, "failed": list(missed.failed)}),
        **record.extra,
    }


def _key(record: RLRequest) -> str:
    parts = [record.request, None if record.missed is None else [record.missed.before, *record.missed.failed]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _config(options: argparse.Namespace) -> RewriterConfig:
    try:
        server = None
        if options.base_url is not None:
            server = ServerConfig(base_url=options.base_url, api_key_env=options.api_key_env)
        model = (
            ModelConfig(kind="transformers", model=model_place(options.model))
            if server is None
            else ModelConfig(kind="openai", model=options.model, server=server)
        )
        return RewriterConfig(
            model=model,
            style=options.style,
            temperature=options.temperature,
            top_p=options.top_p,
            max_tokens=options.max_tokens,
        )
    except ValidationError as error:
        raise ConfigError(first_mistake(error)) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rewriter.train.undecided",
        description="Keeps the requests about which a rewriter is undecided, for GRPO.",
    )
    parser.add_argument("source", metavar="IN", help="records for GRPO: .jsonl, .parquet, datasets:...")
    parser.add_argument("out", metavar="OUT", type=Path, help="the .jsonl file for the records that are kept")
    parser.add_argument("--model", required=True, help="the rewriter's folder, or its name at --base-url")
    parser.add_argument("--base-url", help="an OpenAI-compatible server, such as http://host:8000/v1")
    parser.add_argument("--api-key-env", help="NAME of the environment variable that holds the API key")
    parser.add_argument("--style", default="promptenhancer", help="the style whose templates to use")
    parser.add_argument("--target", help="image model that the prompts are for: a name from rewriter/targets or a file")
    parser.add_argument("--samples", type=at_least_one, default=4, help="replies to sample per record")
    parser.add_argument("--distinct", type=at_least_one, default=2, help="how many of them must differ")
    parser.add_argument("--count", type=at_least_one, help="stop when this many undecided records are found")
    parser.add_argument("--temperature", type=float, default=1.0, help="as in the GRPO recipe")
    parser.add_argument("--top-p", type=float, default=1.0, help="as in the GRPO recipe")
    parser.add_argument("--max-tokens", type=at_least_one, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-bad", type=float, default=0.01, help="share of malformed records that is allowed")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
