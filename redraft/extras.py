"""What a plain install leaves out, and the one sentence that says how to get it.

A plain install talks to servers (0.3 GB). Everything that is heavier belongs to an extra of pyproject.toml:

    require("local", "this profile runs a model in this process")   # before `import torch`

Importing this is cheap, and `require` imports nothing: it only looks whether the packages are there.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

from redraft.errors import MissingExtra, RedraftError

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "local": ("torch", "diffusers", "transformers", "accelerate", "tokenizers", "safetensors", "scipy"),
    "data": ("pyarrow", "datasets"),
    "vl": ("torchvision",),
    "ocr": ("rapidocr", "onnxruntime"),
    "lora": ("peft",),
    "small": ("gguf", "peft", "torch", "transformers", "tokenizers", "safetensors"),
    "quantize": ("torchao", "bitsandbytes"),
    "train": ("trl", "matplotlib", "gepa"),
    "video": ("av",),
    "serve": ("fastapi", "uvicorn", "mcp", "prometheus_client", "fsspec"),
    "postgres": ("psycopg", "psycopg_pool"),
    "vllm": ("vllm",),
    "ray": ("ray",),
    "browser": ("playwright", "axe_playwright_python"),
    "frontier": ("pymoo",),
}
"""Each extra's packages by the names they are imported under."""

ALONE = ("vllm", "ray")
"""Extras that pin other versions of the same packages, so that each needs a separate virtual environment."""


def require(extra: str, why: str, *packages: str) -> None:
    """Raises MissingExtra if `packages` (all those of `extra` if none are named) are not installed.

    `why` begins the sentence that the user reads: "reading Parquet files".
    """
    if not all(_is_installed(package) for package in packages or EXTRAS[extra]):
        raise MissingExtra(_sentence(extra, why))


@contextmanager
def mapping_missing() -> Iterator[None]:
    """Turns an import that fails for want of an extra's package into MissingExtra: the net under `require`."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        for extra, packages in EXTRAS.items():
            if package in packages:
                raise MissingExtra(_sentence(extra, f"this uses the package {package}")) from error
        raise


def explain_when_run() -> None:
    """For the `__init__` of a package whose scripts import an extra's packages at their top.

    If `python -m` is about to run such a script, and packages are missing, the script ends with the sentence about the
    extra and exit code 2 in place of a traceback. Otherwise this does nothing.
    """
    if sys.argv[:1] != ["-m"]:  # what it is while runpy imports the packages around the script
        return
    fall_back = sys.excepthook

    def explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        try:
            with mapping_missing():
                raise error
        except RedraftError as mapped:
            sys.stderr.write(f"error: {mapped}\n")
            sys.stderr.flush()
            os._exit(mapped.exit_code)  # an excepthook cannot set the exit code otherwise
        except BaseException:  # noqa: BLE001 - shown as it would have been
            fall_back(kind, error, trace)

    sys.excepthook = explain


def _sentence(extra: str, why: str) -> str:
    where = ", in a separate environment" if extra in ALONE else ""
    return f"{why}, which needs the extra {extra}: pip install -e '.[{extra}]'{where}"


def _is_installed(package: str) -> bool:
    if package in sys.modules:
        return sys.modules[package] is not None
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None  # a folder that happens to have the name has no origin
