"""Batches on a cluster: Ray Data runs vLLM, and asks, reads and checks by the same template, parser and guard.

    import ray
    from redraft.profiles import load_profile
    from rewriter.batch.ray_rows import enhance_dataset

    rows = ray.data.read_parquet("prompts/")
    better = enhance_dataset(rows, load_profile("workstation").rewriter, field="prompt", target="flux")
    better.write_parquet("better/")

Needs the extra `ray`, and vLLM on the workers. The functions on rows are plain and need neither.

Each prompt is asked once, and once more where the first reply had faults: two processors, of which the second sees only
those rows. Order is Ray's, not the input's; equal prompts are asked as often as they stand there.
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
from redraft.profiles import RewriterConfig, model_place
from rewriter.batch.maker import Choice, own_columns, pick_target, record_of, result_of, settings_of
from rewriter.batch.work import Keys
from rewriter.cot import Asking, Try, conclude
from rewriter.reply import review
from rewriter.request import clean_request
from rewriter.target import Target

Row = dict[str, Any]
FIRST = "__redraft_first"
"""Column with the first reply, as JSON, of the rows that need another; "" in the others."""


@dataclass(frozen=True)
class RayRows:
    """What happens to a row before and after the model. Picklable: Ray ships it to its workers. Every function gives
    all rows the same columns, which Ray's blocks want."""

    asking: Asking
    keys: Keys
    field: str
    thought: bool = False

    @classmethod
    def of(
        cls,
        config: RewriterConfig,
        *,
        field: str,
        target: str | Target | None = None,
        seed: int = 0,
        thought: bool = False,
    ) -> RayRows:
        """Raises ConfigError where style or target cannot be used."""
        chosen = target if isinstance(target, Target) else pick_target(config, target)
        asking = Asking.of(config, chosen)
        return cls(asking, Keys({**settings_of(asking, config.model.model, 1), "select": None}, seed), field, thought)

    def usable(self, row: Row) -> bool:
        """Whether the row has a prompt that can be used; the others are left out."""
        try:
            return isinstance(row.get(self.field), str) and bool(clean_request(row[self.field]))
        except InputError:
            return False

    def ask(self, row: Row) -> Row:
        """The row with its request for a rewrite."""
        prompt = clean_request(row[self.field])
        return {**row, **_request(self.asking.first(prompt, 0, self._seed(prompt)))}

    def read(self, row: Row) -> Row:
        """The row with what the reply comes to; FIRST is not empty where another try is needed."""
        prompt = clean_request(row[self.field])
        reply = _reply(row)
        first = self._try(prompt, reply)
        kept = _without_model(row)
        return {**kept, **self._result(prompt, first, None), FIRST: json.dumps(reply) if first.review.faults else ""}

    def ask_again(self, row: Row) -> Row:
        """The row with its second request: what was wrong with the first reply."""
        prompt = clean_request(row[self.field])
        first = self._try(prompt, json.loads(row[FIRST]))
        return {**row, **_request(self.asking.second(prompt, 0, self._seed(prompt), first.review))}

    def read_again(self, row: Row) -> Row:
        """The row with what both replies come to: the second's prompt, or the user's own."""
        prompt = clean_request(row[self.field])
        first, second = self._try(prompt, json.loads(row[FIRST])), self._try(prompt, _reply(row))
        return {**_without_model(row), **self._result(prompt, first, second), FIRST: ""}

    def _seed(self, prompt: str) -> int:
        return Keys.seed(self.keys.key(prompt))

    def _try(self, prompt: str, reply: Mapping[str, Any]) -> Try:
        usage = Usage(reply["read"], reply["written"])
        # Ray tells no finish reason: a reply that filled its room was cut off.
        truncated = usage.completion_tokens >= self.asking.config.max_tokens
        said = ChatReply(reply["text"], truncated=truncated, usage=usage, model=self.asking.config.model.model)
        return Try(review(prompt, said, self.asking.rules), said.model, usage)

    def _result(self, prompt: str, first: Try, second: Try | None) -> Row:
        made = record_of(prompt, [conclude(prompt, first, second)], Choice(0), self._seed(prompt))
        own = own_columns(self.asking.rules.target, thought=self.thought, n=1, scored=False)
        return result_of(prompt, made, own)


def enhance_dataset(
    dataset: Any,
    config: RewriterConfig,
    *,
    field: str = "prompt",
    target: str | Target | None = None,
    seed: int = 0,
    thought: bool = False,
    replicas: int = 1,
    batch_size: int = 64,
    **engine: Any,
) -> Any:
    """A ray.data.Dataset with redraft's columns. `replicas` engines run at once, with `engine` as vLLM's settings.

    The first pass is carried out by this call, and held in Ray's object store (which spills to disk); the second is
    lazy, as Ray's datasets are. Raises ConfigError, also where Ray is not installed.
    """
    require("ray", "this runs on Ray Data")
    try:
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig  # type: ignore[import-not-found]
    except ImportError as error:
        raise ConfigError(
            f"Ray Data with its LLM part cannot be used ({one_line(error)}); install the extra ray in an environment "
            "of its own"
        ) from error
    rows = RayRows.of(config, field=field, target=target, seed=seed, thought=thought)
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
    tried = first(dataset.filter(rows.usable)).materialize()
    done = tried.filter(lambda row: not row[FIRST])
    return done.union(again(tried.filter(lambda row: bool(row[FIRST])))).drop_columns([FIRST])


def _request(request: ChatRequest) -> Row:
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
