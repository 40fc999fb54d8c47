"""`redraft doctor PROFILE`: what is right with a profile on this machine, and what has to be mended before it works.

Each line is one thing that was looked at, from the cheap ones (settings, packages, keys, weights, memory) to those that ask
(servers and the names that they serve, replies, probabilities, pictures) and a tiny draw from end to end. What depends on
something that failed is not tried. Keys are looked for and never shown.
"""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import typer
from PIL import Image

from agent.terminal import escape, open_console, stdout_for_results, write_json
from redraft.chat import ChatModel, ChatRequest, Message, open_chat
from redraft.errors import BadReply, ConfigError, ModelMissing, RedraftError, ServerError, printable
from redraft.extras import require
from redraft.gpu import find_gpu_gb, require_memory
from redraft.limits import Limits
from redraft.profiles import (
    BackendConfig,
    ModelConfig,
    Profile,
    ServerConfig,
    load_part,
    load_profile,
    model_place,
    needs_vision,
)
from redraft.servers import RefusedError, list_models
from rewriter.cot import infer_target
from rewriter.styles import load_style
from rewriter.target import load_target

State = Literal["ok", "bad", "note"]


@dataclass(frozen=True)
class Diagnosis:
    """One thing that was looked at. `code` is the exit code that it asks for: 0, 2 (the user can mend it), 3 (a model or
    server failed). The `detail` of a bad one ends in the mend."""

    state: State
    what: str
    detail: str
    code: int = 0


@dataclass(frozen=True)
class Role:
    """A part of a profile that a model plays."""

    name: str
    model: ModelConfig | None = None
    backend: BackendConfig | None = None
    sees: bool = False
    """Whether it is shown pictures and asked for probabilities."""

    @property
    def place(self) -> str:
        config = self.model or self.backend
        assert config is not None
        return config.model

    @property
    def weights(self) -> object:
        """What is loaded; equal for roles that share it."""
        config = self.model or self.backend
        assert config is not None
        return config.weights

    @property
    def server(self) -> ServerConfig | None:
        config = self.model or self.backend
        assert config is not None
        return config.server

    @property
    def is_local(self) -> bool:
        return self.server is None


def roles_of(profile: Profile) -> list[Role]:
    """The roles of a profile, each with its model."""
    roles = [Role("rewriter", profile.rewriter.model)]
    if profile.checklist.model is not None:
        roles.append(Role("checklist", profile.checklist.model))
    if profile.generator is not None:
        roles.append(Role("generator", backend=profile.generator))
    roles += [Role(f"gallery {backend.name}", backend=backend) for backend in profile.gallery]
    if profile.editor is not None:
        roles.append(Role("editor", backend=profile.editor))
    if profile.judge is not None:
        roles.append(Role("judge", profile.judge.model, sees=True))
    return roles


def doctor(profile_name: str, *, draws: bool | None, as_json: bool) -> None:
    """`redraft doctor`. Raises ConfigError if the profile cannot be read, typer.Exit with 2 or 3 if something has to be
    mended. `draws` None: the last, tiny draw is made unless a server on another machine might charge for it."""
    profile = load_profile(profile_name)
    with stdout_for_results() as stdout:
        console = open_console(stdout)
        found: list[Diagnosis] = []
        for diagnosis in examine(profile, draws=draws):
            found.append(diagnosis)
            if not as_json:
                colour = {"ok": "green", "bad": "red", "note": "yellow"}[diagnosis.state]
                line = printable(f"{diagnosis.what:<12} {diagnosis.detail}")
                console.print(f"[{colour}]{diagnosis.state:<4}[/] {escape(line)}", soft_wrap=True, emoji=False)
        code = next((code for code in (2, 3) if any(one.code == code for one in found)), 0)
        if as_json:
            rows = [asdict(one) for one in found]
            write_json({"profile": profile.name, "ok": code == 0, "findings": rows}, stdout)
        elif code == 0:
            console.print(f"{escape(profile.name)} can {', '.join(profile.abilities())}", soft_wrap=True)
    if code:
        raise typer.Exit(code)


def examine(profile: Profile, *, draws: bool | None = None) -> Iterator[Diagnosis]:
    """Looks at everything, one after the other. Raises nothing of redraft's own."""
    roles = roles_of(profile)
    well = True
    for look in (look_at_settings, look_at_packages, look_at_keys, look_at_weights, look_at_memory, look_at_servers):
        for diagnosis in look(profile, roles):
            well = well and diagnosis.state != "bad"
            yield diagnosis
    if not well:
        yield Diagnosis("note", "models", "not asked, and nothing drawn: mend the above first")
        return
    # Those of this process load, and answer, in the draw.
    asked = roles if draws is False else [role for role in roles if not role.is_local]
    for diagnosis in asyncio.run(_ask_models(asked)):
        well = well and diagnosis.state != "bad"
        yield diagnosis
    if well:
        yield _try_out(profile, roles, draws)


def look_at_settings(profile: Profile, roles: Sequence[Role]) -> Iterator[Diagnosis]:
    """Styles, target, and classes that the profile names by dotted path."""

    def check() -> str:
        style = load_style(profile.rewriter.style)
        target = infer_target(profile.rewriter, profile.generator) or load_target(profile.rewriter.target or "generic")
        parts = (profile.scope, profile.planner, profile.turn_reader, profile.edit_checks, profile.answerer)
        for part in parts:
            if part is not None:
                load_part(part)
        kind = "" if style.settings.keep.model_fields_set == set() else ", keeps what it was not made for"
        return f"can {', '.join(profile.abilities())}; style {profile.rewriter.style}{kind}; target {target.name}"

    yield _diagnose("profile", check)


def look_at_packages(profile: Profile, roles: Sequence[Role]) -> Iterator[Diagnosis]:
    """What has to be installed for models of this process."""
    needed: list[tuple[str, str]] = []
    for role in roles:
        if role.is_local:
            needed.append(("local", f"the {role.name} is a model of this process"))
        if role.model is not None and role.model.adapter is not None:
            needed.append(("lora", f"the {role.name} has an adapter"))
        if role.is_local and role.backend is not None and role.backend.loras:
            needed.append(("lora", f"the {role.name} has LoRAs"))
        if role.backend is not None and role.backend.quantization != "none":
            needed.append(("quantize", f"the {role.name} is quantised"))
        if role.is_local and needs_vision(role.place):
            needed.append(("vl", f"{role.place} reads pictures with torchvision"))
    for extra, why in dict(needed).items():

        def check(extra: str = extra, why: str = why) -> str:
            require(extra, why)
            return f"extra {extra} is installed ({why})"

        yield _diagnose("packages", check)


def look_at_keys(profile: Profile, roles: Sequence[Role]) -> Iterator[Diagnosis]:
    """The environment variables that hold keys."""
    servers = {role.server.api_key_env: role.server for role in roles if role.server and role.server.api_key_env}
    for variable, server in servers.items():

        def check(variable: str | None = variable, server: ServerConfig = server) -> str:
            server.api_key()
            return f"{variable} is set"

        yield _diagnose("key", check)


def look_at_weights(profile: Profile, roles: Sequence[Role]) -> Iterator[Diagnosis]:
    """Whether weights of this process are here, and how large they are."""
    for role in roles:
        if not role.is_local:
            continue

        def check(role: Role = role) -> str:
            if role.model is not None:
                role.model.check_places()
            size = weight_bytes(role.place)
            if size is None:
                raise _NotHere(
                    f"{role.place} is not on this machine; it is fetched from Hugging Face's hub at first use "
                    f"({_room()}), or now: hf download {role.place}"
                )
            return f"{role.place}, {size / 1e9:.2f} GB"

        yield _diagnose(role.name, check)


class _NotHere(RedraftError):  # noqa: N818
    """Weights that will be fetched when they are first used: worth a note, not a fault."""


def _room() -> str:
    free = shutil.disk_usage(Path.home()).free
    return f"{free / 1e9:.0f} GB are free on the disk"


def weight_bytes(model: str) -> int | None:
    """Bytes of a model's safetensors on this machine; None if it is a hub id that is not in Hugging Face's cache.

    Raises ModelMissing if there is no such folder.
    """
    place = Path(model_place(model))
    if not place.exists():
        try:
            from huggingface_hub import try_to_load_from_cache
        except ModuleNotFoundError:
            return None
        for part in ("model_index.json", "config.json"):
            cached = try_to_load_from_cache(model, part)
            if isinstance(cached, str):
                place = Path(cached).parent
                break
        else:
            return None
    files = [place] if place.is_file() else list(place.rglob("*.safetensors"))
    if not files:
        raise ModelMissing(
            f"there are no *.safetensors in {place}; the weights were not downloaded whole: fetch them again"
        )
    return sum(file.stat().st_size for file in files)


_WORKING = 1.3
"""Memory of a model while it works, as a multiple of its weights: a rule of thumb."""


def look_at_memory(profile: Profile, roles: Sequence[Role]) -> Iterator[Diagnosis]:
    """The sum of what the models of this process take, against what there is. A sum of file sizes, not a measurement. Before
    it, if the profile has a [gpu], the sum of what is on that."""
    try:
        plan = require_memory(profile, find_gpu_gb())
        if plan is not None:
            yield Diagnosis("ok", "gpu", str(plan))
    except ConfigError as error:
        yield _bad("gpu", error)
    sizes = _weigh(roles)
    if not sizes:
        return
    if profile.search.one_at_a_time:
        _let_go(sizes)
    terms = " + ".join(f"{role} {size:.2f}" for role, size in sizes.items())
    total = _WORKING * sum(sizes.values())
    device, have = _memory(roles)
    text = f"({terms}) x {_WORKING} for work = {total:.1f} GB; {device} has {have:.1f} GB"
    if total > have:
        yield Diagnosis(
            "bad", "memory", f'{text}: take smaller models, offload = "model", quantization, or a server', 2
        )
    else:
        yield Diagnosis("ok", "memory", text)


def _weigh(roles: Sequence[Role]) -> dict[str, float]:
    """GB in memory of the models of this process that are on this machine, by role; a model of several roles once."""
    sizes: dict[str, float] = {}
    weighed: set[object] = set()
    for role in roles:
        with suppress(RedraftError):
            if role.is_local and role.weights not in weighed and (size := weight_bytes(role.place)):
                sizes[role.name] = size * _growth(role) / 1e9
                weighed.add(role.weights)
    return sizes


def _let_go(sizes: dict[str, float]) -> None:
    """Leaves only the largest of the generators."""
    generators = sorted((name for name in sizes if name.split()[0] in ("generator", "gallery")), key=sizes.__getitem__)
    for name in generators[:-1]:
        del sizes[name]


def require_room_for_gallery(profile: Profile) -> None:
    """Raises ConfigError if the weights of a gallery's generators are larger than the memory that they are to share, so
    that the second one to draw would fail in the middle of a run."""
    if profile.generator is None or profile.search.one_at_a_time:
        return
    backends = {"generator": profile.generator, **{f"gallery {each.name}": each for each in profile.gallery}}
    roles = [Role(name, backend=each) for name, each in backends.items() if each.offload == "none"]
    for device in {role.backend.device for role in roles if role.backend}:
        sizes = _weigh([role for role in roles if role.backend and role.backend.device == device])
        where, have = _memory([role for role in roles if role.backend and role.backend.device == device])
        if len(sizes) > 1 and sum(sizes.values()) > have:
            terms = " + ".join(f"{name} {size:.1f}" for name, size in sizes.items())
            raise ConfigError(
                f"the gallery does not fit: {terms} GB, and {where} has {have:.1f} GB; set search.one_at_a_time = true, or "
                'offload = "model" for some of them'
            )


def _growth(role: Role) -> float:
    """How much larger weights are in memory than in their file: twice on a CPU, where half precisions become float32; less
    if they are quantised."""
    if role.backend is not None and role.backend.quantization != "none":
        return {"int8": 0.5, "int4": 0.3, "nf4": 0.3}[role.backend.quantization]
    config = role.model.local if role.model is not None else role.backend
    assert config is not None
    on_cpu = config.device == "cpu" or (config.device == "auto" and not _has_gpu())
    wide = config.dtype == "float32" or (config.dtype == "auto" and on_cpu)
    return 2.0 if wide and _is_half(role.place) else 1.0


def _is_half(model: str) -> bool:
    """Whether the weights are in half precision, by the first tensor of the first file."""
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError:
        return True
    try:
        place = Path(model_place(model))
        file = place if place.is_file() else next(iter(sorted(place.rglob("*.safetensors"))))
        with safe_open(file, "np") as opened:
            return str(opened.get_slice(next(iter(opened.keys()))).get_dtype()) in ("F16", "BF16")
    except (OSError, StopIteration, RedraftError, SafetensorError):
        return True


def _has_gpu() -> bool:
    try:
        import torch
    except ModuleNotFoundError:
        return False
    return bool(torch.cuda.is_available() or torch.backends.mps.is_available())


def _memory(roles: Sequence[Role]) -> tuple[str, float]:
    """What the models run on, and its memory in GB: the largest GPU if there is one, else this machine's."""
    devices = {(role.model.local if role.model else role.backend).device for role in roles if role.is_local}  # type: ignore[union-attr]
    if devices != {"cpu"} and _has_gpu():
        import torch

        if torch.cuda.is_available():
            count = torch.cuda.device_count()
            best = max((torch.cuda.get_device_properties(at) for at in range(count)), key=lambda one: one.total_memory)
            return f"the GPU ({best.name})", best.total_memory / 1e9
    try:
        return "this machine", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, ValueError, OSError):  # Windows
        return "this machine", float("inf")


def look_at_servers(profile: Profile, roles: Sequence[Role]) -> Iterator[Diagnosis]:
    """Whether servers answer, and serve a model of the name that the profile has."""
    asked: dict[tuple[str, str | None], tuple[str, ...] | RedraftError] = {}
    for role in roles:
        for server in role.server.each() if role.server is not None else ():
            address = (server.base_url, server.api_key_env)
            if address not in asked:
                try:
                    asked[address] = list_models(server)
                except RedraftError as error:
                    asked[address] = error
            answer = asked[address]
            if isinstance(answer, ConfigError):  # of its key, which was said
                continue
            if isinstance(answer, RefusedError) and answer.status == 404 and role.backend is not None:
                yield Diagnosis("note", role.name, f"{server.base_url} answers, and lists no models")
                continue

            def check(
                role: Role = role, at: str = server.base_url, answer: tuple[str, ...] | RedraftError = answer
            ) -> str:
                if isinstance(answer, RedraftError):
                    raise answer
                if role.place not in answer:
                    names = ", ".join(answer[:8]) + (" …" if len(answer) > 8 else "") or "no model"
                    raise ServerError(f"{at} does not serve {role.place!r}; it serves {names}: name one of these")
                return f"{at} serves {role.place}"

            yield _diagnose(role.name, check)


async def _ask_models(roles: Sequence[Role]) -> list[Diagnosis]:
    """A short question to each chat model: a text, and of a judge the probabilities of yes and no about a picture."""
    found = []
    done: dict[str, set[bool]] = {}
    for role in roles:
        if role.model is None:
            continue
        asked = done.setdefault(role.model.model_dump_json(), set())
        if role.sees in asked:
            continue
        asked.add(role.sees)
        try:
            chat = open_chat(role.model)
            try:
                found.append(await (_ask_judge(role, chat) if role.sees else _ask_text(role, chat)))
            finally:
                await chat.aclose()
        except RedraftError as error:
            found.append(_bad(role.name, error))
    return found


_SHORT = 256


async def _ask_text(role: Role, chat: ChatModel) -> Diagnosis:
    assert role.model is not None
    question = (Message("user", "Describe a red circle in one short sentence."),)
    if role.is_local:
        await chat(ChatRequest(question, max_tokens=4))
        return Diagnosis("ok", role.name, "loads and answers")
    try:
        reply = await chat(ChatRequest(question, max_tokens=_SHORT))
    except BadReply as error:
        if "max_tokens" not in str(error) and "reason" not in str(error):
            raise
        return Diagnosis("bad", role.name, f"spends {_SHORT} tokens on thoughts and answers nothing; {_THINKS}", 2)
    if reply.reasoning or "<think>" in reply.text:
        return Diagnosis("note", role.name, f"answers, but thinks by itself first, which costs time; {_THINKS}")
    return Diagnosis("ok", role.name, f"answers: {' '.join(reply.text.split())[:60]}")


_THINKS = (
    "switch its thinking off: template_args = { enable_thinking = false } in the profile's model (Qwen3 and the like)"
)


async def _ask_judge(role: Role, chat: ChatModel) -> Diagnosis:
    picture = Image.new("RGB", (64, 64), "red")
    question = (Message("user", (picture, "Is this picture red? Answer yes or no.")),)
    if role.is_local:
        # Models of one task alone know no such question: that they load, and take the picture, is what is asked.
        reply = await chat(ChatRequest(question, choices=("yes", "no")))
        return Diagnosis("ok", role.name, "loads, takes a picture, and gives probabilities")
    reply = await chat(ChatRequest(question, choices=("yes", "no")))
    mass = sum(math.exp(value) for value in reply.logprobs.values())
    if mass < 0.5:
        return Diagnosis(
            "bad",
            role.name,
            f"gives only {mass:.2f} of its probability to yes and no together: it thinks first ({_THINKS}), or reads no "
            "pictures; take a vision-language model",
            2,
        )
    return Diagnosis("ok", role.name, f"takes a picture, and gives {mass:.2f} of its probability to yes and no")


def _try_out(profile: Profile, roles: Sequence[Role], draws: bool | None) -> Diagnosis:
    """One rewrite and one picture, judged, in a folder that is thrown away; only a rewrite if that is all there is."""
    afar = [role.server for role in roles if role.server is not None and not all(map(_is_near, role.server.addresses))]
    if draws is False or (draws is None and afar):
        why = "servers elsewhere may charge for it" if afar and draws is None else "--no-draw"
        return Diagnosis("note", "draw", f"not tried ({why}); try it with --draw")

    def check() -> str:
        if "draw" not in profile.abilities():
            from rewriter.api import enhance

            made = enhance("a red circle on a table", profile=profile)
            return f"a rewrite from end to end: {made.status}, {len(made.prompt.split())} words"
        from agent.api import draw

        with tempfile.TemporaryDirectory(prefix="redraft-doctor-") as folder:
            limits = Limits(max_rounds=1, max_images=1, rewrites=1, images_per_round=1)
            result = draw("a red circle", profile=profile, out=folder, seed=7, limits=limits)
            best = result.best_attempt
            score = "no score" if best is None or best.score is None else f"score {best.score:.2f}"
            return f"a picture from end to end: {result.stop.value}, {score}"

    return _diagnose("draw", check)


def _is_near(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _diagnose(what: str, check: Callable[[], str]) -> Diagnosis:
    try:
        return Diagnosis("ok", what, check())
    except _NotHere as note:
        return Diagnosis("note", what, str(note))
    except RedraftError as error:
        return _bad(what, error)


def _bad(what: str, error: RedraftError) -> Diagnosis:
    # Weights that are not in their place are for the user to mend, as packages are.
    return Diagnosis("bad", what, str(error), 2 if isinstance(error, ModelMissing) else error.exit_code)
