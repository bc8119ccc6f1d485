"""A run's traces and figures, as their receivers see them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import httpx2
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from support.local_servers import Receiver

from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.monitoring.metrics import RunMeter
from bigpe.runtime.run.monitoring.tracing import RoundTracer, Tracing
from bigpe.services.core.errors import ConfigError
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fake_images import AnyPrompt
from bigpe.testing.fakes import FakeRenderer
from bigpe.testing.runs import CONFIG, open_fake, transcript


async def test_one_trace_a_round_with_a_span_for_each_step(tmp_path: Path) -> None:
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = RoundTracer(provider.get_tracer("test"))
    async with open_fake(tmp_path) as session:
        async for message in session.run():
            tracer.show(message)
    tracer.close()
    spans = memory.get_finished_spans()
    roots = {span.context.trace_id: span for span in spans if span.parent is None}
    rounds = sorted((span.attributes or {})["bigpe.round"] for span in roots.values())
    assert rounds == list(range(CONFIG["run"]["rounds"] + 1))
    names = Counter[str]()
    for span in spans:
        if span.parent is not None:
            assert span.parent.span_id == roots[span.context.trace_id].context.span_id
            assert span.end_time is not None and span.start_time is not None
            names[span.name] += 1
    assert set(names) == {"rewrite", "render", "score", "critique", "propose"}
    assert names["rewrite"] == CONFIG["run"]["rounds"]
    assert names["render"] == names["score"]
    assert all(span.status.status_code is not StatusCode.ERROR for span in spans)


async def test_failures_are_errors_of_their_step(tmp_path: Path) -> None:
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = RoundTracer(provider.get_tracer("test"))
    renderer = FakeRenderer(BlobStore(Project(tmp_path).images))
    async with open_fake(tmp_path, renderer=renderer) as session:
        with RunMeter(session, 0) as meter:
            async for message in session.run():
                if message.kind == "PoolChanged" and message.round == 1:
                    renderer.broken_prompts = AnyPrompt()
                tracer.show(message)
                meter.show(message)
            async with httpx2.AsyncClient(trust_env=False) as client:
                result = (await client.get(f"http://127.0.0.1:{meter.port}/metrics")).text
    tracer.close()
    failed = [s for s in memory.get_finished_spans() if s.status.status_code is StatusCode.ERROR]
    assert failed
    assert {span.name for span in failed} == {"render"}
    assert "cannot paint" in str((failed[0].events[0].attributes or {})["bigpe.cause"])
    assert 'bigpe_run_failures_total{actor="renderer",final="true"}' in result
    assert 'bigpe_run_waiting_items{queue="render"} 0.0' in result


async def test_the_figures_and_the_traces_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_fake(tmp_path / "plain") as session:
        async for _ in session.run():
            pass
    receiver = Receiver(read_json=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    async with open_fake(tmp_path / "watched") as session:
        with Tracing() as tracing, RunMeter(session, 0) as meter:
            async for message in session.run():
                tracing.show(message)
                meter.show(message)
            with pytest.raises(ConfigError, match="cannot listen there"):
                RunMeter(session, meter.port)
    receiver.close()
    assert transcript(tmp_path / "plain") == transcript(tmp_path / "watched")
    assert {request.path for request in receiver.asked} == {"/v1/traces"}


def test_without_a_receiver_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    with Tracing() as tracing:
        assert tracing.tracer is None
