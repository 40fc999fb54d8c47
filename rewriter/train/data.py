"""Training records: SFT triplets and RL requests from JSONL and Parquet files, and what TRL gets of them.

    {"request": "two stars", "thought": "...", "prompt": "two red stars"}     a triplet, for SFT
    {"request": "two stars"}                                                  a request, for GRPO

`request` is what the user wrote, `prompt` what the rewriter is to answer. With {"before": the last prompt, "failed": [what
its picture missed]} a record asks for a repair, as the loop does after a picture. With {"form": "tags"} or "prose" ("any":
either) it asks for that form, if the style has both (`rewriter.styles`). Further fields are kept. Records that cannot be used
are named and counted (`redraft.records`). What TRL sees is made with the rewriter's own templates
(`rewriter.styles`) and checked with its own parser (`rewriter.reply`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redraft.errors import InputError
from redraft.profiles import Profile
from redraft.records import LoadedRecords, Row, load_records, text_field
from redraft.training import setting
from rewriter.cot import infer_target
from rewriter.reply import Rules, parse_reply
from rewriter.request import clean_request
from rewriter.styles import Style, load_style
from rewriter.target import Target, load_target

Chat = list[dict[str, str]]
_MISSED = ("before", "failed")


@dataclass
class DataArguments:
    """What is learnt from."""

    train_files: list[str] = field(
        default_factory=list, metadata={"help": "JSONL or Parquet files, folders of them, or `datasets:NAME#SPLIT`."}
    )
    eval_files: list[str] = field(default_factory=list, metadata={"help": "The same, to evaluate on."})
    style: str = setting("promptenhancer", "The rewriter style whose templates to train with.")
    target: str | None = setting(None, "Image model the prompts are for: a name from rewriter/targets or a TOML file.")
    max_bad: float = setting(0.01, "Share of malformed records that is allowed.")


@dataclass(frozen=True)
class Missed:
    """A prompt whose picture failed these checks."""

    before: str
    failed: tuple[str, ...]


@dataclass(frozen=True)
class Triplet:
    """What the user wrote, what the rewriter is to think ("" for nothing), and the prompt it is to answer with."""

    request: str
    thought: str
    prompt: str
    extra: Row = field(default_factory=dict)
    missed: Missed | None = None


@dataclass(frozen=True)
class RLRequest:
    """What the user wrote, to learn from by reward."""

    request: str
    extra: Row = field(default_factory=dict)
    missed: Missed | None = None


def load_triplets(paths: Sequence[str | Path], *, max_bad: float = 0.01) -> LoadedRecords[Triplet]:
    """SFT triplets from `paths` (`redraft.records`): .jsonl or .parquet files, folders of them, or `datasets:` ids.

    `max_bad`: share of bad records allowed. A triplet is also bad if the rewriter's parser would not read its prompt
    back from a reply: tags inside it, or quotes around the whole, would teach replies that come out otherwise.
    Raises InputError.
    """
    return load_records(paths, _triplet, max_bad)


def as_triplet(request: str, thought: str, prompt: str) -> Triplet:
    """A triplet of these, checked like those of `load_triplets`. Raises InputError."""
    return _triplet({"request": request, "thought": thought, "prompt": prompt}, "")


def load_requests(paths: Sequence[str | Path], *, max_bad: float = 0.01) -> LoadedRecords[RLRequest]:
    """RL requests, otherwise like `load_triplets`. Raises InputError."""
    return load_records(paths, _rl_request, max_bad)


def make_reply(thought: str, prompt: str) -> str:
    """The reply that `rewriter.reply.parse_reply` takes apart into these; without a thought only the answer."""
    return f"<think>{thought}</think><answer>{prompt}</answer>" if thought else f"<answer>{prompt}</answer>"


def join_negative(prompt: str, negative_prompt: str | None) -> str:
    """The answer that `rewriter.target.Target.split` takes apart into these."""
    return f"{prompt}\nNegative prompt: {negative_prompt}" if negative_prompt else prompt


def style_and_rules(style: str, target: str | Target | None) -> tuple[Style, Rules]:
    """How the rewriter is asked for this target, and what its replies are held against: as in use (`rewriter.cot`).

    Raises ConfigError.
    """
    wanted = load_target(target) if isinstance(target, str) else target
    loaded = load_style(style)
    if wanted is not None:
        loaded = loaded.for_target(wanted)
    return loaded, Rules.of(loaded.settings.guard, wanted, loaded.settings.reply)


def target_of(profile: Profile) -> str | Target | None:
    """What the profile's rewriter writes for: what it names, else what its generator is known for, else None."""
    return profile.rewriter.target or infer_target(profile.rewriter, profile.generator)


def make_chat(style: Style, request: str, missed: Missed | None = None) -> Chat:
    """The rewriter's own conversation for `request`, or for its repair, as TRL and chat templates want it."""
    messages = (
        style.rewrite_messages(request)
        if missed is None
        else style.repair_messages(request, missed.before, missed.failed)
    )
    return [{"role": message.role, "content": _text(message.content)} for message in messages]


def sft_rows(triplets: Sequence[Triplet], style: Style, *, thoughts: bool = True) -> list[dict[str, Chat]]:
    """TRL's conversational prompt-completion rows, of whose tokens SFTTrainer learns the completion's alone.
    `thoughts=False` leaves the thoughts out (the ablation "SFT without thought")."""
    return [
        {
            "prompt": make_chat(_in_wanted_form(style, triplet.extra), triplet.request, triplet.missed),
            "completion": [
                {"role": "assistant", "content": make_reply(triplet.thought if thoughts else "", triplet.prompt)},
            ],
        }
        for triplet in triplets
    ]


def rl_rows(requests: Sequence[RLRequest], style: Style) -> list[dict[str, Any]]:
    """TRL's conversational prompt-only rows. The column `request` is what the reward judges against; `task` is the
    record's field of that name, for task-wise normalisation, and "" if it has none; `form` is "any" if it names none."""
    return [
        {
            "prompt": make_chat(_in_wanted_form(style, record.extra), record.request, record.missed),
            "request": record.request,
            "task": str(record.extra.get("task") or ""),
            "form": _wanted_form(style, record.extra),
        }
        for record in requests
    ]


def _wanted_form(style: Style, extra: Row) -> str:
    return str(extra.get("form") or "any") if style.settings.forms else "any"


def _in_wanted_form(style: Style, extra: Row) -> Style:
    form = _wanted_form(style, extra)
    return style if form == "any" else style.for_form(form)


def _text(content: object) -> str:
    assert isinstance(content, str), "rewriter templates hold no pictures"
    return content


def _triplet(row: Row, _: str) -> Triplet:
    request, prompt = clean_request(text_field(row, "request")), text_field(row, "prompt").strip()
    # Missing is an empty thought, as in data made without thoughts; a thought that is no text is a mistake.
    thought = text_field(row, "thought").strip() if row.get("thought") is not None else ""
    if not prompt:
        raise InputError("field 'prompt' is empty")
    parsed = parse_reply(make_reply(thought, prompt))
    if parsed.prompt is None:
        raise InputError(f"the rewriter could not read this prompt and thought in a reply: {parsed.problem}")
    if (parsed.prompt, parsed.thought) != (prompt, thought):
        what, read = ("prompt", parsed.prompt) if parsed.prompt != prompt else ("thought", parsed.thought)
        raise InputError(f"the rewriter would read another {what} from a reply ({_short(read)}); take markup out of it")
    return Triplet(
        request=request,
        thought=thought,
        prompt=prompt,
        extra=_extra(row, {"request", "thought", "prompt", *_MISSED}),
        missed=_missed(row),
    )


def _rl_request(row: Row, _: str) -> RLRequest:
    return RLRequest(clean_request(text_field(row, "request")), _extra(row, {"request", *_MISSED}), _missed(row))


def _missed(row: Row) -> Missed | None:
    """What a record for a repair says about the last picture; None if it asks for a first rewrite."""
    if all(row.get(name) is None for name in _MISSED):
        return None
    before, failed = text_field(row, "before").strip(), row.get("failed")
    if not before:
        raise InputError("field 'before' is empty; leave it and 'failed' out if there was no picture yet")
    if not isinstance(failed, list) or not failed or not all(isinstance(item, str) and item.strip() for item in failed):
        raise InputError("field 'failed' must be a list of the checks that the picture of 'before' failed")
    return Missed(before, tuple(failed))


def _extra(row: Row, known: set[str]) -> Row:
    return {name: value for name, value in row.items() if name not in known}


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
