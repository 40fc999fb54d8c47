"""What the scripts of the rewriter's training share, beside `core.training`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from core.errors import ConfigError, RedraftError, printable
from core.records import Loaded
from core.training import last_checkpoint, read_settings

T = TypeVar("T")
console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
_NAMED = 10


def run(script: Callable[[Sequence[str]], None], argv: Sequence[str] | None) -> int:
    """The command line of a script; `argv` in place of the process's own arguments. Returns the exit code."""
    try:
        script(sys.argv[1:] if argv is None else argv)
    except RedraftError as error:
        console.print(printable(f"error: {error}"))
        return error.exit_code
    return 0


def recipes() -> dict[str, Path]:
    """Name to YAML file of the recipes that come with the package."""
    folder = Path(str(resources.files("rewriter.train"))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def settings_of(kinds: Sequence[Any], argv: Sequence[str], prog: str) -> tuple[Any, ...]:
    """`core.training.read_settings`, with `--config NAME` for a recipe of that name beside `--config FILE`."""
    args = list(argv)
    at = args.index("--config") + 1 if "--config" in args else len(args)
    if at < len(args) and not args[at].endswith((".yaml", ".yml")) and not Path(args[at]).exists():
        known = recipes()
        if args[at] not in known:
            raise ConfigError(f"there is no config file and no recipe {args[at]!r}; recipes: {', '.join(known)}")
        args[at] = str(known[args[at]])
    return read_settings(kinds, args, prog)


def told(name: str, loaded: Loaded[T]) -> Loaded[T]:
    """Says how many records there are, and names those that were left out."""
    console.print(f"{name}: {loaded}")
    for bad in loaded.bad[:_NAMED]:
        console.print(printable(f"  left out: {bad}"))
    if len(loaded.bad) > _NAMED:
        console.print(f"  left out: {len(loaded.bad) - _NAMED:,} more")
    return loaded


def set_model_kwargs(training: Any, model: Any) -> None:
    """How TRL is to load the model: TRL's ModelConfig put into the trainer's `model_init_kwargs`."""
    given = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        "use_safetensors": True,  # pickled weights could run code
    }
    training.model_init_kwargs = given | (training.model_init_kwargs or {})


def checkpoint_for(training: Any) -> Path | None:
    """Where to go on from: what the settings name, or the last whole checkpoint in output_dir."""
    start = training.resume_from_checkpoint
    # "true" and "false" are what the setting may hold, too: then output_dir decides, which it does anyway.
    named = Path(start) if isinstance(start, str) and start.lower() not in ("true", "false") else None
    return named or last_checkpoint(Path(training.output_dir))


def train_and_save(trainer: Any, start: Path | None) -> None:
    """Trains to the end and saves to output_dir; of an adapter also the whole model, to output_dir/merged, which is
    what a profile can name (not for quantised models, into which nothing can be merged without loss)."""
    if start is not None:
        console.print(f"going on from {start}")
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
    merged = folder / "merged"
    model.merge_and_unload().save_pretrained(merged)
    trainer.processing_class.save_pretrained(merged)
    console.print(f"saved {merged}, the adapter merged into its model")
