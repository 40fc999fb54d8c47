"""What training scripts share: YAML settings without unknown keys, models that are there, resuming after a kill."""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from rich.console import Console

from redraft.errors import ConfigError, ModelMissing, RedraftError, one_line, printable
from redraft.extras import mapping_missing
from redraft.files import PACKAGE, package_path
from redraft.profiles import model_place
from redraft.records import LoadedRecords
from redraft.secrets import scrub_output

T = TypeVar("T")
console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_NAMED = 10
"""How many bad records are named."""


def run(script: Callable[[Sequence[str]], None], argv: Sequence[str] | None) -> int:
    """The command line of a script; `argv` defaults to the process's arguments. Returns the exit code."""
    scrub_output()
    try:
        with mapping_missing():
            script(sys.argv[1:] if argv is None else argv)
    except RedraftError as error:
        console.print(printable(f"error: {error}"))
        return error.exit_code
    return 0


def check_choices(args: Any) -> None:
    """Checks every `Literal` field of a dataclass: argparse does so for the command line, but not for a YAML file.
    Raises ValueError."""
    for name, kind in get_type_hints(type(args)).items():
        value = getattr(args, name)
        if get_origin(kind) is Literal and value not in get_args(kind):
            raise ValueError(f"{name} is {value!r}, and may be {', '.join(map(str, get_args(kind)))}")


def setting(default: Any, help: str) -> Any:
    """A field of a dataclass of settings, with its help text."""
    return field(default=default, metadata={"help": help})


def recipes(package: str) -> dict[str, Path]:
    """Name to YAML file of the recipes that come with `package`."""
    folder = Path(str(resources.files(package))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def report_loaded(name: str, loaded: LoadedRecords[T]) -> LoadedRecords[T]:
    """Prints how many records there are, and names those that were left out. Returns `loaded`."""
    console.print(f"{name}: {loaded}")
    for bad in loaded.bad[:_NAMED]:
        console.print(printable(f"  left out: {bad}"))
    if len(loaded.bad) > _NAMED:
        console.print(f"  left out: {len(loaded.bad) - _NAMED:,} more")
    return loaded


def read_settings(
    kinds: Sequence[Any], argv: Sequence[str], prog: str, recipes: Mapping[str, Path] | None = None
) -> tuple[Any, ...]:
    """One instance of each dataclass in `kinds`, from `--config FILE` (YAML) and the options that override it.

    `recipes`: names that can stand for a file. A YAML file may give a single value where a setting is a list. Raises
    ConfigError for a file that cannot be read, for a key or option that does not exist, and for values that the
    dataclasses refuse.
    """
    from trl import TrlParser

    args = list(argv)
    if recipes is not None:
        _name_file(args, recipes)
    if "--config" in args:
        at = args.index("--config") + 1
        if at == len(args):
            raise ConfigError("--config must be followed by the name of a YAML file")
        _refuse_unknown(Path(args[at]), {f.name for kind in kinds for f in fields(kind) if f.init})
    try:
        settings = tuple(TrlParser(kinds, prog=prog).parse_args_and_config(args))
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigError(f"the settings cannot be used: {one_line(error)}") from error
    for part in settings:
        # TRL itself makes one text of a single lora_target_modules, which peft reads as a pattern.
        if not type(part).__module__.startswith(("trl.", "transformers.")):
            _wrap_single_values(part)
    return settings


def _wrap_single_values(settings: Any) -> None:
    """A list that YAML gives as one text would otherwise be read letter by letter."""
    for f in fields(settings):
        value = getattr(settings, f.name)
        if isinstance(value, str) and str(f.type).startswith("list["):
            setattr(settings, f.name, [value])


def find_model(model: str | None, revision: str | None = None) -> str:
    """The folder or hub id of a language model whose configuration can be read. Raises ConfigError, ModelMissing."""
    from transformers import AutoConfig

    if not model:
        raise ConfigError("model_name_or_path is missing; set it to a model folder or a hub id")
    place = model_place(model)
    try:
        AutoConfig.from_pretrained(place, revision=revision)
    except (OSError, ValueError) as error:
        raise missing_model(place, error) from error
    return place


def missing_model(place: str, error: Exception) -> ModelMissing:
    """The error for a model that could not be loaded: it says how to get it."""
    return ModelMissing(
        f"no model could be loaded from {place} ({one_line(error)}); download it (hf download {place}) on a machine with "
        f"a network, or set model_name_or_path to a folder with config.json, tokenizer and *.safetensors"
    )


def set_model_kwargs(settings: Any, model: Any) -> None:
    """Tells TRL how to load the model: TRL's ModelConfig is put into the trainer's `model_init_kwargs`."""
    kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        "use_safetensors": True,  # pickled weights could run code
    }
    settings.model_init_kwargs = kwargs | (settings.model_init_kwargs or {})


@contextmanager
def naming_mistakes(place: str) -> Iterator[None]:
    """Around the making of a trainer: raises ModelMissing if the model in `place` cannot be read, ConfigError for settings
    that do not go together."""
    try:
        yield
    except OSError as error:
        raise missing_model(place, error) from error
    except (ValueError, ImportError) as error:
        raise ConfigError(f"the settings cannot be used: {error}") from error


def train_and_save(trainer: Any, start: Path | None) -> None:
    """Trains to the end and saves to output_dir; for an adapter also the whole model, to output_dir/merged, which is
    what a profile can name (not for quantised models, into which nothing can be merged without loss)."""
    if start is not None:
        console.print(f"resuming from {start}")
    trainer.train(resume_from_checkpoint=None if start is None else str(start))
    folder = Path(trainer.args.output_dir)
    trainer.save_model(str(folder))
    console.print(f"saved {folder} after step {trainer.state.global_step}")
    model = trainer.accelerator.unwrap_model(trainer.model)
    if not hasattr(model, "merge_and_unload") or not trainer.is_world_process_zero():
        return
    if getattr(model, "is_quantized", False) or getattr(model.get_base_model(), "is_quantized", False):
        console.print(f"{folder} holds an adapter only: load it with peft onto the unquantised model to merge it")
        return
    save_whole(model, trainer.processing_class, folder / "merged")
    console.print(f"saved {folder / 'merged'}, the adapter merged into its model")


def save_whole(model: Any, processor: Any, folder: Path) -> None:
    """Whole weights, as profiles load them and servers serve them, with the tokenizer or processor; an adapter is merged into
    its model."""
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def checkpoint_for(training: Any) -> Path | None:
    """The checkpoint to resume from: the one that the settings name, or the last whole one in output_dir."""
    start = training.resume_from_checkpoint
    # The setting may also hold "true" or "false": then output_dir decides, as it does by default.
    named = Path(start) if isinstance(start, str) and start.lower() not in ("true", "false") else None
    return named or last_checkpoint(Path(training.output_dir))


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`. If a kill cut one short, its state, which is written last, is missing or
    incomplete."""
    numbered = sorted((int(match[1]), path) for path in folder.glob("*") if (match := _CHECKPOINT.fullmatch(path.name)))
    return next((path for _, path in reversed(numbered) if _is_json(path / "trainer_state.json")), None)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return True


def _name_file(args: list[str], recipes: Mapping[str, Path]) -> None:
    at = args.index("--config") + 1 if "--config" in args else len(args)
    if at < len(args) and args[at].startswith(PACKAGE):
        args[at] = str(package_path(args[at]))
    if at < len(args) and not args[at].endswith((".yaml", ".yml")) and not Path(args[at]).is_file():
        if args[at] not in recipes:
            raise ConfigError(f"there is no config file and no recipe {args[at]!r}; recipes: {', '.join(recipes)}")
        args[at] = str(recipes[args[at]])


def _refuse_unknown(path: Path, known: set[str]) -> None:
    import yaml

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the config {path} is not valid YAML: {one_line(error)}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"the config {path} must be a YAML mapping, one `setting: value` per line")
    unknown = [str(key) for key in settings if key != "env" and key not in known]
    if unknown:
        lines = [f"  {key}: no such setting{_suggest(key, known)}" for key in unknown]
        raise ConfigError(f"the config {path} has mistakes:\n" + "\n".join(lines))


def _suggest(key: str, known: set[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
