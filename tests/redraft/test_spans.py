"""OpenTelemetry spans, with the SDK's exporter in memory: what a run, its steps, models, pictures and judgements tell."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import opentelemetry.trace
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from PIL import Image

from agent.run import Run
from agent.testing import fake_models, paint
from editors.testing import FakeBackend
from redraft.chat import ChatReply, ChatRequest, Message, Usage
from redraft.errors import BackendError, ServerError
from redraft.limits import Limits
from redraft.spans import CAPTURE, find_tracer, open_span, trace_chat

SECRET = "a zebra in Zanzibar"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Where the spans of this test end. A process has one provider for good, so it is put there for the test alone."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(opentelemetry.trace, "_TRACER_PROVIDER", provider)
    monkeypatch.delenv(CAPTURE, raising=False)
    yield exporter
    provider.shutdown()


@dataclass(frozen=True)
class Chat:
    reply: ChatReply | BackendError
    name: str = "qwen"

    @trace_chat("openai", lambda model: f"http://{model.name}.example:8000/v1")
    async def __call__(self, request: ChatRequest) -> ChatReply:
        if isinstance(self.reply, BackendError):
            raise self.reply
        return self.reply


REQUEST = ChatRequest(
    (Message("system", "draw"), Message("user", (Image.new("RGB", (8, 8)), SECRET))),
    max_tokens=64,
    seed=3,
    stop=("END",),
)


def named(exporter: InMemorySpanExporter, start: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name.startswith(start)]


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


async def test_a_call_of_a_model_has_the_names_of_the_conventions(spans: InMemorySpanExporter) -> None:
    await Chat(ChatReply(SECRET, truncated=True, usage=Usage(12, 5), model="qwen-3"))(REQUEST)
    [span] = spans.get_finished_spans()
    assert (span.name, span.kind) == ("chat qwen", SpanKind.CLIENT)
    assert attributes(span) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "qwen",
        "gen_ai.request.max_tokens": 64,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.seed": 3,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.output.type": "text",
        "gen_ai.response.model": "qwen-3",
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 5,
        "server.address": "qwen.example",
        "server.port": 8000,
    }


async def test_texts_are_in_a_span_if_they_are_asked_for_and_pictures_never(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CAPTURE, "span_only")
    await Chat(ChatReply("a zebra", reasoning="stripes"))(REQUEST)
    [span] = spans.get_finished_spans()
    read = {name: json.loads(str(attributes(span)[f"gen_ai.{name}.messages"])) for name in ("input", "output")}
    assert read["input"] == [
        {"role": "system", "parts": [{"type": "text", "content": "draw"}]},
        {"role": "user", "parts": [{"type": "image"}, {"type": "text", "content": SECRET}]},
    ]
    assert [part["type"] for part in read["output"][0]["parts"]] == ["reasoning", "text"]


async def test_an_error_is_named_by_its_class_alone(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ServerError):
        await Chat(ServerError(f"it said: {SECRET}"))(REQUEST)
    [span] = spans.get_finished_spans()
    assert (attributes(span)["error.type"], span.status.status_code) == ("ServerError", StatusCode.ERROR)
    assert SECRET not in span.to_json()


async def test_a_run_is_a_tree_of_its_steps_pictures_and_judgements(
    spans: InMemorySpanExporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = fake_models(lambda prompt, seed: (0.97, 0.98, 0.99), backend=FakeBackend(name="flux", paint=paint))
    with open_span("outside", {}):
        result = await Run.start(SECRET, models, limits=Limits(max_rounds=1, max_images=2), out=tmp_path).run()
    [outside], [run] = named(spans, "outside"), named(spans, "invoke_agent redraft")
    assert run.parent is not None
    assert run.parent.span_id == outside.context.span_id
    told = attributes(run)
    assert told["redraft.stop"] == "accepted"
    assert result.folder.name.endswith(str(told["redraft.run"]).rpartition("-")[2])
    assert told["redraft.images"] == len(result.attempts)
    steps = {attributes(span)["redraft.step"]: span for span in named(spans, "step ")}
    assert set(steps) >= {"checklist", "render", "judge"}
    assert {span.parent.span_id for span in steps.values() if span.parent} == {run.context.span_id}
    pictures = named(spans, "generate_content flux")
    assert sum(int(str(attributes(span).get("gen_ai.request.choice.count", 1))) for span in pictures) == len(
        result.attempts
    )
    assert pictures[0].parent is not None
    assert pictures[0].parent.span_id == steps["render"].context.span_id
    [judgement] = named(spans, "evaluate redraft")
    assert {event.name for event in judgement.events} == {"gen_ai.evaluation.result"}
    scores = {
        dict(event.attributes or {})["redraft.attempt"]: dict(event.attributes or {}) for event in judgement.events
    }
    assert result.best is not None
    best = scores[result.best + 1]
    assert best["gen_ai.evaluation.score.value"] == result.attempts[result.best].score
    assert best["gen_ai.evaluation.score.label"] == "pass"
    words = "".join(span.to_json() for span in spans.get_finished_spans())
    assert "zebra" in result.folder.name
    assert "zebra" not in words, "also not as the folder's name"

    spans.clear()
    monkeypatch.setenv(CAPTURE, "true")
    await Run.start(SECRET, models, limits=Limits(max_rounds=1, max_images=1), out=tmp_path).run()
    for name in ("invoke_agent", "generate_content"):
        assert SECRET in str(attributes(named(spans, name)[0])["gen_ai.input.messages"])


def test_without_a_provider_there_are_no_spans_and_nothing_is_imported() -> None:
    script = (
        "import sys; from redraft.spans import find_tracer, open_span, NO_SPAN\n"
        "with open_span('x', {}) as span: assert span is NO_SPAN\n"
        "assert find_tracer() is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
        "import opentelemetry.trace\n"
        "assert find_tracer() is None, 'the API alone makes none'\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
    assert find_tracer() is None
