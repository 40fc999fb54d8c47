"""Training records: SFT triplets and RL prompts from JSONL and Parquet files, and what TRL is given of them.

A triplet is {"prompt": what the user wrote, "thought": ..., "rewrite": ...}; an RL prompt is {"prompt": ...}. With
{"before": the last rewrite, "failed": [what its picture missed]} a record asks for a repair, as the loop does after a
picture. Further fields are kept. Records that cannot be used are named and counted (`redraft.records`). What TRL sees is
made with the rewriter's own templates (`rewriter.styles`) and checked with its own parser (`rewriter.reply`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redraft.errors import InputError
from redraft.records import Loaded, Row, load_records, text_field
from redraft.training import setting
from rewriter.reply import Rules, parse_reply
from rewriter.request import clean_request
from rewriter.styles import Style, load_style
from rewriter.target import load_target

Chat = list[dict[str, str]]
_MISSED = ("before", "failed")


@dataclass(frozen=True)
class Missed:
    """A rewrite whose picture failed these checks."""

    before: str
    failed: tuple[str, ...]


@dataclass(frozen=True)
class Triplet:
    """What the user wrote, what the rewriter is to think ("" for nothing), and the prompt it is to answer with."""

    prompt: str
    thought: str
    rewrite: str
    extra: Row = field(default_factory=dict)
    missed: Missed | None = None


@dataclass(frozen=True)
class RLPrompt:
    """What the user wrote."""

    prompt: str
    extra: Row = field(default_factory=dict)
    missed: Missed | None = None


def load_triplets(paths: Sequence[str | Path], *, max_bad: float = 0.01) -> Loaded[Triplet]:
    """SFT triplets from `paths` (`redraft.records`): .jsonl or .parquet files, folders of them, or `datasets:` ids.

    `max_bad`: share of bad records allowed. A triplet is bad, too, where the rewriter's parser would not read its
    rewrite back from a reply: tags inside it, or quotes around the whole, would teach replies that come out otherwise.
    Raises InputError.
    """
    return load_records(paths, _triplet, max_bad)


def as_triplet(prompt: str, thought: str, rewrite: str) -> Triplet:
    """A triplet of these, if it can be used as `load_triplets` has it. Raises InputError."""
    return _triplet({"prompt": prompt, "thought": thought, "rewrite": rewrite}, "")


def load_prompts(paths: Sequence[str | Path], *, max_bad: float = 0.01) -> Loaded[RLPrompt]:
    """RL prompts, else as `load_triplets`. Raises InputError."""
    return load_records(paths, _rl_prompt, max_bad)


def reply_of(thought: str, rewrite: str) -> str:
    """The reply that `rewriter.reply.parse_reply` takes apart into these; without a thought only the answer."""
    return f"<think>{thought}</think><answer>{rewrite}</answer>" if thought else f"<answer>{rewrite}</answer>"


def asked(style: Style, prompt: str, missed: Missed | None = None) -> Chat:
    """The rewriter's own conversation for `prompt`, or for its repair, as TRL and chat templates want it."""
    messages = style.ask(prompt) if missed is None else style.ask_repair(prompt, missed.before, missed.failed)
    return [{"role": message.role, "content": _text(message.content)} for message in messages]


def sft_rows(triplets: Sequence[Triplet], style: Style, *, thoughts: bool = True) -> list[dict[str, Chat]]:
    """TRL's conversational prompt-completion rows, of whose tokens SFTTrainer learns the completion's alone.
    `thoughts=False` leaves the thoughts out (the ablation "SFT without thought")."""
    return [
        {
            "prompt": asked(style, one.prompt, one.missed),
            "completion": [
                {"role": "assistant", "content": reply_of(one.thought if thoughts else "", one.rewrite)},
            ],
        }
        for one in triplets
    ]


def rl_rows(prompts: Sequence[RLPrompt], style: Style) -> list[dict[str, Any]]:
    """TRL's conversational prompt-only rows. The column `user_prompt` is what the reward judges against; `task` is the
    record's field of that name, for task-wise normalisation, and "" where it has none."""
    return [
        {
            "prompt": asked(style, one.prompt, one.missed),
            "user_prompt": one.prompt,
            "task": str(one.extra.get("task") or ""),
        }
        for one in prompts
    ]


def _text(content: object) -> str:
    assert isinstance(content, str), "rewriter templates hold no pictures"
    return content


def _triplet(row: Row, _: str) -> Triplet:
    prompt, rewrite = clean_request(text_field(row, "prompt")), text_field(row, "rewrite").strip()
    # Missing is an empty thought, as in data made without thoughts; a thought that is no text is a mistake.
    thought = text_field(row, "thought").strip() if row.get("thought") is not None else ""
    if not rewrite:
        raise InputError("field 'rewrite' is empty")
    parsed = parse_reply(reply_of(thought, rewrite))
    if parsed.prompt is None:
        raise InputError(f"the rewriter could not read this rewrite and thought in a reply: {parsed.problem}")
    if (parsed.prompt, parsed.thought) != (rewrite, thought):
        what, told = ("rewrite", parsed.prompt) if parsed.prompt != rewrite else ("thought", parsed.thought)
        raise InputError(f"the rewriter would read another {what} from a reply ({_short(told)}); take markup out of it")
    return Triplet(prompt, thought, rewrite, _extra(row, {"prompt", "thought", "rewrite", *_MISSED}), _missed(row))


def _rl_prompt(row: Row, _: str) -> RLPrompt:
    return RLPrompt(clean_request(text_field(row, "prompt")), _extra(row, {"prompt", *_MISSED}), _missed(row))


def _missed(row: Row) -> Missed | None:
    """What a record for a repair says of the last picture; None for one that asks for a first rewrite."""
    if all(row.get(name) is None for name in _MISSED):
        return None
    before, failed = text_field(row, "before").strip(), row.get("failed")
    if not before:
        raise InputError("field 'before' is empty; leave it and 'failed' out where there was no picture yet")
    if not isinstance(failed, list) or not failed or not all(isinstance(one, str) and one.strip() for one in failed):
        raise InputError("field 'failed' must be a list of the checks that the picture of 'before' failed")
    return Missed(before, tuple(failed))


def _extra(row: Row, known: set[str]) -> Row:
    return {name: value for name, value in row.items() if name not in known}


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


@dataclass
class DataArguments:
    """What is learnt from."""

    train_files: list[str] = field(
        default_factory=list, metadata={"help": "JSONL or Parquet files, folders of them, or `datasets:NAME#SPLIT`."}
    )
    eval_files: list[str] = field(default_factory=list, metadata={"help": "The same, to measure on."})
    style: str = setting("promptenhancer", "The rewriter style whose templates to train with.")
    target: str | None = setting(None, "Image model the prompts are for: a name from rewriter/targets or a TOML file.")
    max_bad: float = setting(0.01, "Share of malformed records that is allowed.")


def style_and_rules(style: str, target: str | None) -> tuple[Style, Rules]:
    """How the rewriter is asked for this target, and what its replies are held against: as in use (`rewriter.cot`).

    Raises ConfigError.
    """
    wanted = load_target(target) if target is not None else None
    loaded = load_style(style)
    if wanted is not None:
        loaded = loaded.with_notes(wanted.notes)
    return loaded, Rules.of(loaded.settings.guard, wanted)
