"""Batches on a cluster: Ray Data runs vLLM, with the same template, parser and guard as `redraft enhance`.

    import ray
    from redraft.profiles import load_profile
    from rewriter.batch.ray_rows import enhance_dataset

    rows = ray.data.read_parquet("prompts/")
    better = enhance_dataset(rows, load_profile("workstation"), field="prompt", target="flux")
    better.write_parquet("better/")

Needs the extra `ray`, and vLLM on the workers. The functions on rows are plain and need neither.

Each request is asked about once, and once more if the first reply had faults: two processors, of which the second sees only
those rows. A request with words outside the profile's scope is kept, and no model is asked. The order is Ray's, not the
input's; equal requests are asked about as often as they occur.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redraft.chat import ChatReply, ChatRequest, Usage
from redraft.errors import ConfigError, InputError, one_line
from redraft.extras import require
from redraft.openai_chat import encode_messages
from redraft.profiles import Profile, RewriterConfig, model_place
from redraft.scope import Scope, open_scope
from rewriter.batch.maker import Choice, find_outside, make_record, make_result, own_columns, pick_target, settings_of
from rewriter.batch.tables import join_columns
from rewriter.batch.work import Keys, Record, Status
from rewriter.cot import Asking, Try, conclude
from rewriter.reply import review
from rewriter.request import clean_request
from rewriter.target import Target

Row = dict[str, Any]
FIRST = "__redraft_first"
"""Column with the request and the first reply, as JSON, of the rows that need another; "" in the others."""


@dataclass(frozen=True)
class RayRows:
    """What happens to a row before and after the model. Picklable, since Ray ships it to its workers. Every function
    returns the same columns for all rows, as Ray's blocks want."""

    asking: Asking
    keys: Keys
    field: str
    thought: bool = False
    scope: Scope | None = None

    @classmethod
    def of(
        cls,
        config: RewriterConfig,
        *,
        field: str,
        target: str | Target | None = None,
        seed: int = 0,
        thought: bool = False,
        scope: Scope | None = None,
    ) -> RayRows:
        """Raises ConfigError if style or target cannot be used."""
        chosen = target if isinstance(target, Target) else pick_target(config, target)
        asking = Asking.of(config, chosen)
        settings = settings_of(asking, config.model.model, 1) | ({} if scope is None else {"scope": scope.describe()})
        return cls(asking, Keys({**settings, "select": None}, seed), field, thought, scope)

    def usable(self, row: Row) -> bool:
        """Whether the row has a request that can be used; the others are left out."""
        try:
            return isinstance(row.get(self.field), str) and bool(clean_request(row[self.field]))
        except InputError:
            return False

    def outside(self, row: Row) -> bool:
        """Whether the row's request has words outside the scope."""
        return self.scope is not None and bool(find_outside(clean_request(row[self.field]), self.scope))

    def keep(self, row: Row) -> Row:
        """The row, whose request has words outside the scope, with that as its result."""
        assert self.scope is not None
        request = clean_request(row[self.field])
        findings = find_outside(request, self.scope)
        record = Record(status=Status.OUT_OF_SCOPE, prompt=request, seed=self._seed(request), findings=findings)
        return {**join_columns(row, self._columns(request, record)), FIRST: ""}

    def ask(self, row: Row) -> Row:
        """The row with what the model is asked."""
        request = clean_request(row[self.field])
        return {**row, **_model_columns(self.asking.first(request, 0, self._seed(request)))}

    def read(self, row: Row) -> Row:
        """The row with the result of the reply; FIRST is not empty if another try is needed."""
        request = clean_request(row[self.field])
        reply = _reply(row)
        first = self._try(request, reply)
        joined = join_columns(_without_model(row), self._result(request, first, None))
        again = bool(first.review.faults) and self.asking.keep(request) is None
        return {**joined, FIRST: json.dumps({**reply, "request": request}) if again else ""}

    def ask_again(self, row: Row) -> Row:
        """The row with what the model is asked the second time: what was wrong with its first reply."""
        request, first = self._first(row)
        return {**row, **_model_columns(self.asking.second(request, 0, self._seed(request), first.review))}

    def read_again(self, row: Row) -> Row:
        """The row with the result of both replies: the second's prompt, or the request itself."""
        request, first = self._first(row)
        second = self._try(request, _reply(row))
        return {**_without_model(row), **self._result(request, first, second), FIRST: ""}

    def _first(self, row: Row) -> tuple[str, Try]:
        reply = json.loads(row[FIRST])
        request = str(reply["request"])
        return request, self._try(request, reply)

    def _seed(self, request: str) -> int:
        return Keys.seed(self.keys.key(request))

    def _try(self, request: str, reply: Mapping[str, Any]) -> Try:
        usage = Usage(reply["read"], reply["written"])
        # Ray gives no finish reason: a reply that has all the tokens it may have was cut off.
        truncated = usage.completion_tokens >= self.asking.config.max_tokens
        answer = ChatReply(reply["text"], truncated=truncated, usage=usage, model=self.asking.config.model.model)
        return Try(review(request, answer, self.asking.rules), answer.model, usage)

    def _result(self, request: str, first: Try, second: Try | None) -> Row:
        rewrites = [self.asking.keep(request) or conclude(request, first, second)]
        return self._columns(request, make_record(request, rewrites, choice=Choice(0), seed=self._seed(request)))

    def _columns(self, request: str, record: Record) -> Row:
        own = own_columns(self.asking.rules.target, thought=self.thought, n=1, scored=False)
        return make_result(request, record, own)


def enhance_dataset(
    dataset: Any,
    profile: RewriterConfig | Profile,
    *,
    field: str = "prompt",
    target: str | Target | None = None,
    seed: int = 0,
    thought: bool = False,
    replicas: int = 1,
    batch_size: int = 64,
    **engine: Any,
) -> Any:
    """A ray.data.Dataset with redraft's columns. A rewriter's settings alone have no scope. `replicas` engines run at
    once, with `engine` as vLLM's settings.

    The first pass is carried out by this call, and held in Ray's object store (which spills to disk); the second is
    lazy, as Ray's datasets are. Raises ConfigError, and MissingExtra if Ray is not installed.
    """
    require("ray", "this runs on Ray Data")
    try:
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig  # type: ignore[import-not-found]
    except ImportError as error:
        raise ConfigError(
            f"Ray Data with its LLM part cannot be used ({one_line(error)}); install the extra ray in an environment "
            "of its own"
        ) from error
    config = profile.rewriter if isinstance(profile, Profile) else profile
    scope = open_scope(profile) if isinstance(profile, Profile) else None
    rows = RayRows.of(config, field=field, target=target, seed=seed, thought=thought, scope=scope)
    settings = vLLMEngineProcessorConfig(
        model_source=model_place(config.model.model),
        engine_kwargs=engine,
        concurrency=replicas,
        batch_size=batch_size,
    )
    # Both passes name the same engine; Ray starts its replicas when a pass needs them.
    extra = {"builder_kwargs": {"chat_template_kwargs": dict(config.model.template_args)}}
    extra = extra if config.model.template_args else {}
    first = build_processor(settings, preprocess=rows.ask, postprocess=rows.read, **extra)
    again = build_processor(settings, preprocess=rows.ask_again, postprocess=rows.read_again, **extra)
    usable = dataset.filter(rows.usable)
    tried = first(usable if scope is None else usable.filter(lambda row: not rows.outside(row))).materialize()
    done = tried.filter(lambda row: not row[FIRST])
    if scope is not None:
        done = done.union(usable.filter(rows.outside).map(rows.keep))
    return done.union(again(tried.filter(lambda row: bool(row[FIRST])))).drop_columns([FIRST])


def _model_columns(request: ChatRequest) -> Row:
    """The columns that Ray's vLLM processor reads."""
    sampling = {"max_tokens": request.max_tokens, "temperature": request.temperature, "seed": request.seed}
    if request.temperature > 0:
        sampling["top_p"] = request.top_p
    return {"messages": encode_messages(request.messages), "sampling_params": sampling}


def _reply(row: Row) -> dict[str, Any]:
    read, written = row.get("num_input_tokens"), row.get("num_generated_tokens")
    return {"text": str(row.get("generated_text") or ""), "read": int(read or 0), "written": int(written or 0)}


_MODEL = (
    *("messages", "sampling_params", "prompt_token_ids", "tokenized_prompt", "num_input_tokens", "generated_tokens"),
    *("generated_text", "num_generated_tokens", "metrics", "embeddings", "params", "request_id", "batch_uuid"),
    *("time_taken_llm", "__inference_error__"),
)
"""Columns that Ray's processor adds."""


def _without_model(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in _MODEL}
