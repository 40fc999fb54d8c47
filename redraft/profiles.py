"""Profiles: which models, servers and limits a run uses. A profile is a TOML file; a few come with the package.

Models are written as a folder, a hub id, or `package:NAME/SUBFOLDER` for what ships inside an installed package. Folders
and files are relative to the profile's own folder.
API keys are never in a profile: it names the environment variable that holds them.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib import import_module, resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from redraft.errors import ConfigError, InputError, ModelMissing, UsageError
from redraft.extras import require
from redraft.files import PACKAGE, package_path
from redraft.limits import Limits
from redraft.options import DrawOptions
from redraft.secrets import SHORTEST, is_stand_in, remember, scrub
from redraft.trust import Demand, is_own, require_trust
from redraft.weights import require_weights

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LIKE_A_KEY = re.compile(r"(?:sk|pk|rk|hf|gsk|xai|nvapi|key|api|r8|ghp)_(?=\w*\d)\w{16,}")
"""Keys that could be names of variables, such as hf_... and sk_live_..."""
Text = Annotated[str, Field(min_length=1)]


def _from_profile(value: str, info: ValidationInfo) -> str:
    """A path beside the profile, made absolute: a run's folder keeps it, and is resumed from anywhere."""
    folder = (info.context or {}).get("folder")
    served = str(info.data.get("kind", "")).startswith("openai")  # the name of a model that a server has
    if folder is None or served or value.startswith((PACKAGE, "~")) or Path(value).is_absolute():
        return value
    beside = Path(folder) / value
    is_path = value.startswith(".") or value.count("/") > 1 or value.endswith((".toml", ".txt"))
    return os.path.abspath(beside) if is_path or ("/" in value and beside.exists()) else value


Place = Annotated[Text, AfterValidator(_from_profile)]
"""A name, or a path, which is relative to the profile's folder if it begins with "." (or can be nothing but a path)."""
DType = Literal["auto", "float32", "bfloat16", "float16"]


class _Section(BaseModel):
    # Infinity and NaN have no JSON, which run.json is written in.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def demands(self) -> Iterator[Demand]:
        """What this section, and those below it, would do that must be granted (`redraft.trust`)."""
        for _, value in self:
            for section in value if isinstance(value, tuple) else (value,):
                if isinstance(section, _Section):
                    yield from section.demands()


class ServerConfig(_Section):
    """An OpenAI-compatible server, or several that serve the same model by the same engine."""

    base_url: str
    base_urls: tuple[str, ...] = ()
    """Instead of `base_url`: several servers. Each call goes to the least busy one; one that fails is set aside. `concurrency`
    is of each."""
    api_key_env: str | None = None
    timeout_s: float = Field(default=120.0, gt=0)
    max_retries: int = Field(default=4, ge=0, le=20)
    concurrency: int = Field(default=8, ge=1)

    @field_validator("api_key_env")
    @classmethod
    def _check_name(cls, value: str | None) -> str | None:
        if value is not None and (not _VARIABLE.fullmatch(value) or _LIKE_A_KEY.match(value)):
            raise ValueError("must be the NAME of an environment variable that holds the key, never the key itself")
        return value

    @model_validator(mode="before")
    @classmethod
    def _take_first(cls, data: Any) -> Any:
        """`base_url` is the first of several; errors and lists of models are about it."""
        several = data.get("base_urls") if isinstance(data, dict) else None
        if not isinstance(several, list | tuple) or not several:
            return data
        if data.get("base_url", several[0]) != several[0]:
            raise ValueError("base_url and base_urls are both given; put all addresses into base_urls")
        return {**data, "base_url": several[0]}

    @field_validator("base_urls")
    @classmethod
    def _check_addresses(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            cls._check_address(value)
        if len({value.rstrip("/") for value in values}) < len(values):
            raise ValueError("one address is there twice")
        if len({urlsplit(value).path.rstrip("/") for value in values}) > 1:
            raise ValueError("differ in their paths; servers of one model are called alike (all end in /v1, say)")
        return values

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of all servers."""
        return self.base_urls or (self.base_url,)

    @property
    def slots(self) -> int:
        """Calls that all servers take at once."""
        return self.concurrency * len(self.addresses)

    def each(self) -> list[ServerConfig]:
        """A server alone for each address."""
        alone = self.model_copy(update={"base_urls": ()})
        return [alone.model_copy(update={"base_url": address}) for address in self.addresses]

    @field_validator("base_url")
    @classmethod
    def _check_address(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        try:
            parts = urlsplit(value)
            plain = parts.hostname and not (parts.username or parts.password or parts.query or parts.fragment)
            plain = plain and parts.port != 0
        except ValueError as error:
            raise ValueError(f"is no address of a server: {error}") from None
        if not plain:
            # The address is shown in errors and kept in run.json.
            raise ValueError("must be scheme, host, port and path alone; name the key's variable as api_key_env")
        return value

    def demands(self) -> Iterator[Demand]:
        if self.api_key_env is not None:
            for address in self.addresses:
                yield Demand("key", self.api_key_env, address)

    def api_key(self) -> str | None:
        """The key from the environment, without the white space around it. What only stands in for a key ("EMPTY") is no
        secret.

        Raises ConfigError as `read_key` does, and if the address holds the key.
        """
        if self.api_key_env is None:
            return None
        value = os.environ.get(self.api_key_env, "").strip()
        if is_stand_in(value):
            return value
        key = read_key(self.api_key_env)
        if any(
            scrub(address, [key]) != address for address in self.addresses
        ):  # the address is shown in errors and kept in run.json
            raise ConfigError(f"base_url holds the key that {self.api_key_env} names; take it out of the address")
        return key


def read_key(variable: str, what: str = "the API key") -> str:
    """The key in an environment variable, without the white space around it. From then on nothing that is written holds
    it (`redraft.secrets`).

    Raises ConfigError if the variable is not set, or holds what no HTTP header can carry or what is too short to be told
    from ordinary words; the error names the variable and shows nothing of its value.
    """
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(f"the environment variable {variable} is not set; export it with {what}")
    if not all("!" <= char <= "~" for char in key):  # the printable ASCII characters but the space
        raise ConfigError(
            f"the environment variable {variable} holds white space, control characters or characters that are not ASCII "
            "within the key; export it again with the key alone"
        )
    if len(key) < SHORTEST:
        raise ConfigError(
            f"the environment variable {variable} holds fewer than {SHORTEST} characters, too few for a key; export it "
            "again; if the server wants no key, name no variable, or export EMPTY"
        )
    remember(key)
    return key


class LocalConfig(_Section):
    """A model in this process."""

    device: str = "auto"
    dtype: DType = "auto"
    micro_batch: int = Field(default=8, ge=1)
    trust_remote_code: bool = False
    vllm: dict[str, bool | int | float | str] = {}
    """Settings of `vllm.LLM` for `redraft enhance --engine vllm`, such as { max_model_len = 8192 }."""


class ModelConfig(_Section):
    """A language or vision-language model: in this process (`transformers`) or behind a server (`openai`)."""

    kind: Literal["transformers", "openai"]
    model: Place
    adapter: Place | None = None
    """The folder of a LoRA adapter in PEFT's format that is merged into the model when it is loaded."""
    server: ServerConfig | None = None
    local: LocalConfig = LocalConfig()
    template_args: dict[str, bool | int | float | str] = {}
    """Variables for the model's chat template, such as { enable_thinking = false } for Qwen3."""

    @model_validator(mode="after")
    def _check_server(self) -> ModelConfig:
        if self.kind == "openai" and self.server is None:
            raise ValueError('kind = "openai" needs a [server] table with base_url')
        if self.kind == "openai" and self.adapter is not None:
            raise ValueError('an adapter is merged in this process; for kind = "openai" serve the merged model')
        return self

    @property
    def title(self) -> str:
        """What the model is called in outputs: its name, and its adapter's."""
        return self.model if self.adapter is None else f"{self.model} + {self.adapter}"

    @property
    def weights(self) -> tuple[str, ...]:
        """What is loaded: roles whose models are equal in it have one model, whatever else they ask of it."""
        if self.server is not None:
            return (self.model, *self.server.addresses)
        local = self.local
        return (self.title, local.device, local.dtype, str(local.trust_remote_code))

    def check_places(self) -> None:
        """Raises ModelMissing or NotFetched if the model or its adapter is not where the profile says, MissingExtra if what
        merges an adapter, or makes pictures ready for the model, is not installed."""
        model_place(self.model)
        require_vision(self.model)
        if self.adapter is not None:
            adapter_folder(self.adapter)
            require("lora", "this profile puts an adapter on a language model")

    def is_ready(self) -> bool:
        """Whether it can be opened: a model of this process has its weights and what runs them; of a server nothing is
        known."""
        try:
            if self.kind == "transformers":
                require("local", "a model in this process")
                self.check_places()
        except (UsageError, ModelMissing):
            return False
        return True

    def demands(self) -> Iterator[Demand]:
        yield from super().demands()
        if self.local.trust_remote_code:
            yield Demand("code", "", self.model)


class RewriterConfig(_Section):
    """The model that rewrites requests, and how it is asked."""

    model: ModelConfig
    style: Place = "promptenhancer"
    """Which prompt templates: the folder `rewriter/templates/<style>`, a folder of the user's, or package:NAME/FOLDER."""
    system: Place | None = None
    """A text file whose contents replace the style's system message, such as the one that a checkpoint was released with."""
    target: Place | None = None
    """Which image model the prompts are for: a name from `rewriter/targets/`, a TOML file, or package:NAME/FILE.
    None: that of the generator's class, if it is known; else any."""
    sees: bool = False
    """Whether the model takes pictures. It is then shown the attempts so far when it plans edits."""
    greedy: bool = True
    """Whether the first of the rewrites of a request is the likeliest, as `temperature` 0 gives it. False samples it like the
    others, for more variety: a model that was trained by rewards has a few likeliest sentences for all requests."""
    temperature: float = Field(default=0.7, ge=0, le=2)
    top_p: float = Field(default=0.9, gt=0, le=1)
    max_tokens: int = Field(default=1024, ge=16)


class PartConfig(_Section):
    """A class or function that replaces one of redraft's: `use = "package.module:Class"`."""

    use: Text


class ScopeConfig(PartConfig):
    """What the profile's models know, if that is less than everything: `use` names a `redraft.scope.Vocabulary`."""

    draws: Text
    """What the profile draws, in the plural, for warnings: "paper cut-outs"."""


class ChecklistConfig(_Section):
    """What makes the checklist of a request."""

    by: Literal["model", "rules"] = "model"
    """"rules" ask about the request's own passages (`evaluator.passages`), for want of a model that writes questions."""
    model: ModelConfig | None = None
    """None: the rewriter's model makes the checklist too."""
    style: Place = "keypoints"
    lexicon: PartConfig | None = None
    """A function without arguments that gives an `evaluator.coverage.Lexicon`, such as one with synonyms of the style's own.
    None: that of the request's language."""
    rules: PartConfig | None = None
    """A function of a request and the model's checklist that gives a better one, for worlds small enough to read by rules. A
    model whose checklist is mended so is not asked once more."""
    fold: bool = False
    """Whether the model reads the request as ordinary sentences are typed (`redraft.templates.fold_text`)."""
    max_checks: int = Field(default=24, ge=1, le=100)
    max_tokens: int = Field(default=2048, ge=16)


class DetectorConfig(_Section):
    """What finds the things that the tool `count` counts: a zero-shot detector of transformers (OWLv2, GroundingDINO), or a
    vision-language model that points."""

    model: Place | None = None
    chat: ModelConfig | None = None
    coordinates: Literal["thousandths", "pixels", "fractions"] = "thousandths"
    """The units in which the chat model was trained to point."""
    device: str = "cpu"
    threshold: float = Field(default=0.2, gt=0, lt=1)
    """Score from which a detector's box is a thing."""

    @model_validator(mode="after")
    def _check_one(self) -> DetectorConfig:
        if (self.model is None) == (self.chat is None):
            raise ValueError("needs either `model` or `chat`")
        return self


class SecondReaderConfig(_Section):
    """An independent second reader of pictures: a `Judge` of one's own, made without arguments, by its dotted path in `use`;
    or a model that describes the picture and one that answers from the description."""

    use: Text | None = None
    describer: ModelConfig | None = None
    answerer: ModelConfig | None = None
    """None: the describer's model answers, too, without seeing the picture."""
    weight: float = Field(default=0.5, ge=0, le=1)
    """Of its log odds in the mean with the judge's (`evaluator.looks.pool`)."""
    independence: float = Field(default=1.0, gt=0, le=4)
    """What that mean is multiplied by: 1 if both readers err alike, 2 if they err independently of each other."""

    @model_validator(mode="after")
    def _check_one(self) -> SecondReaderConfig:
        if (self.use is None) == (self.describer is None):
            raise ValueError("needs either `use` or `describer`")
        return self


class JudgeConfig(_Section):
    """The model that answers the checks."""

    model: ModelConfig
    style: Place = "keypoint"
    min_label_mass: float = Field(default=0.5, ge=0, le=1)
    """Below this P(yes) + P(no) the answer is no answer, and the check FAILED."""
    temperature: float = Field(default=1.0, gt=0)
    """Calibration: logit(p) is divided by this."""
    asks_freely: bool = True
    """Whether the judge can be asked any question. If not, words of the request that the checklist leaves out stay
    unchecked, and no picture is accepted."""
    explain: bool = False
    """Whether a server's judge is asked again about each check that did not pass, for a reason, which the rewriter then
    reads, and for the region that it is about."""
    coordinates: Literal["thousandths", "pixels", "fractions"] = "thousandths"
    """The units in which the judge was trained to give regions."""

    tools: tuple[Text, ...] = ()
    """What is asked before the model, if it can read the question: "ocr" reads words in pictures (extra `ocr`; without it the
    model answers), "count" counts by `detector`, and a dotted path names an `evaluator.tools.Tool`, made without arguments."""
    detector: DetectorConfig | None = None
    """Of the tool "count"."""
    looks: int = Field(default=0, ge=0, le=1000)
    """How many more looks a picture may cost, each at one check, the least certain ones first (`evaluator.looks`)."""
    second: SecondReaderConfig | None = None
    """Who looks again before any other way. A check passes if both say yes."""
    zoom: bool = False
    """Whether the judge looks again at the region of a check that it is unsure of: the one that it explained, else the
    profile's grounder's."""
    again: int = Field(default=0, ge=0, le=4)
    """How often the judge looks at a check that it is unsure of in the picture moved by some pixels."""
    guard: bool = False
    """Whether the judge is also asked, for each picture, if it bears writing that tells a judge what to say; if it does, all its
    checks FAILED. The question is the style's `guard.txt`."""

    @model_validator(mode="after")
    def _check_tools(self) -> JudgeConfig:
        if ("count" in self.tools) != (self.detector is not None):
            raise ValueError('the tool "count" needs a detector, and a detector the tool: give both')
        return self

    @model_validator(mode="after")
    def _check_looks(self) -> JudgeConfig:
        ways = self.second is not None or self.zoom or self.again > 0
        if ways != (self.looks > 0):
            raise ValueError(
                "looks says how many, and second, zoom or again says how: a judge that looks again needs both"
            )
        return self

    @model_validator(mode="after")
    def _check_explain(self) -> JudgeConfig:
        if self.explain and self.model.kind != "openai":
            raise ValueError('explain = true needs a judge of kind = "openai"')
        return self


class CriterionConfig(_Section):
    """Something that scores pictures beside the checklist: a name of docs/rewards.md, or `package.module:Class`."""

    use: Text
    name: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """What readings call it, if one kind is used twice. None: its own name."""
    weight: float = Field(default=1.0, ge=0, le=100)
    """How much it counts beside the others; with 0 it is read and shown, and counts for nothing."""
    floor: float | None = Field(default=None, ge=0, le=1)
    """A picture below this is never accepted."""
    args: dict[str, Any] = {}
    """Settings of the criterion, by name."""


Aggregation = Literal["group_mean", "mean", "min", "geometric_mean"]
RELATIVE = ("rank_sum", "pareto", "win_rate")
"""Rules that only order the pictures of a group."""


class EvaluatorConfig(_Section):
    """How the answers become a score, and scores a choice."""

    aggregation: Aggregation = "group_mean"
    """How the answers to the checks make one number."""
    edit_aggregation: Aggregation = "group_mean"
    """The same for edits of a user's picture. Many of their checks ask whether something was kept: in groups, a single
    loss hides among all that was kept."""
    criteria: tuple[CriterionConfig, ...] = ()
    """What scores pictures beside the checklist (`checks`, and for edits `preserved`), or gives those another weight."""
    combine: (
        Literal[
            "group_mean",
            "mean",
            "min",
            "geometric",
            "weighted_sum",
            "lambda_harmonic",
            "rank_sum",
            "pareto",
            "win_rate",
        ]
        | None
    ) = None
    """How the criteria make one number (docs/rewards.md). None: as the answers do."""
    key_points: dict[str, Annotated[float, Field(ge=0, le=100)]] = {}
    """Weights of checks by their key point, such as { counting = 2.0 }; 1 for the others."""
    edit_score: Literal["none", "editscore", "viescore", "editreward", "digit", "multireward", "checks"] = "none"
    """Who says how well an edit was done as a whole, beside the checks. All but `checks` need a judge that chats."""
    ties: Literal["first", "pairwise", "likert"] = "first"
    """Which picture is the best if the scores of several lie within `tie_margin`. first: the first of the highest.
    pairwise: the one that the judge's model prefers when it is shown them two by two, in both orders. likert: the one that
    it rates highest on a scale of words."""
    tie_margin: float = Field(default=0.02, ge=0, le=1)

    @model_validator(mode="after")
    def _check_combine(self) -> EvaluatorConfig:
        names = [part.name or part.use for part in self.criteria]
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise ValueError(f"the criterion {twice[0]!r} is listed twice; give one of them another name")
        if self.edit_score == "none" and any(part.use == "edit_score" for part in self.criteria):
            raise ValueError('the criterion "edit_score" needs the setting edit_score, which says who scores')
        if self.combine in RELATIVE and all(part.floor is None for part in self.criteria):
            raise ValueError(
                f'combine = "{self.combine}" orders pictures and can accept none: give a criterion a floor by which a '
                'picture is accepted, such as use = "checks", floor = 0.9, or take another rule'
            )
        if self.combine in RELATIVE and self.ties != "first":
            raise ValueError(f'combine = "{self.combine}" orders all pictures already; leave out ties')
        return self


class LoraConfig(_Section):
    """A LoRA adapter of a generator or editor: a .safetensors file, a folder or a hub id, in diffusers' format or in PEFT's
    (with an adapter_config.json, as GRPO and DPO trainers save them)."""

    path: Place
    weight_name: str | None = None
    scale: float = 1.0


class CacheConfig(BaseModel):
    """Reuse of the denoiser's work from one step in the next, by diffusers' caches.

    Further keys are handed to the cache's own settings, such as `residual_order` of "sea".
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: Literal["first_block", "sea", "taylorseer"]
    threshold: float | None = Field(default=None, ge=0)
    """first_block, sea: the change below which a block's output is reused. Larger is faster, and further from the picture
    without a cache. None: diffusers' default."""


class IPAdapterConfig(_Section):
    """An IP-Adapter: the generator then takes reference pictures."""

    model: Place
    subfolder: str = ""
    weight_name: Text
    scale: float = 1.0


_OF_A_CALL = {
    "name",
    "steps",
    "guidance",
    "width",
    "height",
    "sizes",
    "strength",
    "image_guidance",
    "batch_size",
    "call",
}
"""The settings of a backend that only its calls know."""


class BackendConfig(_Section):
    """A text-to-image model or an image editor."""

    kind: Literal["diffusers", "openai_images"]
    model: Place
    server: ServerConfig | None = None
    pipeline: str | None = None
    """Dotted path `package.module:Class` of a pipeline class that diffusers' Auto classes do not know."""
    steps: int | None = Field(default=None, ge=1, le=1000)
    guidance: float | None = None
    width: int | None = Field(default=None, ge=16, le=8192)
    height: int | None = Field(default=None, ge=16, le=8192)
    sizes: tuple[Annotated[str, Field(pattern=r"^[1-9]\d{1,3}x[1-9]\d{1,3}$")], ...] = ()
    """The only sizes that the model draws, such as "1024x1024"; empty: any."""
    strength: float | None = Field(default=None, ge=0, le=1)
    image_guidance: float | None = None
    """How closely an edit keeps to its source, for the models that have such a setting (InstructPix2Pix)."""
    batch_size: int = Field(default=4, ge=1)
    device: str = "auto"
    devices: tuple[Text, ...] = ()
    """Several GPUs, each with a process that has the model: ["cuda:0", "cuda:1"]."""
    dtype: DType = "auto"
    offload: Literal["none", "model", "group", "sequential"] = "none"
    quantization: Literal["none", "int8", "int4", "nf4"] = "none"
    loras: tuple[LoraConfig, ...] = ()
    parts: Mapping[str, Place] = {}
    """Parts of the pipeline that are loaded from elsewhere: `{ unet = "owner/name" }`, for checkpoints that are published
    as a denoiser alone."""
    scheduler: str | None = None
    """The name of a diffusers scheduler that replaces the model's own, such as "LCMScheduler"; few-step weights need theirs."""
    scheduler_args: Mapping[str, Any] = {}
    """Settings of that scheduler that differ from the model's: `{ timestep_spacing = "trailing" }`."""
    cache: CacheConfig | None = None
    ip_adapter: IPAdapterConfig | None = None
    variant: str | None = None
    """Which of a folder's weights: "fp16" for files named *.fp16.safetensors."""
    revision: str | None = None
    """Branch, tag or commit of the model on the hub."""
    single_file_config: Place | None = None
    """If `model` is one .safetensors file: the folder or hub id whose configs it goes with. None: diffusers guesses, and
    asks the hub."""
    vae_tiling: bool = False
    """Decodes the picture in tiles, for large pictures on small cards."""
    call: Mapping[str, Any] = {}
    """Further arguments of the pipeline's call, passed on as they are: `{ max_sequence_length = 512 }`; of a server, further
    fields of the request: `{ generator_device = "cpu" }`."""
    trust_remote_code: bool = False

    @model_validator(mode="after")
    def _check_server(self) -> BackendConfig:
        if self.kind == "openai_images" and self.server is None:
            raise ValueError('kind = "openai_images" needs a [server] table with base_url')
        if self.devices and (self.device != "auto" or self.kind != "diffusers"):
            raise ValueError('give either device or devices, and devices only with kind = "diffusers"')
        if len(set(self.devices)) < len(self.devices):
            raise ValueError("devices names one of them twice")
        return self

    @property
    def at_once(self) -> int:
        """Pictures that are drawn at the same time: a batch of each device."""
        return self.batch_size * max(1, len(self.devices))

    @property
    def weights(self) -> str:
        """What is loaded: tables that are equal in it have one model, however they call it. Not with several devices, whose
        processes each have their own."""
        return self.model_dump_json(exclude=set() if self.devices else _OF_A_CALL)

    def demands(self) -> Iterator[Demand]:
        yield from super().demands()
        if self.trust_remote_code:
            yield Demand("code", "", self.model)


SearchName = Literal["loop", "best_of", "draft", "gallery", "evolve"]
SEARCHES: tuple[str, ...] = get_args(SearchName)
"""Strategies that draw, by name. docs/search.md says what each does."""
EDIT_SEARCHES = ("edit", "tree")
"""Strategies that edit."""


class SearchPart(_Section):
    """A strategy with its share of a budget."""

    strategy: SearchName
    share: float = Field(gt=0)


class SearchConfig(_Section):
    """How a run searches for a picture."""

    strategy: SearchName = "loop"
    """What a drawing does with its budget."""
    edit: Literal["edit", "tree"] = "edit"
    """What an edit of a given picture does. tree: in steps, with several results of each, whatever `limits.tree` says."""
    parts: tuple[SearchPart, ...] = ()
    """Several strategies in turn instead of `strategy`, each with its share of the budget."""
    n: int = Field(default=8, ge=1, le=64)
    """best_of: pictures; draft, evolve: drafts of a round."""
    effort: float = Field(default=0.2, gt=0, le=1)
    """draft, evolve: the share of the denoiser's steps that a draft gets."""
    drafter: str = ""
    """draft: the name of a [[gallery]] that draws the drafts, such as a few-step model with the generator's own latents;
    empty: the generator."""
    finish: int = Field(default=1, ge=1, le=16)
    """draft, evolve: how many of the drafts are finished, from the same noise at all steps."""
    generations: int = Field(default=2, ge=1, le=16)
    """evolve: rounds of drafts before the best are finished."""
    mutation: float = Field(default=0.2, gt=0, le=1)
    """evolve: the share of new noise in a child's."""
    one_at_a_time: bool = False
    """gallery: whether the weights of the other generators are let go before one draws, for a GPU that holds only one."""
    rewrite: bool = True
    """best_of, draft, evolve: whether the request is rewritten, or drawn as it is."""


class GpuServerConfig(_Section):
    """A server on the same GPU."""

    base_url: str
    gb: float = Field(gt=0)
    """What it takes of the GPU's memory: of vLLM, --gpu-memory-utilization times all of it."""
    sleep: Literal["vllm", "vllm-omni", "sglang"] = "vllm"
    """Whose routes put it to sleep and wake it, for share = "swap"."""

    @model_validator(mode="after")
    def _check_near(self) -> GpuServerConfig:
        host = urlsplit(self.base_url).hostname or ""
        if host != "localhost" and not host.startswith("127.") and host != "::1":
            raise ValueError("is not on this machine; list the servers that are on this machine's GPU alone")
        return self


class GpuConfig(_Section):
    """The one GPU that the profile's models share: the sum of their memory is checked before anything loads."""

    memory_gb: float | None = Field(default=None, gt=0)
    """Of the GPU. None: of the largest that is found."""
    share: Literal["none", "swap"] = "none"
    """swap: servers of [[gpu.servers]] and the generator of this process take turns, if they do not fit beside one another."""
    servers: tuple[GpuServerConfig, ...] = ()
    generator_gb: float = Field(default=0.0, ge=0)
    """What the generator of this process takes while it draws."""
    editor_gb: float = Field(default=0.0, ge=0)
    reserve_gb: float = Field(default=1.0, ge=0)
    """For CUDA's context and whatever else is on the GPU."""
    stay_s: float = Field(default=5.0, ge=0)
    """swap: how long a model may go on while another waits."""


class GrounderConfig(_Section):
    """A vision-language model that points to the place in a picture that an edit is to change."""

    model: ModelConfig
    style: Place = "ground"
    coordinates: Literal["thousandths", "pixels", "fractions"] = "thousandths"
    """The units in which the model was trained to answer: Qwen3-VL and others 0 to 1000, Qwen2.5-VL pixels."""


class GalleryConfig(BackendConfig):
    """A further generator, for the strategy `gallery`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")


class Profile(_Section):
    """Which models and servers a run uses, and its limits."""

    name: str
    description: str = ""
    rewriter: RewriterConfig
    generator: BackendConfig | None = None
    """None: the profile only rewrites prompts, or judges pictures."""
    gallery: tuple[GalleryConfig, ...] = ()
    """Further generators, each with a name of its own; the strategy `gallery` chooses among them and `generator`."""
    editor: BackendConfig | None = None
    grounder: GrounderConfig | None = None
    planner: PartConfig | None = None
    """A `rewriter.plan.Planner`, made without arguments. None: the rewriter's model if its style can plan, else rules."""
    turn_reader: PartConfig | None = None
    """A `rewriter.turns.TurnReader`, made without arguments. None: the rewriter's model if its style reads turns, else
    rules."""
    edit_checks: PartConfig | None = None
    """An `evaluator.edits.types.EditChecklistMaker`, made with the judge and its `pass_at`. None: the judge's model if
    it is a server's, else one question about the whole edit."""
    answerer: PartConfig | None = None
    """An `evaluator.answering.Answerer`, made with the judge. None: the judge's model if it is a server's, else yes or
    no by the judge."""
    scope: ScopeConfig | None = None
    """What the models know. None: everything."""
    checklist: ChecklistConfig = ChecklistConfig()
    judge: JudgeConfig | None = None
    """None: the profile only rewrites prompts."""
    evaluator: EvaluatorConfig = EvaluatorConfig()
    limits: Limits = Limits()
    search: SearchConfig = SearchConfig()
    gpu: GpuConfig | None = None
    runs: str = "runs"
    """Folder for runs, images and checkpoints; relative to the working directory."""

    @property
    def loads_editor(self) -> bool:
        """Whether the editor is a model of this process beside the generator's."""
        if self.editor is None or self.editor.server is not None:
            return False
        return self.generator is None or self.editor.weights != self.generator.weights

    def need_generator(self) -> BackendConfig:
        """The generator. Raises ConfigError if there is none."""
        if self.generator is None:
            raise ConfigError(self._lacks())
        return self.generator

    def need_judge(self) -> JudgeConfig:
        """The judge. Raises ConfigError if there is none."""
        if self.judge is None:
            raise ConfigError(self._lacks())
        return self.judge

    def abilities(self) -> tuple[str, ...]:
        """What can be done with it: of rewrite, judge, draw, edit."""
        judges, draws = self.judge is not None, self.judge is not None and self.generator is not None
        can = {"rewrite": True, "judge": judges, "draw": draws, "edit": draws and self.editor is not None}
        return tuple(name for name, able in can.items() if able)

    def _lacks(self) -> str:
        lacking = [f"no [{name}]" for name in ("generator", "judge") if getattr(self, name) is None]
        return (
            f"the profile {self.name!r} has {' and '.join(lacking)}: with it one can {' and '.join(self.abilities())} "
            "(redraft enhance rewrites); to draw and judge, choose a profile that has both, such as mini, workstation or "
            "remote, or copy this one's file, add them, and give its path"
        )

    @model_validator(mode="after")
    def _check_gpu(self) -> Profile:
        local = self.generator is not None and self.generator.server is None
        if self.gpu is not None and local and not self.gpu.generator_gb:
            raise ValueError("gpu.generator_gb is missing: the generator of this process takes memory, too")
        editing = self.loads_editor
        if self.gpu is not None and editing and not self.gpu.editor_gb and self.gpu.share == "none":
            raise ValueError("gpu.editor_gb is missing: the editor of this process takes memory, too")
        if self.gpu is not None and self.gpu.share == "swap":
            if self.gallery or editing:
                raise ValueError('gpu.share = "swap" has turns for servers and one generator of this process, no more')
            if self.generator is not None and local and (self.generator.offload != "none" or self.generator.devices):
                raise ValueError(
                    'gpu.share = "swap" moves the generator itself: leave generator.offload and devices out'
                )
        return self

    @model_validator(mode="after")
    def _check_drafter(self) -> Profile:
        drafter = self.search.drafter
        named = {backend.name: backend for backend in self.gallery}
        if drafter and drafter not in named:
            raise ValueError(f'search.drafter = "{drafter}": there is no [[gallery]] of that name')
        if drafter and named[drafter].kind == "openai_images":
            raise ValueError(
                f'search.drafter = "{drafter}": an image server has no noise that the generator could finish from; name a '
                "[[gallery]] of kind diffusers"
            )
        if self.search.effort == 1 and not drafter:
            raise ValueError("search.effort = 1 makes drafts as dear as whole pictures; set less, or name a drafter")
        return self

    @model_validator(mode="after")
    def _check_gallery(self) -> Profile:
        names = [backend.name for backend in self.gallery]
        if "edit" in names or len(set(names)) < len(names):
            raise ValueError('each [[gallery]] has a name of its own, and none is called "edit"')
        for name in dict.fromkeys((self.search.strategy, *(part.strategy for part in self.search.parts))):
            if problem := self._lacks_for(name):
                raise ValueError(f'the strategy "{name}" {problem}')
        return self

    def _lacks_for(self, strategy: str) -> str | None:
        """What a strategy needs that this profile does not have, with the mend; None if it has all."""
        if strategy == "gallery" and not self.gallery:
            return "needs further generators: add a [[gallery]] table for each to the profile, or to a copy of it"
        if strategy in ("draft", "evolve") and self.generator and self.generator.kind == "openai_images":
            return (
                "draws at a part of the denoiser's steps, which an image server cannot: take loop or best_of, or a "
                "[generator] of kind diffusers"
            )
        return None

    def searching(self, name: str | None, *, editing: bool = False) -> Profile:
        """This profile with another strategy for drawings, or for edits; the same if `name` is None. Raises InputError for
        a name that is none, ConfigError for a strategy that this profile cannot serve."""
        if name is None:
            return self
        names = EDIT_SEARCHES if editing else SEARCHES
        if name not in names:
            what = "an edit" if editing else "a drawing"
            raise InputError(f"search {name[:40]}: {what} can search by {', '.join(names)}")
        if problem := self._lacks_for(name):
            raise ConfigError(f"search {name}, which {problem} (profile {self.name!r})")
        changes: dict[str, object] = {"edit": name} if editing else {"strategy": name, "parts": ()}
        return self.model_copy(update={"search": self.search.model_copy(update=changes)})

    def pixels(self, options: DrawOptions, source: tuple[int, int] | None = None) -> tuple[int, int] | None:
        """The (width, height) of the pictures that `options` ask for; None: the model's own. `source`: the size of the
        picture that is edited, if one is. Raises InputError for a size that the profile does not make."""
        config = self.generator if source is None else self.editor
        if config is None:
            return options.pixels(source)
        own = (config.width, config.height) if config.width and config.height else None
        return options.pixels(source or own, config.sizes, of=self.name)


def builtin_profiles() -> dict[str, Path]:
    """Name to TOML file of the profiles that come with the package."""
    folder = Path(str(resources.files("redraft"))) / "profiles"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_profile(name: str) -> Profile:
    """The built-in profile of that name, or the one in the TOML file `name`. Raises ConfigError; Untrusted for a file of
    somebody else's that would send keys (`redraft.trust`).

    >>> import redraft
    >>> redraft.load_profile("mini").limits.max_images
    8
    """
    builtin = builtin_profiles()
    if name in builtin:
        path = builtin[name]
    elif name.endswith(".toml") or os.sep in name:
        path = Path(name)
    else:
        raise ConfigError(f"unknown profile {name!r}; there are {', '.join(builtin)}, or give a path to a .toml file")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"cannot read profile {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"profile {path} is not UTF-8 text: {error}") from error
    except (ValueError, RecursionError) as error:  # besides TOML's own errors: huge numbers, deep nesting
        raise ConfigError(f"profile {path} is not valid TOML: {error}") from error
    data.setdefault("name", path.stem)
    try:
        profile = Profile.model_validate(data, context={"folder": path.absolute().parent})
    except ValidationError as error:
        lines = [f"  {'.'.join(str(part) for part in e['loc']) or '(file)'}: {_explain(e)}" for e in error.errors()]
        raise ConfigError(f"profile {path} has mistakes:\n" + "\n".join(lines)) from None
    if name not in builtin and not is_own(path):
        require_trust((demand for demand in profile.demands() if not demand.stays_here), path)
    return profile


def read_stored_profile(data: Any, place: Path) -> Profile:
    """The profile that a run or a conversation keeps, as JSON. `place`: its folder. Raises InputError if it is damaged or
    of another version, Untrusted if it would send keys and is not known to be the user's (`redraft.trust`)."""
    try:
        profile = Profile.model_validate_json(json.dumps(data))
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(map(str, first["loc"]))
        raise InputError(f"the profile in {place} cannot be read ({at}: {_explain(first)}); begin anew") from None
    require_trust(profile.demands(), place)
    return profile


def _explain(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return "no such setting; check its spelling"
    if error["type"] == "missing":
        return "is missing"
    return error["msg"].removeprefix("Value error, ")


def load_part(part: PartConfig) -> Any:
    """The class that `use` names. Raises ConfigError."""
    module, _, name = part.use.partition(":")
    if not module or not name:
        raise ConfigError(f'use = "{part.use}" is not a dotted path; write it as "package.module:Class"')
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f'use = "{part.use}": cannot be imported; is its package installed? ({error})') from error


def model_place(model: str) -> str:
    """The folder, .safetensors file or hub id of a model; resolves `package:NAME/SUBFOLDER`, and hub ids that `redraft get`
    fetched.

    Raises ModelMissing if there is no such folder or file, NotFetched if `redraft get` has to be run first.
    """
    if model.startswith(PACKAGE):
        package = model.removeprefix(PACKAGE).partition("/")[0]
        try:
            folder = package_path(model)
        except ConfigError as error:
            raise ModelMissing(str(error)) from error
        if not folder.is_dir():
            raise ModelMissing(
                f"{model}: there is no folder {folder}; the weights that ship with {package} are missing: install it "
                "or check it out again, or train them (those of mini: make train-mini)"
            )
        return str(folder)
    looks_like_a_path = model.startswith((".", "/", "~")) or model.count("/") > 1
    if looks_like_a_path:
        folder = Path(model).expanduser()
        if not folder.is_dir() and not (folder.is_file() and folder.suffix == ".safetensors"):
            raise ModelMissing(f"there is no model folder {folder}; check `model` in the profile")
        return str(folder)
    return require_weights(model)


_NEEDS_TORCHVISION = re.compile(r"qwen[\d.]*-?vl|qwen-image-edit|flux\.2-dev", re.IGNORECASE)


def needs_vision(model: str) -> bool:
    """Whether the processor of a hub's model needs torchvision (Qwen-VL, Qwen-Image-Edit, FLUX.2 dev)."""
    return bool(_NEEDS_TORCHVISION.search(model)) and not Path(model).exists()


def require_vision(model: str) -> None:
    """Raises MissingExtra if a model needs torchvision and that is not installed: else it would be said only when the weights
    have been fetched."""
    if needs_vision(model):
        require("vl", f"{model} reads pictures with torchvision")


def adapter_folder(adapter: str) -> Path:
    """The folder of a LoRA adapter. Raises ModelMissing if it, its settings or its weights (safetensors) are not there."""
    folder = Path(model_place(adapter))
    if not folder.is_dir():
        raise ModelMissing(f"there is no adapter folder {folder}; check `adapter` in the profile")
    for part in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / part).is_file():
            raise ModelMissing(f"the adapter {folder} has no {part}; give a folder as peft saves it, with safetensors")
    return folder
