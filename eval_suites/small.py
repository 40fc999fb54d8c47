"""The figures of the small rewriter: what its rewrites keep, add and say, on held-out requests, by rules and no model.

    python -m eval_suites.small --base FOLDER --own work/small/test.jsonl --parti PartiPrompts.tsv \
      --rows base rules sft_plain=work/small/sft_plain sft=work/small/sft grpo=rewriter/small/adapter --out docs/small

A row is `NAME=ADAPTER`, `NAME=http://HOST:PORT/v1` (a merged model that is served as "small", several times as fast), `base`
(no adapter, with the reply's form put into words), or `rules` (no model). Replies are kept in --work, so that an interrupted
command goes on. The first reply is greedy but in rows that --sampled names. One that cannot be read, or that the guard refuses,
is followed by a sampled one, as in use (`rewriter.cot`).

Requests are rewritten in prose as for FLUX; `--tags N` measures N of each set once more, in tags with a negative prompt as for
SDXL. Figures of the first reply are the model's; those of what the user gets count requests that fell back to themselves.
Intervals are 95% bootstrap over requests. The measures are those that GRPO was rewarded by (`rewriter.train.text_reward`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from eval_suites.benchmarks.partiprompts import load as load_parti
from eval_suites.stats import bootstrap, paired_difference
from redraft.chat import ChatReply, ChatRequest, Message, open_chat
from redraft.coroutines import run_coroutine
from redraft.profiles import ModelConfig, RewriterConfig, ServerConfig
from redraft.statistics import Interval
from redraft.training import console
from rewriter.cot import Asking
from rewriter.keep import reason_to_keep
from rewriter.reply import review
from rewriter.target import TARGET_OF_FORM
from rewriter.train.rewards import format_term
from rewriter.train.text_reward import (
    HIGH,
    HIGH_TAGS,
    LOW,
    LOW_TAGS,
    added_claims,
    coverage,
    form_term,
    novelty,
    other_media,
    repeated_share,
    stock_phrases,
)

_STYLE = "package:rewriter/small/style"
_EXPLANATION = (
    " Rewrite the request in 40 to 120 plain words and keep all that it says. "
    "Reply in the form <think>what matters</think><answer>the prompt</answer>."
)
"""What the base is told besides the style's own words, which are too short for a model that was not trained on them."""
_RULES = (
    "The main subject is shown whole in the middle of the frame. The light is even and shows every part clearly. "
    "The background is plain, so that the subject stands out. The composition is simple and balanced. "
    "The style is a natural photograph."
)
_MAX_TOKENS = 320
_SAMPLED = {"temperature": 0.7, "top_p": 0.9}
_BATCH = 150
_MOST = 0.9


@dataclass(frozen=True)
class Judged:
    """What is measured of one request. `coverage` to `shared` are the first reply's; `fallback`, `final_coverage` and
    `final_clean` are of what the user gets. `shared`: the mean over its phrases of the share of the other requests whose rewrites
    say the same."""

    request: str
    prompt: str
    coverage: float
    clean: float
    format: float
    form: float
    claims: float
    stock: float
    words: float
    in_range: float
    medium: float
    repeated: float
    shared: float
    fallback: float
    final_coverage: float
    final_clean: float


MEASURES = {
    "coverage": "request's content kept",
    "clean": "no guard finding",
    "format": "readable",
    "form": "in the wanted form",
    "claims": "claims added",
    "stock": "stock phrases per 100 words",
    "words": "words",
    "in_range": "40 to 120 words (tags 8 to 50)",
    "medium": "no other medium",
    "repeated": "said twice",
    "shared": "shared phrases",
    "fallback": "falls back",
    "final_coverage": "content kept, in use",
    "final_clean": "no finding, in use",
}


_PAIRED = ("coverage", "clean", "claims", "words", "medium", "repeated", "shared")


def judge(request: str, first: ChatReply, second: ChatReply | None, asking: Asking) -> Judged:
    """Measures the replies to a request."""
    read = review(request, first, asking.rules)
    prompt = read.prompt or ""
    last = read if second is None else review(request, second, asking.rules)
    fell_back = bool(last.faults) or last.prompt is None
    final = request if fell_back else last.prompt or ""
    words = len(prompt.split())
    target = asking.rules.target
    form = target.form if target is not None else "prose"
    return Judged(
        request=request,
        prompt=prompt,
        coverage=coverage(request, prompt) if prompt else 0.0,
        clean=float(not read.faults),
        format=float(format_term(first.text, readable=read.prompt is not None) > 0),
        form=form_term(form, read) if read.prompt is not None else 0.0,
        claims=float(len(added_claims(request, prompt))) if prompt else 0.0,
        stock=100 * len(stock_phrases(request, prompt)) / max(1, words),
        words=float(words),
        in_range=float(LOW_TAGS <= words <= HIGH_TAGS if form == "tags" else LOW <= words <= HIGH),
        medium=float(not other_media(request, prompt)),
        repeated=repeated_share(prompt),
        shared=0.0,
        fallback=float(fell_back),
        final_coverage=coverage(request, final),
        final_clean=float(not fell_back),
    )


def summarise(judged: Sequence[Judged]) -> dict[str, Any]:
    """Each measure's mean and interval. Claims, stock phrases and words are those of replies that can be read."""
    readable = [each for each in judged if each.prompt]
    figures: dict[str, Any] = {"n": len(judged)}
    for name in MEASURES:
        rows = readable if name in ("claims", "stock", "words", "in_range", "medium", "repeated", "shared") else judged
        figures[name] = asdict(bootstrap([getattr(each, name) for each in rows])) if rows else None
    return figures


class Replies(Protocol):
    """What answers the requests of a row."""

    def __call__(self, asked: Sequence[tuple[str, Sequence[Message]]], seed: int | None) -> list[ChatReply]:
        """A reply for each (request, messages), in order; greedy without a seed, or sampled as in use."""


class Generator(Protocol):
    """What makes the replies of one batch. It may stop as soon as a share of `until` of them are whole: the others are then
    `truncated`."""

    def __call__(self, chats: Sequence[Sequence[Message]], seed: int | None, until: float = 1.0) -> list[ChatReply]: ...


class KeptReplies:
    """Replies of a generator, kept in a file, so that an interrupted command goes on."""

    def __init__(self, path: Path, generate: Generator) -> None:
        self._path, self._generate = path, generate
        self._known: dict[str, dict[str, Any]] = {}
        if path.is_file():
            rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
            self._known = {row["key"]: row for row in rows}

    def __call__(self, asked: Sequence[tuple[str, Sequence[Message]]], seed: int | None) -> list[ChatReply]:
        keys = [f"{0 if seed is None else seed + 1} {messages[0].content} {request}" for request, messages in asked]
        todo = [i for i, key in enumerate(keys) if key not in self._known]
        todo = sorted({keys[i]: i for i in todo}.values(), key=lambda i: len(asked[i][0]))
        # Most replies are short, and a batch takes as long as its longest: the few that go on are made anew, together.
        for share in (_MOST, 1.0):
            late: list[int] = []
            for at in range(0, len(todo), _BATCH):
                batch = todo[at : at + _BATCH]
                replies = self._generate([asked[i][1] for i in batch], seed, until=share)
                rows: list[dict[str, Any]] = []
                for i, reply in zip(batch, replies, strict=True):
                    if reply.truncated and share < 1:
                        late.append(i)
                    else:
                        rows.append({"key": keys[i], "text": reply.text, "truncated": reply.truncated})
                self._known |= {row["key"]: row for row in rows}
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                console.print(f"{self._path.stem}: {min(at + _BATCH, len(todo))} of {len(todo)}")
            todo = late
        return [ChatReply(self._known[key]["text"], truncated=self._known[key]["truncated"]) for key in keys]


class LocalModel:
    """A base model in this process, with an adapter merged into it if there is one. Loaded when it is first asked."""

    def __init__(self, base: str, adapter: str | None) -> None:
        self._base, self._adapter = base, adapter
        self._model: Any = None
        self._tokenizer: Any = None

    def __call__(self, chats: Sequence[Sequence[Message]], seed: int | None, until: float = 1.0) -> list[ChatReply]:
        import torch
        from transformers import StoppingCriteriaList

        self._load()
        texts = [
            self._tokenizer.apply_chat_template(
                [{"role": m.role, "content": m.content} for m in chat], tokenize=False, add_generation_prompt=True
            )
            for chat in chats
        ]
        batch = self._tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        torch.manual_seed(seed or 0)
        start, end = batch["input_ids"].shape[1], self._tokenizer.eos_token_id

        def enough(ids: torch.Tensor, _: object, **__: object) -> torch.Tensor:
            ended = (ids[:, start:] == end).any(dim=1)
            return torch.full_like(ended, bool(ended.float().mean() >= until))

        how: dict[str, Any] = {"do_sample": False} if seed is None else {"do_sample": True, **_SAMPLED}
        with torch.inference_mode():
            out = self._model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=_MAX_TOKENS,
                stopping_criteria=StoppingCriteriaList([enough]),
                **how,
            )
        made = out[:, start:]
        ends = (made == end).any(dim=1).tolist()
        replies = self._tokenizer.batch_decode(made, skip_special_tokens=True)
        return [ChatReply(text, truncated=not ended) for text, ended in zip(replies, ends, strict=True)]

    def _load(self) -> None:
        if self._model is not None:
            return
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(self._base, padding_side="left")
        model: Any = AutoModelForCausalLM.from_pretrained(self._base, dtype=torch.bfloat16, use_safetensors=True)
        if self._adapter is not None:
            model = PeftModel.from_pretrained(model, self._adapter).merge_and_unload()
        self._model = model.eval()


class ServedModel:
    """A merged model behind a server, by the name "small"."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, chats: Sequence[Sequence[Message]], seed: int | None, until: float = 1.0) -> list[ChatReply]:
        return run_coroutine(self._ask(chats, {} if seed is None else {**_SAMPLED, "seed": seed}))

    async def _ask(self, chats: Sequence[Sequence[Message]], how: Mapping[str, Any]) -> list[ChatReply]:
        server = ServerConfig(base_url=self._url, timeout_s=600, concurrency=len(chats))
        chat = open_chat(ModelConfig(kind="openai", model="small", server=server))
        try:
            asked = (chat(ChatRequest(tuple(messages), _MAX_TOKENS, **how)) for messages in chats)
            return await asyncio.gather(*asked)
        finally:
            await chat.aclose()


def reply_by_rules(asked: Sequence[tuple[str, Sequence[Message]]], seed: int | None) -> list[ChatReply]:
    """Replies without a model: the request, and sentences that fit anything."""
    return [ChatReply(f"<think>-</think><answer>{_as_sentence(request)} {_RULES}</answer>") for request, _ in asked]


def _as_sentence(text: str) -> str:
    text = " ".join(text.split())
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def measure_row(
    requests: Sequence[str], replies: Replies, asking: Asking, *, explained: bool, seed: int | None = None
) -> list[Judged]:
    """Asks for each request, once more if the first reply has faults, and measures. `explained`: the form of a reply is put into
    words. `seed`: of the first reply if that is sampled too. Requests that the style keeps as they are (other languages and the
    like) are not measured."""
    wanted = [request for request in requests if reason_to_keep(request, asking.style.settings.keep) is None]
    asked = [(request, _explain(asking.style.rewrite_messages(request), explained)) for request in wanted]
    first = replies(asked, seed)
    faulty = [i for i, reply in enumerate(first) if review(wanted[i], reply, asking.rules).faults]
    again = dict(zip(faulty, replies([asked[i] for i in faulty], 0 if seed is None else seed + 1), strict=True))
    judged = [judge(request, first[i], again.get(i), asking) for i, request in enumerate(wanted)]
    fresh = novelty([(each.request, each.prompt) for each in judged])
    return [replace(each, shared=1 - value) for each, value in zip(judged, fresh, strict=True)]


def _explain(messages: tuple[Message, ...], explained: bool) -> tuple[Message, ...]:
    if not explained:
        return messages
    return (replace(messages[0], content=f"{messages[0].content}{_EXPLANATION}"), *messages[1:])


def measure_speed(generate: Generator, requests: Sequence[str], asking: Asking) -> dict[str, float]:
    """Rewrites per minute one at a time and in a batch of 24, on as many threads as there are, and the peak of memory."""
    chats = [asking.style.rewrite_messages(request) for request in requests]
    generate(chats[:1], None)
    alone = chats[:6]
    start = time.perf_counter()
    for chat in alone:
        generate([chat], None)
    one = len(alone) / (time.perf_counter() - start) * 60
    start = time.perf_counter()
    generate(chats[:24], None)
    many = len(chats[:24]) / (time.perf_counter() - start) * 60
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return {"one_at_a_time": one, "batch_of_24": many, "ratio": many / one, "peak_gib": peak}


def write_report(out: Path, figures: Mapping[str, Any], samples: Sequence[Judged], command: str) -> None:
    """The figures as JSON, and as a page: tables, paired differences, and the samples printed whole."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "figures.json").write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = ["# The small rewriter: figures", "", f"Made by `{command}`. 95% bootstrap intervals over requests.", ""]
    for title, rows in figures["sets"].items():
        lines += [f"## {title}", "", "| row | n | " + " | ".join(MEASURES.values()) + " |"]
        lines += ["|---" * (len(MEASURES) + 2) + "|"]
        for name, row in rows["rows"].items():
            cells = " | ".join(_cell(row[measure]) for measure in MEASURES)
            lines.append(f"| {name} | {row['n']} | {cells} |")
        if rows["paired"]:
            lines += [
                "",
                f"| paired difference | n | {' | '.join(MEASURES[name] for name in _PAIRED)} |",
                "|---" * (len(_PAIRED) + 2) + "|",
            ]
            for name, pair in rows["paired"].items():
                cells = " | ".join(_signed(pair.get(measure)) for measure in _PAIRED)
                lines.append(f"| {name} | {pair['n']} | {cells} |")
        lines.append("")
    if figures.get("speed"):
        speed = figures["speed"]
        lines += [
            "## Speed",
            "",
            f"Batches of 24 against one at a time, in process: {speed['ratio']:.1f} times as many rewrites a minute. Peak of "
            f"memory: {speed['peak_gib']:.2f} GiB.",
            "",
        ]
    lines += [f"## {len(samples)} rewrites, chosen by seed", ""]
    for each in samples:
        lost = "" if each.coverage == 1 else f" (keeps {each.coverage:.2f} of the request)"
        state = "" if each.clean else " (refused by the guard)"
        lines += [f"**{_plain(each.request)}**{lost}{state}", "", f"> {_plain(each.prompt) or '(cannot be read)'}", ""]
    (out / "figures.md").write_text("\n".join(lines), encoding="utf-8")


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("<", "&lt;").replace("*", "\\*").replace("[", "\\[")


def _cell(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "-"
    digits = 3 if value["mean"] <= 1 else 1
    low, high = value["low"], value["high"]
    return f"{value['mean']:.{digits}f}" + ("" if low is None else f" [{low:.{digits}f}, {high:.{digits}f}]")


def _signed(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "-"
    low, high = value["low"], value["high"]
    return f"{value['mean']:+.3f}" + ("" if low is None else f" [{low:+.3f}, {high:+.3f}]")


def _pair(ours: Sequence[Judged], theirs: Sequence[Judged]) -> dict[str, Any]:
    known = {each.request: each for each in theirs}
    pairs = [(each, known[each.request]) for each in ours if each.request in known and each.prompt]
    pairs = [(a, b) for a, b in pairs if b.prompt]
    figures: dict[str, Any] = {"n": len(pairs)}
    if not pairs:
        return figures
    for name in _PAIRED:
        found: Interval = paired_difference([getattr(a, name) for a, _ in pairs], [getattr(b, name) for _, b in pairs])
        figures[name] = asdict(found)
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; `argv` defaults to the process's arguments."""
    parser = argparse.ArgumentParser(prog="python -m eval_suites.small", description="Figures of the small rewriter.")
    parser.add_argument("--base", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="the model without an adapter")
    parser.add_argument("--own", type=Path, default=Path("work/small/test.jsonl"), help="held-out lessons")
    parser.add_argument("--parti", type=Path, help="PartiPrompts.tsv, as its authors publish it")
    parser.add_argument(
        "--rows",
        nargs="+",
        default=["rules", "grpo=rewriter/small/adapter"],
        help="NAME=ADAPTER, NAME=URL, base, rules",
    )
    parser.add_argument("--full", nargs="*", default=["grpo", "rules"], help="rows that are measured on everything")
    parser.add_argument("--sample", type=int, default=150, help="requests of each set for the other rows, by seed")
    parser.add_argument(
        "--dev", action="store_true", help="the last requests of each set, which figures of other samples do not have"
    )
    parser.add_argument("--tags", type=int, default=0, help="requests of each set that are rewritten in tags too")
    parser.add_argument("--more", type=int, help="requests of each set for the last row")
    parser.add_argument("--few", nargs="*", default=["base"], help="rows that are measured on a third of these")
    parser.add_argument("--count", type=int, default=40, help="rewrites that are printed")
    parser.add_argument("--work", type=Path, default=Path("work/small/eval"), help="where replies are kept")
    parser.add_argument("--out", type=Path, default=Path("docs/small"), help="folder of the report")
    parser.add_argument("--sampled", nargs="*", default=[], help="rows whose first reply is sampled, too")
    parser.add_argument("--speed", action="store_true", help="measure speed too")
    options = parser.parse_args(argv)
    sets = {}
    if options.parti is not None:
        sets["PartiPrompts"] = [item.prompt for item in load_parti(options.parti, "").items]
    sets["Our own held-out requests"] = _own(options.own)
    parts = [(title, requests, "prose") for title, requests in sets.items()]
    if options.tags:
        parts += [(f"{title}, in tags", requests, "tags") for title, requests in sets.items()]
    models: dict[str, Replies] = {}
    generators: dict[str, Generator] = {}
    for row in options.rows:
        name, _, source = row.partition("=")
        if name == "rules":
            models[name] = reply_by_rules
            continue
        served = source.startswith(("http://", "https://"))
        generators[name] = ServedModel(source) if served else LocalModel(_place(options.base), source or None)
        models[name] = KeptReplies(options.work / f"{name}.jsonl", generators[name])
    figures: dict[str, Any] = {"sets": {}}
    judged: dict[str, dict[str, list[Judged]]] = {}
    for title, requests, form in parts:
        asking = _asking(options.base, form)
        # Shuffled once, so that a smaller sample is part of a greater one.
        mixed = random.Random(0).sample(requests, len(requests))
        if options.dev:
            mixed.reverse()
        sizes = {name: len(mixed) if name in options.full else options.sample for name in models}
        sizes |= {name: options.sample // 3 for name in options.few if name in models}
        if options.more is not None:
            sizes[options.rows[-1].partition("=")[0]] = options.more
        if form == "tags":
            sizes = {name: min(size, options.tags) for name, size in sizes.items() if name not in ("base", "rules")}
        judged[title] = {
            name: measure_row(
                mixed[:size],
                models[name],
                asking,
                explained=name == "base",
                seed=0 if name in options.sampled else None,
            )
            for name, size in sizes.items()
        }
        rows = judged[title]
        last = options.rows[-1].partition("=")[0]
        figures["sets"][title] = {
            "rows": {name: summarise(found) for name, found in rows.items()},
            "paired": {
                f"{last} minus {name}": _pair(rows[last], found)
                for name, found in rows.items()
                if name != last and last in rows
            },
        }
    final = generators.get(options.rows[-1].partition("=")[0])
    if options.speed and final is not None:
        figures["speed"] = measure_speed(final, _own(options.own), _asking(options.base, "prose"))
    own = judged["Our own held-out requests"][options.rows[-1].partition("=")[0]]
    samples = random.Random(1).sample(own, min(options.count, len(own)))
    write_report(options.out, figures, samples, "python -m eval_suites.small")
    console.print(f"{options.out}: figures.json, figures.md")


def _asking(base: str, form: str) -> Asking:
    model = ModelConfig(kind="transformers", model=base)
    target = TARGET_OF_FORM[form]
    return Asking.of(RewriterConfig(model=model, style=_STYLE, max_tokens=_MAX_TOKENS, target=target))


def _own(path: Path) -> list[str]:
    return [json.loads(line)["request"] for line in path.read_text(encoding="utf-8").splitlines()]


def _place(base: str) -> str:
    from redraft.profiles import model_place

    return str(model_place(base))


if __name__ == "__main__":
    main()
