"""`redraft init`: looks for servers, keys, a GPU and fetched weights on this machine, and writes a profile of what there is.

Nothing is guessed in silence: each line of the profile says why it is there, what else was found stands beside it in a
comment, and what was looked for without success is said. Only addresses of this machine are asked.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from agent.terminal import escape, open_console
from redraft.errors import InputError, RedraftError
from redraft.files import write_atomically
from redraft.profiles import ServerConfig, load_profile
from redraft.servers import list_models

PORTS: Mapping[str, int] = {
    "Ollama": 11434,
    "LM Studio": 1234,
    "vLLM or another server": 8000,
    "vLLM, second": 8001,
    "SGLang": 30000,
    "llama.cpp": 8080,
    "vLLM-Omni": 8091,
}
"""OpenAI-compatible servers, by the ports that they take if nobody says otherwise."""
KEYS = ("OPENAI_API_KEY", "OPENROUTER_API_KEY", "TOGETHER_API_KEY", "DASHSCOPE_API_KEY", "GEMINI_API_KEY")
_LOOK_S = 1.5
_SEES = re.compile(r"vl\b|-vl|vision|llava|pixtral|internvl|minicpm-v|gemma-?3|moondream|gpt-4", re.IGNORECASE)
_DRAWS = re.compile(r"flux|sdxl|sd3|stable-diffusion|z-image|qwen-image|gpt-image|dall-e|hunyuan-?image", re.IGNORECASE)
_OTHER = re.compile(r"embed|rerank|whisper|tts|bge-|moderation", re.IGNORECASE)
_USABLE = re.compile(r"[\x21-\x7e]{1,200}")
"""Names of models that are written into a profile."""


@dataclass(frozen=True)
class ServedModel:
    """A model on a server of this machine."""

    server: str
    base_url: str
    model: str


@dataclass(frozen=True)
class Machine:
    """What was found. `gpu_gb` is None without a GPU (or without the package that would know)."""

    models: tuple[ServedModel, ...] = ()
    keys: tuple[str, ...] = ()
    gpu: str = ""
    gpu_gb: float | None = None
    small_is_ready: bool = False
    looked_at: tuple[str, ...] = field(default=())

    def of_kind(self, kind: str) -> list[ServedModel]:
        """The models that read text, see pictures or draw, as far as their names say so."""
        return [one for one in self.models if _kind(one.model) == kind]


def init(out: Path, *, force: bool) -> None:
    """`redraft init`. Raises InputError if `out` exists and `force` is not set, or cannot be written."""
    if out.suffix != ".toml":
        raise InputError(f"{out}: a profile's name ends in .toml")
    if out.exists() and not force:
        raise InputError(f"{out} is there already; name another file, or write over it with --force")
    console = open_console(sys.stderr)
    with console.status("looking for servers on this machine"):
        machine = look_around()
    text, said = write_profile(machine)
    try:
        with tempfile.TemporaryDirectory() as folder:  # it must be one that can be read
            draft = Path(folder) / out.name
            draft.write_text(text, encoding="utf-8")
            load_profile(str(draft))
        write_atomically(out, text.encode())
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from error
    for line in said:
        console.print(escape(line), soft_wrap=True, emoji=False)
    console.print(f"next: redraft doctor {escape(shlex.quote(str(out)))}", soft_wrap=True)
    sys.stdout.write(f"{out}\n")


def look_around(ports: Mapping[str, int] = PORTS, environment: Mapping[str, str] = os.environ) -> Machine:
    """Asks the usual ports of this machine which models they serve, all at once, and looks at keys, GPU and weights."""

    def ask(named: tuple[str, int]) -> list[ServedModel]:
        name, port = named
        server = ServerConfig(base_url=f"http://127.0.0.1:{port}/v1", timeout_s=_LOOK_S, max_retries=0)
        try:
            listed = list_models(server)
        except RedraftError:
            return []
        usable = [model for model in listed if _USABLE.fullmatch(model)]
        return [ServedModel(name, server.base_url, model) for model in usable if not _OTHER.search(model)]

    with ThreadPoolExecutor(max(1, len(ports))) as pool:
        models = [one for found in pool.map(ask, ports.items()) for one in found]
    gpu, size = _gpu()
    return Machine(
        models=tuple(models),
        keys=tuple(key for key in KEYS if environment.get(key, "").strip()),
        gpu=gpu,
        gpu_gb=size,
        small_is_ready=load_profile("small").rewriter.model.is_ready(),
        looked_at=tuple(f"{name} (port {port})" for name, port in ports.items()),
    )


def write_profile(machine: Machine) -> tuple[str, list[str]]:
    """The profile's text, and what was decided, a sentence each."""
    said: list[str] = []
    parts = ["# Written by `redraft init`. Each part says why it is there; examine it with: redraft doctor THIS-FILE\n"]
    servers = ", ".join(dict.fromkeys(f"{one.server} at {one.base_url}" for one in machine.models)) or "none"
    parts.append(f"# Servers on this machine: {servers}.\n# Looked for: {', '.join(machine.looked_at)}.\n")
    gpu = "none" if machine.gpu_gb is None else f"{machine.gpu}, {machine.gpu_gb:.0f} GB"
    keys = ", ".join(machine.keys) or "none"
    parts.append(f"# GPU: {gpu}. Keys in the environment (names only): {keys}.\n")
    said.append(f"servers: {servers}; GPU: {gpu}; keys: {keys}")
    parts.append(_rewriter(machine, said))
    parts.append(_judge(machine, said))
    parts.append(_generator(machine, said))
    return "\n".join(parts), said


def _rewriter(machine: Machine, said: list[str]) -> str:
    texts, seeing = machine.of_kind("text"), machine.of_kind("sees")
    best = next(iter([*texts, *seeing]), None)
    if best is None:
        how = "it is here" if machine.small_is_ready else "fetch it once: redraft get small"
        said.append(f"rewriter: the profile small's, in this process ({how})")
        own = load_profile("small").rewriter
        return (
            f"# No server has a language model, so the small one rewrites in this process ({how}).\n"
            f'[rewriter]\nstyle = "{own.style}"\nmax_tokens = {own.max_tokens}\n\n[rewriter.model]\nkind = "transformers"\n'
            f'model = "{own.model.model}"\nadapter = "{own.model.adapter}"\n'
            f"local = {{ micro_batch = {own.model.local.micro_batch} }}\n"
        )
    said.append(f"rewriter: {best.model} on {best.server}, the first model that reads text")
    return (
        f"# {best.server} serves it, and it is the first that reads text.{_others([*texts, *seeing], best)}\n"
        f"# If it thinks by itself first: template_args = {{ enable_thinking = false }}\n"
        f'[rewriter]\nstyle = "promptenhancer"\n\n[rewriter.model]\n{_model(best)}'
    )


def _judge(machine: Machine, said: list[str]) -> str:
    seeing = machine.of_kind("sees")
    if seeing:
        said.append(f"judge: {seeing[0].model} on {seeing[0].server}, whose name says that it sees pictures")
        return (
            f"# Its name says that it sees pictures; doctor asks it.{_others(seeing, seeing[0])}\n"
            f'[judge]\nstyle = "keypoint"\n\n[judge.model]\n{_model(seeing[0])}'
        )
    said.append("judge: none found; without one the profile rewrites, and does not draw")
    return (
        "# No server has a model whose name says that it sees pictures. To draw, serve one (scripts/serve_judge.sh), and:\n"
        '# [judge]\n# style = "keypoint"\n# [judge.model]\n# kind = "openai"\n# model = "Qwen/Qwen3-VL-8B-Instruct"\n'
        '# server = { base_url = "http://127.0.0.1:8001/v1" }\n'
    )


_ENOUGH_GB, _WHOLE_GB = 12, 40
"""The smallest GPU for Z-Image-Turbo in 4 bits (10 GB), and in bfloat16 (24 GB) beside language models."""


def _generator(machine: Machine, said: list[str]) -> str:
    drawing = machine.of_kind("draws")
    if drawing:
        best = drawing[0]
        said.append(f"generator: {best.model} on {best.server}, whose name says that it draws")
        return (
            f"# Its name says that it draws.{_others(drawing, best)}\n[generator]\n"
            f'kind = "openai_images"\nmodel = {json.dumps(best.model)}\nwidth = 1024\nheight = 1024\n'
            f'server = {{ base_url = "{best.base_url}", timeout_s = 300 }}\n'
        )
    gpu_does = machine.gpu_gb is not None and machine.gpu_gb >= _ENOUGH_GB
    lines = [
        "[generator]",
        'kind = "diffusers"',
        'model = "Tongyi-MAI/Z-Image-Turbo"',
        "steps = 8",
        "guidance = 0.0",
        "width = 1024",
        "height = 1024",
        'device = "cuda"',
        'dtype = "bfloat16"',
    ]
    if machine.gpu_gb is None or machine.gpu_gb < _WHOLE_GB:
        lines.append('quantization = "nf4"')
    if gpu_does:
        said.append(
            f"generator: Z-Image-Turbo in this process{' in 4 bits' if 'nf4' in lines[-1] else ''}, since the GPU has "
            f"{machine.gpu_gb:.0f} GB (24 are needed, in 4 bits 10; language models come on top)"
        )
        sums = "gpu24" if "nf4" in lines[-1] else "workstation"
        why = f"# The GPU is large enough for it by the sums of the profile {sums}, which says what fits beside it.\n"
        return why + "\n".join(lines) + "\n"
    lack = "there is no GPU that is known of" if machine.gpu_gb is None else f"the GPU has {machine.gpu_gb:.0f} GB"
    said.append(f"generator: none, as no server draws and {lack}; it stands in the profile as a comment")
    why = f"# No server draws, and {lack}. With a GPU of {_ENOUGH_GB} GB or more:\n"
    return why + "\n".join(f"# {line}" for line in lines) + "\n"


def _model(one: ServedModel) -> str:
    return f'kind = "openai"\nmodel = {json.dumps(one.model)}\nserver = {{ base_url = "{one.base_url}" }}\n'


_SHOWN = 6


def _others(found: Sequence[ServedModel], taken: ServedModel) -> str:
    others = [f"{one.model} ({one.base_url})" for one in found if one is not taken]
    more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    return f" Others: {', '.join(others[:_SHOWN])}{more}." if others else ""


def _kind(model: str) -> str:
    if _DRAWS.search(model):
        return "draws"
    return "sees" if _SEES.search(model) else "text"


def _gpu() -> tuple[str, float | None]:
    try:
        import torch
    except ModuleNotFoundError:
        return "", None
    if not torch.cuda.is_available():
        return "", None
    about = torch.cuda.get_device_properties(0)
    return about.name, about.total_memory / 1e9
