"""OpenTelemetry traces of a run: one trace per round, one span per step.

The spans are made from the messages only: a request opens a span and its answer closes it.
So tracing changes nothing in the run.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode, Tracer

from bigpe.agents.messages.core import (
    ArmPulled,
    CritiqueRequested,
    Message,
    PoolChanged,
    ProposalRequested,
    RenderRequested,
    RewriteRequested,
    ScoreRequested,
    StepFailed,
)
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.version import VERSION

STEPS = {
    "RewriteRequested": "rewrite",
    "RenderRequested": "render",
    "ScoreRequested": "score",
    "CritiqueRequested": "critique",
    "ProposalRequested": "propose",
}
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class RoundTracer:
    """Makes spans from the messages of a run. Pass each message to `show`, then call `close`."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._rounds: dict[int, Span] = {}
        self._steps: dict[str, Span] = {}
        """The open spans by the id of their request."""

    def show(self, message: Message) -> None:
        """Open or close the spans of a message."""
        self._end_step(message)
        if (name := STEPS.get(message.kind)) is not None:
            self._begin_step(message, name)
        elif isinstance(message, StepFailed) and message.step in self._steps:
            self._note_failure(message)
        elif isinstance(message, ArmPulled):
            gains = [gain.gain for gain in message.gains]
            self._round(message).set_attribute("bigpe.missing", message.missing)
            if gains:
                self._round(message).set_attribute("bigpe.mean_gain", sum(gains) / len(gains))
        elif isinstance(message, PoolChanged):
            self._round(message).set_attribute("bigpe.admitted", len(message.admitted))
            self._rounds.pop(message.round).end()

    def close(self) -> None:
        """End all open spans. A resumed run continues its rounds in another trace."""
        for span in (*self._steps.values(), *self._rounds.values()):
            span.end()
        self._steps.clear()
        self._rounds.clear()

    def _round(self, message: Message) -> Span:
        span = self._rounds.get(message.round)
        if span is None:
            name = "round" if message.round else "before the first round"
            span = self._tracer.start_span(name, trace.set_span_in_context(trace.INVALID_SPAN))
            span.set_attributes({"bigpe.run": message.run, "bigpe.round": message.round})
            self._rounds[message.round] = span
        return span

    def _begin_step(self, message: Message, name: str) -> None:
        context = trace.set_span_in_context(self._round(message))
        span = self._tracer.start_span(name, context)
        span.set_attribute("bigpe.message", message.mid)
        if isinstance(message, RewriteRequested | CritiqueRequested | ProposalRequested):
            span.set_attribute("bigpe.instruction", message.instruction.id[:8])
        elif isinstance(message, RenderRequested | ScoreRequested):
            span.set_attribute("bigpe.purpose", message.purpose)
        self._steps[message.mid] = span

    def _end_step(self, message: Message) -> None:
        # The parent of an answer is its request; a failed attempt is not an answer.
        if not isinstance(message, StepFailed) and (span := self._steps.pop(message.parent, None)):
            span.end()

    def _note_failure(self, message: StepFailed) -> None:
        span = self._steps[message.step]
        span.add_event(
            "failed",
            {
                "error.type": message.error,
                "bigpe.attempt": message.attempt,
                "bigpe.cause": message.cause[:300],
            },
        )
        if not message.will_retry:
            span.set_status(Status(StatusCode.ERROR, message.error))
            self._steps.pop(message.step).end()


class Tracing:
    """Sends traces over OTLP if the standard environment variables name a receiver.

    Use as a context manager around the run and pass each message to `show`.
    """

    def __init__(self) -> None:
        """ConfigError if a receiver is service and the exporter is not installed."""
        self._provider: Any = None
        self.tracer: RoundTracer | None = None
        if any(os.environ.get(name) for name in ENDPOINTS):
            self._provider = _provider()
            self.tracer = RoundTracer(self._provider.get_tracer("bigpe", VERSION))

    def __enter__(self) -> Tracing:
        return self

    def __exit__(self, *_: object) -> None:
        if self.tracer is not None:
            self.tracer.close()
        if self._provider is not None:
            # The run does not depend on its traces, so undelivered spans are dropped.
            with suppress(OSError, ValueError):
                self._provider.shutdown()

    def show(self, message: Message) -> None:
        """Trace a message, if there is a receiver."""
        if self.tracer is not None:
            self.tracer.show(message)


def _provider() -> Any:
    """A separate provider, so that spans of other packages in the process are not sent."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but the exporter is not installed; "
            "pip install 'bigpe[otel]', or unset it"
        ) from error
    service = os.environ.get("OTEL_SERVICE_NAME", "bigpe")
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
