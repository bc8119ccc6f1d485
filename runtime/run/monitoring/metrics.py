"""Prometheus metrics of a run: `bigpe run --metrics-port 9464`."""

from __future__ import annotations

import threading
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from bigpe.agents.messages.core import (
    ArmPulled,
    ImageScored,
    LlmTurn,
    Message,
    PoolChanged,
    StepFailed,
)
from bigpe.runtime.run.session import Session
from bigpe.services.core.errors import ConfigError

HOST = "127.0.0.1"


class RunMeter:
    """Counts the messages of a session and serves the figures over HTTP.

    Use as a context manager around the run and pass each message to `show`.
    """

    def __init__(self, session: Session, port: int) -> None:
        """Listen on `port` of this machine only; 0: any free port. ConfigError if it is in use."""
        self.registry = CollectorRegistry()
        own = self.registry
        self._session = session
        self.rounds = Gauge("bigpe_run_round", "The last finished round", registry=own)
        self.best = Gauge("bigpe_run_best_gain", "Mean gain of the best instruction", registry=own)
        self.images = Counter("bigpe_run_scored", "Pictures scored", ["purpose"], registry=own)
        self.failures = Counter(
            "bigpe_run_failures", "Failed tries", ["actor", "final"], registry=own
        )
        self.tokens = Counter("bigpe_run_tokens", "Language model tokens", registry=own)
        self.missing = Counter("bigpe_run_missing", "Comparisons without result", registry=own)
        waiting = Gauge("bigpe_run_waiting_items", "Items in a queue", ["queue"], registry=own)
        services = session.services
        waiting.labels("render").set_function(lambda: services.render.queue.depth)
        waiting.labels("score").set_function(lambda: services.score.queue.depth)
        self._server, self._thread = _serve(port, own)
        self.port = self._server.server_port

    def __enter__(self) -> RunMeter:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def show(self, message: Message) -> None:
        """Count a message."""
        match message:
            case ImageScored():
                self.images.labels(message.purpose).inc()
            case LlmTurn():
                self.tokens.inc(message.prompt_tokens + message.completion_tokens)
            case StepFailed():
                self.failures.labels(message.actor, str(not message.will_retry).lower()).inc()
            case ArmPulled():
                self.missing.inc(message.missing)
            case PoolChanged():
                self.rounds.set(message.round)
                mean = self._session.pool.best().mean
                if mean is not None:
                    self.best.set(mean)
            case _:
                pass


def _serve(port: int, registry: CollectorRegistry) -> tuple[WSGIServer, threading.Thread]:
    try:
        return start_http_server(port, addr=HOST, registry=registry)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--metrics-port {port}: cannot listen there: {error}") from error
