"""GRPO of a judge that thinks before it answers, by rewards that can be verified, with TRL.

    python -m evaluator.train.grpo --config FILE.yaml [--max_steps N] [any setting of the file, to override it]
    accelerate launch -m evaluator.train.grpo --config FILE.yaml

or --config NAME for a recipe that comes with the package: qwen3_vl_4b_grpo. The YAML file holds the settings of
`JudgeGRPOArguments`, of TRL's GRPOConfig (output_dir, num_generations, ...) and of its ModelConfig (model_name_or_path,
use_peft, ...). A second run of the same command resumes from the last whole checkpoint. `evaluator.train.tasks` says what a
task is; `evaluator.train.rewards` has the formulas.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from evaluator.train.rewards import (
    ReasonedReply,
    fidelity,
    read_number,
    read_reasoned,
    reward_accuracy,
    reward_format,
    reward_listener,
    reward_no_thinking,
    reward_score,
)
from evaluator.train.tasks import (
    STYLE,
    JudgeTask,
    ListenerWording,
    TaskKind,
    TaskWording,
    load_tasks,
    task_row,
    with_pictures,
)
from redraft.chat import ChatModel, ChatRequest, Message, Part, open_chat
from redraft.coroutines import run_coroutine
from redraft.errors import BackendError, ConfigError, InputError
from redraft.images import open_image
from redraft.profiles import load_profile
from redraft.training import (
    checkpoint_for,
    console,
    find_model,
    naming_mistakes,
    read_settings,
    recipes,
    report_loaded,
    run,
    set_model_kwargs,
    train_and_save,
)


@dataclass
class JudgeGRPOArguments:
    """What is learnt from, and what is rewarded."""

    train_files: list[str] = field(
        default_factory=list,
        metadata={
            "help": "JSONL or Parquet files of tasks (judge records are tasks), folders, or datasets:NAME#SPLIT."
        },
    )
    rewards: list[str] = field(
        default_factory=lambda: ["accuracy=0.9", "format=0.1"],
        metadata={"help": "NAME=WEIGHT of accuracy, format, no_thinking, listener, description, fidelity."},
    )
    listener: str | None = field(
        default=None,
        metadata={
            "help": "Profile whose judge's model listens (rewards listener, description); it must be able to chat."
        },
    )
    style: str = field(default=STYLE, metadata={"help": "The style whose templates put tasks to the judge."})
    listener_style: str | None = field(
        default=None, metadata={"help": "The style whose templates put thoughts to the listener; `style` if not given."}
    )
    max_bad: float = field(default=0.01, metadata={"help": "Share of malformed tasks that is allowed."})


@dataclass(frozen=True)
class Sample:
    """A reply with what is known of its task. `row` is the task's number: replies of one group share it."""

    reply: ReasonedReply
    kind: TaskKind
    truth: str
    question: str
    options: tuple[str, ...]
    row: int
    pictures: tuple[Image.Image, ...] = ()


BatchReward = Callable[[Sequence[Sample]], Sequence[float | None]]
"""One value for each sample; None if the reward does not apply, or could not be had."""


def rate_accuracy(samples: Sequence[Sample]) -> list[float | None]:
    """Right or wrong; for scores, right within 0.35 (Q-Insight)."""
    return [
        reward_score(s.reply, float(s.truth)) if s.kind == "score" else reward_accuracy(s.reply, s.truth)
        for s in samples
    ]


def rate_format(samples: Sequence[Sample]) -> list[float | None]:
    return [reward_format(sample.reply) for sample in samples]


def rate_no_thinking(samples: Sequence[Sample]) -> list[float | None]:
    return [reward_no_thinking(sample.reply, sample.truth) for sample in samples]


def rate_fidelity(samples: Sequence[Sample]) -> list[float | None]:
    """VisualQuality-R1's rule over the scores of a batch; None for other tasks, and if a batch holds one picture alone. A
    reply without a number earns 0, and does not count in its picture's mean."""
    numbers: dict[int, list[float]] = defaultdict(list)
    truths: dict[int, float] = {}
    for sample in samples:
        if sample.kind == "score":
            truths[sample.row] = float(sample.truth)
            if (value := read_number(sample.reply.answer)) is not None:
                numbers[sample.row].append(value)
    rewards: list[float | None] = []
    for sample in samples:
        others = [row for row in numbers if row != sample.row]
        if sample.kind != "score" or not others:
            rewards.append(None)
            continue
        value = read_number(sample.reply.answer)
        if value is None:
            rewards.append(0.0)
            continue
        own = numbers[sample.row]
        every = fidelity(own, [numbers[row] for row in others], truths[sample.row], [truths[row] for row in others])
        rewards.append(every[own.index(value)])
    return rewards


class Listener:
    """A frozen second model that answers a task with the help of a thought, or of a description alone.

    `sees`: whether it is shown the pictures too (the listener's reward), or answers from the description alone (Vision-SR1,
    CapRL). Gives the probability of the true answer among the possible ones; None for scores, and if it fails, also by giving
    the possible answers less than `min_label_mass` of its probability together; 0 for replies without what it is to read.
    """

    def __init__(self, chat: ChatModel, *, sees: bool, style: str = STYLE, min_label_mass: float = 0.5) -> None:
        self._chat = chat
        self._sees = sees
        self._wording = ListenerWording(style, sees=sees)
        self._min_label_mass = min_label_mass

    def __call__(self, samples: Sequence[Sample]) -> list[float | None]:
        async def ask_all() -> list[float | BackendError | None]:
            return list(await asyncio.gather(*(self._try(sample) for sample in samples)))

        made = run_coroutine(ask_all())
        errors = [one for one in made if isinstance(one, BackendError)]
        if errors:
            console.print(f"the listener failed on {len(errors):,} of {len(samples):,} replies, such as: {errors[0]}")
        return [None if isinstance(one, BackendError) else one for one in made]

    def check(self, tasks: Sequence[JudgeTask]) -> None:
        """Asks about the first task of each kind, so that one of no use is known of before training. Raises BackendError."""
        first = {task.kind: task for task in reversed(tasks) if task.options}
        for task in first.values():
            pictures = tuple(open_image(path) for path in task.pictures)
            run_coroutine(self._ask("I see it.", task.truth, task.question, task.options, pictures))

    async def _try(self, sample: Sample) -> float | BackendError | None:
        text = sample.reply.thought if self._sees else sample.reply.description
        if not sample.options:
            return None
        if not text:
            return 0.0  # nothing to listen to: the reply withheld it
        try:
            return await self._ask(text, sample.truth, sample.question, sample.options, sample.pictures)
        except BackendError as error:
            return error

    async def _ask(
        self, text: str, truth: str, question: str, options: Sequence[str], pictures: Sequence[Image.Image]
    ) -> float | None:
        words = self._wording(text, question, options)
        content: tuple[Part, ...] = (*pictures, words) if self._sees else (words,)
        reply = await self._chat(ChatRequest((Message("user", content),), max_tokens=1, choices=tuple(options)))
        shares = {option: math.exp(reply.logprobs.get(option, -math.inf)) for option in options}
        mass = sum(shares.values())
        if not mass >= max(self._min_label_mass, 1e-9):  # NaN, too
            raise BackendError(
                f"{self._chat.name} answers with none of {', '.join(options)}: together they have {mass:.3f} of the "
                f"probability, and min_label_mass is {self._min_label_mass:g}"
            )
        return reward_listener(
            next(share for option, share in shares.items() if option.casefold() == truth.casefold()) / mass
        )


class JudgeReward:
    """The reward function for TRL: the weighted mean of those parts that apply to a reply.

    A reply of which a part could not be had (a listener that failed) has no reward: TRL leaves it out of its group. Means
    of the parts are logged as reward/NAME.
    """

    def __init__(self, parts: Mapping[str, tuple[BatchReward, float]]) -> None:
        self.__name__ = "judge"
        self._parts = dict(parts)

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        *,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Sequence[Any],
    ) -> list[float | None]:
        samples = [
            Sample(
                reply=read_reasoned(completion[0]["content"]),
                kind=columns["kind"][at],
                truth=columns["truth"][at],
                question=columns["question"][at],
                options=tuple(columns["options"][at]),
                row=columns["row"][at],
                pictures=tuple(columns["images"][at]) if "images" in columns else (),
            )
            for at, completion in enumerate(completions)
        ]
        values = {name: list(rate(samples)) for name, (rate, _) in self._parts.items()}
        if log_metric is not None:
            for name, column in values.items():
                known = [value for value in column if value is not None]
                if known:
                    log_metric(f"reward/{name}", sum(known) / len(known))
        return [
            self._combine(sample, {n: column[at] for n, column in values.items()}) for at, sample in enumerate(samples)
        ]

    def _combine(self, sample: Sample, values: Mapping[str, float | None]) -> float | None:
        applying = {name: value for name, value in values.items() if _applies(name, sample)}
        if not applying or any(value is None for value in applying.values()):
            return None
        weights = {name: self._parts[name][1] for name in applying}
        return sum(weights[name] * (value or 0.0) for name, value in applying.items()) / sum(weights.values())


def _applies(name: str, sample: Sample) -> bool:
    if name == "fidelity":
        return sample.kind == "score"
    return name not in ("listener", "description") or bool(sample.options)


_RATERS: Mapping[str, BatchReward] = {
    "accuracy": rate_accuracy,
    "format": rate_format,
    "no_thinking": rate_no_thinking,
    "fidelity": rate_fidelity,
}


class OpenListener(Protocol):
    """Makes a listener that sees the pictures, or that does not."""

    def __call__(self, *, sees: bool) -> Listener: ...


def read_parts(rewards: Sequence[str], listen: OpenListener | None) -> dict[str, tuple[BatchReward, float]]:
    """The parts of a reward from "NAME=WEIGHT"; `listen` makes the listeners. Raises ConfigError."""
    parts: dict[str, tuple[BatchReward, float]] = {}
    for text in rewards:
        name, _, number = text.partition("=")
        name = name.strip()
        try:
            weight = float(number or "1")
        except ValueError:
            weight = -1.0
        if not (0 < weight < math.inf) or name in parts:
            raise ConfigError(f"rewards: {text!r}; write each once, as NAME=WEIGHT with a weight above 0")
        if name in ("listener", "description"):
            if listen is None:
                raise ConfigError(f"rewards: {name} needs a model that listens; name a profile as `listener`")
            parts[name] = listen(sees=name == "listener"), weight
        elif name in _RATERS:
            parts[name] = _RATERS[name], weight
        else:
            known = ", ".join([*_RATERS, "listener", "description"])
            raise ConfigError(f"rewards: there is no {name!r}; there are {known}")
    if not parts:
        raise ConfigError("rewards is empty; name at least one, such as accuracy=1")
    return parts


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; `argv` defaults to the process's arguments. Returns the exit code."""
    return run(train, argv)


def train(argv: Sequence[str]) -> None:
    """Reads settings and tasks, trains, saves. Raises RedraftError."""
    from trl import GRPOConfig, ModelConfig

    kinds = (JudgeGRPOArguments, GRPOConfig, ModelConfig)
    data, training, model = read_settings(kinds, argv, "python -m evaluator.train.grpo", recipes("evaluator.train"))
    if not data.train_files:
        raise ConfigError("train_files is missing; name JSONL or Parquet files of tasks, or folders of them")
    listen = None if data.listener is None else open_listener(data.listener, data.listener_style or data.style)
    parts = read_parts(data.rewards, listen)
    wording = TaskWording(data.style, describes="description" in parts)
    place = find_model(model.model_name_or_path, model.model_revision)
    out = Path(training.output_dir)
    loaded = report_loaded("train_files", load_tasks(data.train_files, out / "pictures", max_bad=data.max_bad))
    if "fidelity" in parts:
        _check_scores([task.kind for task in loaded.records])
    for rater, _ in parts.values():
        if isinstance(rater, Listener):
            rater.check(loaded.records)
    rows = [task_row(task, wording, number) for number, task in enumerate(loaded.records)]
    trainer = _make_trainer(place, training, model, rows, JudgeReward(parts))
    train_and_save(trainer, checkpoint_for(training))


def open_listener(name: str, style: str = STYLE) -> OpenListener:
    """What makes listeners of the judge's model of the profile `name`, asked by the templates of `style`. Raises ConfigError."""
    profile = load_profile(name)
    if profile.judge is None:
        raise ConfigError(f"listener: the profile {name} has no judge")
    chat = open_chat(profile.judge.model)
    return partial(Listener, chat, style=style, min_label_mass=profile.judge.min_label_mass)


def _check_scores(kinds: Sequence[TaskKind]) -> None:
    if kinds.count("score") < 2:
        raise InputError("the reward fidelity orders pictures by their scores; give at least two tasks of kind score")


def _make_trainer(place: str, training: Any, model: Any, rows: list[dict[str, Any]], reward: JudgeReward) -> Any:
    from datasets import Dataset
    from trl import GRPOTrainer, get_peft_config, get_quantization_config

    set_model_kwargs(training, model)
    data = Dataset.from_list(rows)
    data.set_transform(with_pictures)
    with naming_mistakes(place):
        return GRPOTrainer(
            model=place,
            reward_funcs=reward,
            args=training,
            train_dataset=data,
            quantization_config=get_quantization_config(model),
            peft_config=get_peft_config(model),
        )


if __name__ == "__main__":
    raise SystemExit(main())
