"""The training of a judge from its settings to its report."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from evaluator.judge import CheckWording, open_judge
from evaluator.train.figures import MeasuredJudge, RecordAnswer, fit_temperature, write_profile_table, write_report
from evaluator.train.records import Judgement, RecordParts, load_judgements, split
from evaluator.types import Judge, Outcome
from redraft.errors import BackendError, ConfigError, InputError
from redraft.files import write_atomically
from redraft.profiles import JudgeConfig, LocalConfig, ModelConfig
from redraft.training import checkpoint_for, console, find_model, read_settings, recipes, report_loaded, save_whole

if TYPE_CHECKING:
    from evaluator.local_judge import VLM


@dataclass
class JudgeArguments:
    """What is learnt, and what is held out of it."""

    train_files: list[str] = field(
        default_factory=list,
        metadata={"help": "JSONL or Parquet files of judgements, folders, or datasets:NAME#SPLIT."},
    )
    calibration_files: list[str] = field(
        default_factory=list,
        metadata={"help": "The same, to fit the temperature to; a share of train_files if not given."},
    )
    report_files: list[str] = field(
        default_factory=list, metadata={"help": "The same, to report figures on; a share of train_files if not given."}
    )
    calibration_share: float = field(
        default=0.1, metadata={"help": "Share of train_files to calibrate on if there are no calibration_files."}
    )
    report_share: float = field(
        default=0.1, metadata={"help": "Share of train_files to report on if there are no report_files."}
    )
    split_seed: int = field(default=0, metadata={"help": "Which records fall into which share."})
    max_bad: float = field(default=0.01, metadata={"help": "Share of malformed records that is allowed."})
    style: str = field(default="keypoint", metadata={"help": "The judge style whose template to train with."})
    reasons: bool = field(default=True, metadata={"help": "Whether to train on reasons too, if there are any."})
    reason_weight: float = field(default=0.1, metadata={"help": "Weight of the reasons' loss; the verdict has 1."})
    frozen: list[str] = field(
        default_factory=list, metadata={"help": "Patterns of parameter names to leave as they are (re.search)."}
    )
    measure_before: bool = field(
        default=True, metadata={"help": "Whether the report also measures the model before training."}
    )
    constant_start: bool = field(
        default=False,
        metadata={
            "help": "Whether to train a judge that, before training, gives every record of the report the same answer."
        },
    )
    min_label_mass: float = field(
        default=0.5, metadata={"help": "As in a profile: an answer with less label mass FAILED."}
    )
    measure_batch: int = field(default=8, metadata={"help": "Pictures judged together when measuring."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Whether code that ships with the model may run."})


def train(argv: Sequence[str]) -> None:
    """Reads settings and records, trains, saves, measures, reports. Raises RedraftError.

    A second run with the same settings resumes from the last complete checkpoint.
    """
    from transformers import TrainingArguments
    from trl import ModelConfig as ModelArguments

    kinds = (JudgeArguments, TrainingArguments, ModelArguments)
    data, training, model = read_settings(kinds, argv, "python -m evaluator.train", recipes("evaluator"))
    _check(data, training, model)
    wording = CheckWording(data.style)
    base = find_model(model.model_name_or_path)
    out = Path(training.output_dir).resolve()
    first = training.process_index == 0
    parts = _parts(data, out, first=first)
    start = checkpoint_for(training)
    if first:
        _keep_parts(out, parts, resumed=bool(start))
    before = _measure_before(base, out, parts, data, training, model) if first and data.measure_before else None
    vlm = _load(base, data, training, model)
    trainer = _trainer(vlm, wording, parts, data, training, model)
    if start and first:
        console.print(f"resuming from {start}")
    _run(trainer, start)
    steps = trainer.state.global_step
    if first:
        _save(trainer, vlm, out)
        console.print(f"saved {out} after step {steps}")
    trainer.accelerator.end_training()
    local = {"device": str(training.device), "dtype": str(vlm.local.model.dtype).removeprefix("torch.")}
    del trainer, vlm
    gc.collect()  # the memory is needed for the judges
    if first:
        _measure(base, out, parts, data, local, steps, before)


_FEWEST_ALIKE = 20
"""Equal answers that make a judge one that does not look: fewer may be chance."""


def _measure_before(
    base: str, out: Path, parts: RecordParts, data: JudgeArguments, training: Any, model: Any
) -> list[RecordAnswer]:
    """The answers of the model before training, kept in `out`: a resumed training does not ask again. Raises InputError if they
    are all alike."""
    path = out / "before.json"
    if path.is_file():
        with contextlib.suppress(ValueError, TypeError):
            return [RecordAnswer(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    local = {"device": str(training.device), "dtype": model.dtype}
    made = ask_model(base, "before training", parts.report, data, local)
    sides = [answer.probability >= 0.5 for answer in made if answer.probability is not None]
    if len(sides) >= _FEWEST_ALIKE and len(set(sides)) == 1 and not data.constant_start:
        raise InputError(
            f"before training the judge answers {'yes' if sides[0] else 'no'} to each of {len(sides):,} records: it does not "
            "look at the pictures, or is not asked as it wants to be; check style and model, or set constant_start: true"
        )
    write_atomically(path, json.dumps([asdict(answer) for answer in made]).encode())
    return made


def ask_model(
    place: str, what: str, records: Sequence[Judgement], data: JudgeArguments, local: Mapping[str, object]
) -> list[RecordAnswer]:
    """The answers of the model in `place`, used as profiles would use it. Raises ConfigError for a dtype that is none."""
    own = {"micro_batch": data.measure_batch, "trust_remote_code": data.trust_remote_code}
    try:
        settings = LocalConfig.model_validate({**local, **own})
    except ValidationError as error:
        raise ConfigError(f"dtype {local['dtype']!r} is none of auto, float32, bfloat16, float16") from error
    model = ModelConfig(kind="transformers", model=place, local=settings)
    config = JudgeConfig(model=model, style=data.style, min_label_mass=data.min_label_mass)
    return asyncio.run(_answers(config, what, records))


def _measure(
    base: str,
    out: Path,
    parts: RecordParts,
    data: JudgeArguments,
    local: Mapping[str, object],
    steps: int,
    before: Sequence[RecordAnswer] | None,
) -> None:
    """Calibrates and reports on the model in `out`."""
    temperature = fit_temperature(ask_model(str(out), "calibration", parts.calibrate, data, local))
    if temperature.problem:
        console.print(f"warning: the temperature is left at 1: {temperature.problem}")
    measured = MeasuredJudge(
        report=ask_model(str(out), "report", parts.report, data, local),
        before=before,
    )
    facts = {
        "base": base,
        "style": data.style,
        "steps": steps,
        "records": {"learn": len(parts.learn), "calibrate": len(parts.calibrate), "report": len(parts.report)},
    }
    summary = write_report(out, facts, measured, temperature)
    table = write_profile_table(out, data.style, temperature.value, data.min_label_mass, data.trust_remote_code)
    console.print(f"{summary}\nreport: {out / 'report.md'}\nfor a profile: {table}")


def _check(data: JudgeArguments, training: Any, model: Any) -> None:
    if not data.train_files:
        raise ConfigError("train_files is missing; name JSONL or Parquet files of judgements, or folders of them")
    if bool(data.calibration_files) != bool(data.report_files):
        raise ConfigError("give both calibration_files and report_files, or neither: then shares are held out")
    if model.load_in_4bit or model.load_in_8bit:
        raise ConfigError(
            "load_in_4bit and load_in_8bit are not for judges: the temperature would be fitted to other weights than "
            "are served; train in bfloat16 with use_peft: true instead"
        )
    if model.model_revision != "main":
        raise ConfigError(
            f"model_revision is not taken here; hf download {model.model_name_or_path} --revision "
            f"{model.model_revision} --local-dir FOLDER, and give the folder as model_name_or_path"
        )
    if training.n_gpu > 1:
        raise ConfigError(
            f"this process sees {training.n_gpu} GPUs; start it with accelerate launch -m evaluator.train, or set "
            "CUDA_VISIBLE_DEVICES to one of them"
        )
    # The collator needs whole records, and the logits of a large vocabulary are not kept for a whole evaluation.
    training.remove_unused_columns = False
    training.prediction_loss_only = True


def _parts(data: JudgeArguments, out: Path, *, first: bool) -> RecordParts:
    spool = out / "pictures"

    def load(name: str, places: list[str]) -> tuple[Judgement, ...]:
        loaded = load_judgements(places, spool, max_bad=data.max_bad)
        return (report_loaded(name, loaded) if first else loaded).records

    learn = load("train_files", data.train_files)
    if data.calibration_files:
        held_out = load("calibration_files", data.calibration_files), load("report_files", data.report_files)
        parts = RecordParts(learn, *held_out)
        common = parts.shares()
        if common is not None:
            raise InputError(f"{common}; take them out of one, or the figures would flatter")
    else:
        parts = split(learn, data.calibration_share, data.report_share, data.split_seed)
    if len({record.accept for record in parts.learn}) == 1:
        only = "accept" if parts.learn[0].accept else "reject"
        raise InputError(f"every record to learn from says {only}; a judge needs both")
    return parts


def _keep_parts(out: Path, parts: RecordParts, *, resumed: bool) -> None:
    """Resuming with other records could report on records that were trained on."""
    path = out / "parts.json"
    mine = {name: _fingerprint(getattr(parts, name)) for name in ("learn", "calibrate", "report")}
    if not path.is_file() and (out / "config.json").is_file():
        # model_name_or_path itself, for example
        raise ConfigError(f"output_dir {out} already holds a model that was not trained here; give another folder")
    try:
        if resumed and path.is_file() and json.loads(path.read_text(encoding="utf-8")) != mine:
            raise ConfigError(
                f"the records are not those that the training in {out} began with, and it would resume from there; give "
                "another output_dir, or delete that one"
            )
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(mine, indent=1).encode())
    except OSError as error:
        raise InputError(f"cannot write to output_dir {out}: {error.strerror}") from error


def _fingerprint(records: Sequence[Judgement]) -> str:
    keys = sorted(
        (r.picture.digest, r.request, r.check.key_point, r.check.question, r.accept, r.reason) for r in records
    )
    return hashlib.sha256(json.dumps(keys).encode()).hexdigest()


def _load(base: str, data: JudgeArguments, training: Any, model: Any) -> VLM:
    from evaluator.local_judge import load_vlm

    local = {"device": str(training.device), "dtype": model.dtype, "trust_remote_code": data.trust_remote_code}
    try:
        config = ModelConfig(kind="transformers", model=base, local=LocalConfig.model_validate(local))
    except ValidationError as error:
        raise ConfigError(f"dtype {model.dtype!r} is none of auto, float32, bfloat16, float16") from error
    settings = {"attn_implementation": model.attn_implementation} if model.attn_implementation else {}
    vlm = load_vlm(config, **settings)
    if vlm.local.processor is None:
        raise ConfigError(f"{base} reads text only; a judge is a vision-language model")
    return vlm


def _trainer(
    vlm: VLM, wording: CheckWording, parts: RecordParts, data: JudgeArguments, training: Any, model: Any
) -> Any:
    import peft
    from trl import get_peft_config

    from evaluator.train.trainer import Collator, JudgeTrainer, Lessons

    learner = vlm.local.model
    _freeze(learner, data.frozen)
    try:
        lora = get_peft_config(model)
        if lora is not None:
            learner = peft.get_peft_model(learner, lora)
        return JudgeTrainer(
            vlm,
            data.reason_weight,
            model=learner,
            args=training,
            data_collator=Collator(vlm, wording, reasons=data.reasons),
            train_dataset=Lessons(parts.learn),
            eval_dataset=Lessons(parts.calibrate),
        )
    except (ValueError, ImportError) as error:
        raise ConfigError(f"the settings cannot be used: {error}") from error


def _freeze(model: Any, patterns: Sequence[str]) -> None:
    for pattern in patterns:
        try:
            matching = [parameter for name, parameter in model.named_parameters() if re.search(pattern, name)]
        except re.error as error:
            raise ConfigError(f"frozen: {pattern!r} is not a regular expression: {error}") from error
        if not matching:
            some = ", ".join(dict.fromkeys(".".join(name.split(".")[:2]) for name, _ in model.named_parameters()))
            raise ConfigError(f"frozen: {pattern!r} fits no parameter; there are {some}")
        for parameter in matching:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("frozen: nothing is left to be trained")


def _run(trainer: Any, start: object) -> None:
    import torch

    try:
        trainer.train(resume_from_checkpoint=str(start) if start else None)
    except torch.OutOfMemoryError as error:
        raise BackendError(
            "the device has too little memory; lower per_device_train_batch_size (and raise "
            "gradient_accumulation_steps), set gradient_checkpointing: true, or use_peft: true"
        ) from error


def _save(trainer: Any, vlm: VLM, out: Path) -> None:
    """Whole weights, as judges load them and servers serve them; an adapter beside them, too."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(model, "merge_and_unload"):
        model.save_pretrained(out / "adapter")
    save_whole(model, vlm.local.processor, out)


async def _answers(config: JudgeConfig, what: str, records: Sequence[Judgement]) -> list[RecordAnswer]:
    from evaluator.local_judge import TransformersJudge

    judge = open_judge(config)
    assert isinstance(judge, TransformersJudge)
    await judge.load()
    progress = _Progress(what, len(records))
    try:
        return await ask_judge(judge, records, at_once=config.model.local.micro_batch, on_progress=progress)
    finally:
        await judge.aclose()


class _Progress:
    """Says how far a measurement is, ten times."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._said = what, total, 0

    def __call__(self, done: int) -> None:
        if done * 10 // self._total > self._said:
            self._said = done * 10 // self._total
            console.print(f"measuring, {self._what}: {done:,} of {self._total:,}")


async def ask_judge(
    judge: Judge, records: Sequence[Judgement], *, at_once: int = 8, on_progress: Callable[[int], None] | None = None
) -> list[RecordAnswer]:
    """An answer for each record, in order. The judge's temperature must be 1: answers are calibrated afterwards.

    Records about one picture and request are asked together, so that the judge computes the picture once; `at_once`
    pictures run side by side. `on_progress` is called with the number of records answered so far.
    """
    together: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        together[record.picture.digest, record.request].append(index)
    groups = list(together.values())
    answers: dict[int, RecordAnswer] = {}
    for start in range(0, len(groups), at_once):
        chunk = groups[start : start + at_once]
        for indices, some in zip(chunk, await asyncio.gather(*(_one(judge, records, g) for g in chunk)), strict=True):
            answers.update(zip(indices, some, strict=True))
        if on_progress is not None:
            on_progress(len(answers))
    return [answers[index] for index in range(len(records))]


async def _one(judge: Judge, records: Sequence[Judgement], indices: Sequence[int]) -> list[RecordAnswer]:
    mine = [records[index] for index in indices]
    image = await asyncio.to_thread(mine[0].picture.open)
    verdicts = await judge(image, mine[0].request, [record.check for record in mine])
    return [
        RecordAnswer(
            key_point=one.check.key_point,
            picture=one.picture.digest,
            accept=one.accept,
            probability=verdict.probability if verdict.outcome is Outcome.SCORED else None,
            mass=verdict.label_mass,
        )
        for one, verdict in zip(mine, verdicts, strict=True)
    ]
