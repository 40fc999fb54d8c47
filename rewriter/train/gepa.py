"""Evolves the texts of a rewriter's style from what the judge says of the pictures, with GEPA (Agrawal et al. 2025). No GPU.

    python -m rewriter.train.gepa --config FILE.yaml [any setting of the file, to override it]
    python -m rewriter.train.gepa --profile remote --train_files requests.jsonl --output_dir my_style

The YAML file holds the settings of `GepaArguments`, `DataArguments`, `RewardArguments`, `RemoteArguments` and `TextArguments`:
the reward is that of GRPO, and with `text_rewards` and a profile without a generator that of the texts alone. The profile's
rewriter writes, and a proposer (by default the same model) reads what failed and writes better texts.

Requests are split in three. From one part come the examples that the proposer reads, the second chooses between the texts, and
the third only reports: the style is written to output_dir if it is better than its parent there, with 95% of the paired
bootstrap, or with `keep_if: mean` if its mean is. `output_dir/report.json` is written in either case.

Replies, rewards and proposals are kept in output_dir/state.jsonl: the same command, after an interruption, pays for none twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from redraft.chat import ChatModel, ChatRequest, Message, open_chat
from redraft.coroutines import run_coroutine
from redraft.errors import BadReply, ConfigError, InputError
from redraft.extras import require
from redraft.files import write_atomically
from redraft.journal import Journal
from redraft.profiles import load_profile
from redraft.statistics import bootstrap, mean
from redraft.templates import fence, fill, placeholders, style_folder
from redraft.training import check_choices, console, report_loaded, run, setting
from rewriter.reply import clean_answer
from rewriter.styles import Style, load_style
from rewriter.target import Target, load_target
from rewriter.train.data import DataArguments, load_requests, style_and_rules
from rewriter.train.image_reward import RewardArguments, RewardSample, RewardSource, ScoredSample
from rewriter.train.reward_server import RemoteArguments, open_source
from rewriter.train.script import settings_of
from rewriter.train.text_reward import TextArguments, TextReward, parse_terms

Texts = Mapping[str, str]
"""The evolved texts of a style by the part of it."""

PARTS = ("system", "rewrite", "repair", "guard_repair", "system_tags")
MAX_TEXT = 20_000
"""Characters of a text that a proposer may write."""
PERFECT = 1.1
"""The reward of a picture that is right by a reply that has its form."""
_AT_ONCE = 16
_LEAST = 6
"""Requests without which nothing can be held out."""


@dataclass
class GepaArguments:
    """What is evolved, and how long."""

    output_dir: str = setting("", "Folder for the new style.")
    parts: list[str] = field(
        default_factory=lambda: ["system"],
        metadata={"help": "Which texts of the style: system, rewrite, repair, guard_repair, system_tags."},
    )
    proposer: str | None = setting(None, "Profile whose rewriter's model proposes texts; the profile's own by default.")
    proposal_tokens: int = setting(4096, "Tokens that a proposal may have, its thoughts included.")
    budget: int = setting(200, "Rewrites that are drawn and judged while texts evolve; the last check costs more.")
    examples: int = setting(4, "Requests whose results a proposer reads at a time.")
    choose_share: float = setting(0.3, "Share of the requests that chooses between texts.")
    report_share: float = setting(0.3, "Share of the requests that only reports.")
    keep_if: Literal["sure", "mean"] = setting(
        "sure", "The style is written if its gain on held-out requests is above 0: the whole 95% interval, or the mean."
    )
    gepa_seed: int = setting(0, "Seed of the split and of the search.")

    def __post_init__(self) -> None:
        check_choices(self)
        unknown = [part for part in self.parts if part not in PARTS]
        if unknown or not self.parts:
            raise ValueError(f"parts names {', '.join(unknown) or 'nothing'}; there are {', '.join(PARTS)}")
        if not (self.choose_share > 0 and self.report_share > 0 and self.choose_share + self.report_share < 1):
            raise ValueError("choose_share and report_share must each be above 0, and leave some to learn from")
        if min(self.budget, self.examples, self.proposal_tokens) < 1:
            raise ValueError("budget, examples and proposal_tokens must be at least 1")


@dataclass(frozen=True)
class Rollout:
    """A request's way through a style: the reply, its reward (None if it could not be had), and what was wrong."""

    request: str
    reply: str
    reward: float | None
    faults: tuple[str, ...]


def find_mistake(part: str, text: str) -> str | None:
    """Why a text cannot be this part of a style; None if it can."""
    if not text.strip() or len(text) > MAX_TEXT:
        return f"it has {len(text):,} characters; 1 to {MAX_TEXT:,} are taken"
    try:
        names = placeholders(text)
    except ConfigError as error:
        return str(error)
    if part.startswith("system"):
        return f"it holds {{{{{min(names)}}}}}, and takes no placeholder" if names else None
    if "request" not in names or not names <= {"request", "before", "failed"}:
        return "it must hold {{request}}, and may hold {{before}} and {{failed}}"
    return None


class StyleRunner:
    """Runs requests through a style with some of its texts replaced: asks the rewriter, draws, judges.

    Every rollout is kept in the journal. Raises BackendError if the rewriter or the reward cannot be reached.
    """

    def __init__(
        self,
        chat: ChatModel,
        source: RewardSource,
        style: Style,
        target: Target | None,
        journal: Journal,
        max_tokens: int = 1024,
    ) -> None:
        self._chat = chat
        self._source = source
        self._style = style
        self._target = target
        self._journal = journal
        self._max_tokens = max_tokens

    async def __call__(self, texts: Texts, requests: Sequence[str]) -> list[Rollout]:
        """A rollout for each request, in order."""
        name = _name_of(texts)
        todo = [r for r in dict.fromkeys(requests) if self._journal.get(("rollout", name, r)) is None]
        if todo:
            changes: dict[str, Any] = dict(texts)
            style = replace(self._style, **changes)
            style = style if self._target is None else style.for_target(self._target)
            gate = asyncio.Semaphore(_AT_ONCE)
            replies = await asyncio.gather(*(self._ask(style, request, gate) for request in todo))
            samples = [RewardSample(request, *reply) for request, reply in zip(todo, replies, strict=True)]
            scores = await self._source(samples)
            for sample, scored in zip(samples, scores.samples, strict=True):
                row = {"reply": sample.reply, "reward": scored.reward, "faults": _faults_of(scored)}
                self._journal.put(("rollout", name, sample.request), row)
        kept = [self._journal.get(("rollout", name, request)) for request in requests]
        return [
            Rollout(request, row["reply"], row["reward"], tuple(row["faults"]))
            for request, row in zip(requests, kept, strict=True)
            if row is not None
        ]

    async def _ask(self, style: Style, request: str, gate: asyncio.Semaphore) -> tuple[str, bool]:
        async with gate:
            try:
                reply = await self._chat(ChatRequest(style.rewrite_messages(request), max_tokens=self._max_tokens))
            except BadReply:
                return "", False  # no prompt can be read from it, which the reward knows how to value
        thought = f"<think>{reply.reasoning}</think>" if reply.reasoning else ""
        return thought + reply.text, reply.truncated


def _faults_of(scored: ScoredSample) -> list[str]:
    return [*scored.findings, *scored.feedback]


def _name_of(texts: Texts) -> str:
    return hashlib.sha256(json.dumps(dict(sorted(texts.items()))).encode()).hexdigest()[:24]


class Proposer:
    """A chat model that writes a better text of a part, given rollouts with what was wrong. Keeps its proposals."""

    def __init__(self, chat: ChatModel, journal: Journal, max_tokens: int = 4096) -> None:
        self._chat = chat
        self._journal = journal
        self._max_tokens = max_tokens
        self.made = 0
        self.unusable = 0
        """Of the proposals that were made: those that held no other text that could be used."""
        self._template = (resources.files("rewriter.train") / "templates" / "gepa" / "propose.txt").read_text("utf-8")

    async def __call__(self, part: str, current: str, rollouts: Sequence[Rollout]) -> str:
        """The new text; the current one if the reply holds none that could be used."""

        async def ask() -> str:
            message = Message("user", self._fill(part, current, rollouts))
            reply = await self._chat(ChatRequest((message,), self._max_tokens, 1.0))
            return read_text(reply.text, part, truncated=reply.truncated) or current

        self.made += 1
        text: str = await self._journal.aonce(("proposal", f"{self.made}"), ask)
        self.unusable += text == current
        return text

    def _fill(self, part: str, current: str, rollouts: Sequence[Rollout]) -> str:
        rule = "It takes no placeholder." if part.startswith("system") else "It must hold {{request}} as it stands."
        examples = "\n\n".join(
            "\n".join(
                (
                    fence(rollout.request, "request"),
                    fence(rollout.reply, "reply"),
                    "What was wrong: " + ("; ".join(rollout.faults) or "nothing"),
                )
            )
            for rollout in rollouts
        )
        return fill(self._template, part=part, current=fence(current, "text"), examples=examples, rule=rule)


def read_text(reply: str, part: str, *, truncated: bool = False) -> str | None:
    """The text of a proposer's reply: between <text> and </text>, or all of a whole reply without these tags, as small models
    write it. None if it could not be this part.

    >>> read_text("Here it is: <text>Write one sentence.</text>", "system")
    'Write one sentence.'
    """
    if "<text>" in reply or "</text>" in reply:
        _, opens, rest = reply.rpartition("<text>")
        text, closes, _ = rest.partition("</text>")
        whole = bool(opens and closes)
    else:
        text, whole = clean_answer(reply), not truncated
    return text.strip("\n") if whole and find_mistake(part, text) is None else None


class StyleAdapter:
    """What GEPA calls (`gepa.core.adapter.GEPAAdapter`). `scores` are rewards; a reward that could not be had counts as the
    parent style's own reward of that request, neither for nor against a text."""

    def __init__(self, runner: StyleRunner, proposer: Proposer, parent: Mapping[str, float]) -> None:
        self._runner = runner
        self._proposer = proposer
        self._parent = dict(parent)

    def evaluate(self, batch: list[str], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        from gepa.core.adapter import EvaluationBatch

        rollouts = run_coroutine(self._runner(candidate, batch))
        scores = [self._parent[r.request] if r.reward is None else r.reward for r in rollouts]
        return EvaluationBatch(
            outputs=[rollout.reply for rollout in rollouts],
            scores=scores,
            trajectories=rollouts if capture_traces else None,
        )

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: Any, components_to_update: list[str]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return {part: [{"rollout": rollout} for rollout in eval_batch.trajectories] for part in components_to_update}

    def propose_new_texts(
        self,
        candidate: dict[str, str],
        reflective_dataset: Mapping[str, Sequence[Mapping[str, Any]]],
        components_to_update: list[str],
    ) -> dict[str, str]:
        made = {}
        for part in components_to_update:
            rollouts = [row["rollout"] for row in reflective_dataset[part]]
            made[part] = run_coroutine(self._proposer(part, candidate[part], rollouts))
        return made


@dataclass(frozen=True)
class Evolved:
    """The texts that were chosen, and what they are worth on requests that nothing was chosen by: the mean reward of the parent
    style, of the new one, and the paired difference with its interval."""

    texts: Texts
    before: float
    after: float
    gain: float
    low: float | None
    high: float | None
    tried: int
    requests: Mapping[str, int]

    def is_better(self, keep_if: str) -> bool:
        """Whether the gain is above 0: its whole interval ("sure"), or its mean."""
        return self.gain > 0 and (keep_if == "mean" or (self.low is not None and self.low > 0))


def evolve(
    texts: Texts,
    requests: Sequence[str],
    runner: StyleRunner,
    proposer: Proposer,
    args: GepaArguments,
    perfect: float = PERFECT,
) -> Evolved:
    """Evolves `texts`, those of the parent style; rollouts with a reward of `perfect` teach nothing. Raises InputError for
    too few requests that can be scored."""
    require("train", "evolving a style's texts", "gepa")
    from gepa.api import optimize

    parent = {r.request: r.reward for r in run_coroutine(runner(texts, requests)) if r.reward is not None}
    if len(parent) < len(requests):
        console.print(f"left out: {len(requests) - len(parent):,} requests whose pictures could not be judged")
    learn, choose, report = split_requests(list(parent), args)
    result = optimize(
        seed_candidate=dict(texts),
        trainset=learn,
        valset=choose,
        adapter=StyleAdapter(runner, proposer, parent),
        reflection_minibatch_size=min(args.examples, len(learn)),
        perfect_score=perfect,
        max_metric_calls=args.budget,
        logger=_Log(),
        seed=args.gepa_seed,
    )
    best = result.candidates[result.best_idx]
    after = [
        parent[r.request] if r.reward is None else r.reward for r in run_coroutine(runner(best, report))
    ]  # as in the search
    before = [parent[request] for request in report]
    gain = bootstrap(mean, [new - old for new, old in zip(after, before, strict=True)])
    return Evolved(
        texts=best,
        before=fmean(before),
        after=fmean(after),
        gain=gain.mean,
        low=gain.low,
        high=gain.high,
        tried=len(result.candidates),
        requests={"learn": len(learn), "choose": len(choose), "report": len(report)},
    )


class _Log:
    """GEPA's own progress, as one line each."""

    def log(self, message: str) -> None:
        first = message.partition("\n")[0]
        if first and not first.startswith("Traceback"):  # the error itself is raised
            console.print(first[:200])


def split_requests(requests: Sequence[str], args: GepaArguments) -> tuple[list[str], list[str], list[str]]:
    """The requests to learn from, to choose by and to report on; each at least two. Raises InputError."""
    if len(requests) < _LEAST:
        raise InputError(f"{len(requests)} requests can be scored; give at least {_LEAST}, better a hundred")
    order = sorted(requests, key=lambda text: hashlib.sha256(f"{args.gepa_seed}\0{text}".encode()).digest())
    report = max(2, round(len(order) * args.report_share))
    choose = max(2, round(len(order) * args.choose_share))
    return order[report + choose :], order[report : report + choose], order[:report]


def write_style(parent: str, texts: Texts, out: Path) -> None:
    """The parent's folder with these texts in place of its own. Raises InputError if it cannot be written."""
    folder = style_folder("rewriter", parent)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.iterdir()):
            if path.suffix in (".txt", ".toml"):
                shutil.copyfile(path, out / path.name)
        for part, text in texts.items():
            write_atomically(out / f"{part}.txt", f"{text}\n".encode())
    except OSError as error:
        raise InputError(f"cannot write the style to {out}: {error.strerror or error}") from error
    load_style(str(out))


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; `argv` defaults to the process's arguments. Returns the exit code."""
    return run(train, argv)


def train(argv: Sequence[str]) -> None:
    """Reads settings and requests, evolves, checks, writes. Raises RedraftError."""
    kinds = (GepaArguments, DataArguments, RewardArguments, RemoteArguments, TextArguments)
    settings: tuple[Any, ...] = settings_of(kinds, argv, "python -m rewriter.train.gepa")
    args, data, rewarding, remote, text = settings
    if not data.train_files or not args.output_dir or rewarding.profile is None:
        raise ConfigError(
            "train_files, output_dir and profile are needed: requests, a folder, and whose rewriter writes"
        )
    profile = load_profile(rewarding.profile)
    loaded = report_loaded("train_files", load_requests(data.train_files, max_bad=data.max_bad))
    requests = list(dict.fromkeys(record.request for record in loaded.records))
    proposing = profile if args.proposer is None else load_profile(args.proposer)
    if remote.reward_url is not None:
        rewarding = replace(rewarding, profile=None)  # the server has its own
    weights = parse_terms(text.text_rewards)
    perfect = sum(weights.values())
    source: RewardSource | None = None
    if not weights or profile.generator is not None or remote.reward_url is not None:
        source, perfect = open_source(rewarding, remote, data.style, data.target), perfect + PERFECT
    if weights:
        source = TextReward(weights, style_and_rules(data.style, data.target)[1], source)
    assert source is not None, "there are pictures or text terms"
    try:
        evolve_style(
            args,
            data,
            requests,
            source=source,
            chat=open_chat(profile.rewriter.model),
            proposer=open_chat(proposing.rewriter.model),
            max_tokens=profile.rewriter.max_tokens,
            perfect=perfect,
        )
    finally:
        source.close()


def evolve_style(
    args: GepaArguments,
    data: DataArguments,
    requests: Sequence[str],
    *,
    source: RewardSource,
    chat: ChatModel,
    proposer: ChatModel,
    max_tokens: int = 1024,
    perfect: float = PERFECT,
) -> Evolved:
    """`train` once models are open: evolves the style `data.style`, and writes what came of it to `args.output_dir`."""
    style = load_style(data.style)
    target = None if data.target is None else load_target(data.target)
    texts: dict[str, str] = {}
    for part in args.parts:
        text = getattr(style, part)
        if text is None:
            raise ConfigError(f"the style {data.style} has no {part}.txt to evolve; name others as parts")
        texts[part] = text
    out = Path(args.output_dir)
    about = {
        "style": _name_of(texts), "models": [chat.name, proposer.name], "target": data.target, "seed": args.gepa_seed,
        "requests": _name_of({str(number): request for number, request in enumerate(requests)}),
    }  # fmt: skip
    with Journal(out / "state.jsonl", "gepa", about=about, advice="give another output_dir") as journal:
        runner = StyleRunner(chat, source, style, target, journal, max_tokens)
        proposals = Proposer(proposer, journal, args.proposal_tokens)
        evolved = evolve(texts, requests, runner, proposals, args, perfect)
    kept = evolved.is_better(args.keep_if)
    report = {
        "style": data.style,
        "parts": list(args.parts),
        "written": kept,
        "before": evolved.before,
        "after": evolved.after,
        "gain": [evolved.gain, evolved.low, evolved.high],
        "proposals": {"made": proposals.made, "unusable": proposals.unusable},
        "candidates": evolved.tried,
        "requests": dict(evolved.requests),
        "texts": dict(evolved.texts),
    }
    write_atomically(out / "report.json", (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
    if proposals.unusable:
        console.print(f"{proposals.unusable} of {proposals.made} proposals held no new text that could be used")
    between = "" if evolved.low is None else f" [{evolved.low:+.3f}, {evolved.high:+.3f}]"
    console.print(
        f"held-out requests: {evolved.before:.3f} before, {evolved.after:.3f} after, {evolved.gain:+.3f}{between}"
    )
    if kept:
        write_style(data.style, evolved.texts, out)
        console.print(f"the new style: {out}; for a profile: [rewriter] style = {json.dumps(str(out))}")
    else:
        console.print(f"no style is written: that is no gain to rely on; {out / 'report.json'} has the texts")
    return evolved


if __name__ == "__main__":
    raise SystemExit(main())
