"""The core actors of a run."""

from __future__ import annotations

from autogen_core import SingleThreadedAgentRuntime
from opentelemetry.trace import NoOpTracerProvider

from bigpe.agents.coordinator import Coordinator
from bigpe.agents.generator import Generator
from bigpe.agents.gradient import GradientCalculator
from bigpe.agents.journal import Journal
from bigpe.agents.message_base import COORDINATOR
from bigpe.agents.messages import routes
from bigpe.agents.modifier import InstructionModifier
from bigpe.agents.role import Role
from bigpe.agents.workers import RenderWorker, ScoreWorker
from bigpe.runtime.config import BigpeConfig
from bigpe.runtime.stack import Services
from bigpe.services.library import SearchedPrompts
from bigpe.services.retrying import RetryRule


def kinds_for(actor: str) -> list[str]:
    """The kinds of message that are delivered to `actor`."""
    return [kind for kind, recipients in routes().items() if actor in recipients]


def quiet_runtime() -> SingleThreadedAgentRuntime:
    """AutoGen's runtime without its own spans: it makes six for each delivery. See `tracing`."""
    return SingleThreadedAgentRuntime(
        tracer_provider=NoOpTracerProvider(), ignore_unhandled_exceptions=False
    )


def core_actors(
    config: BigpeConfig,
    journal: Journal,
    coordinator: Coordinator,
    services: Services,
    library: SearchedPrompts,
    retry: RetryRule,
) -> dict[str, Role]:
    """The actors by name; none has joined a runtime yet."""
    llm, rules = services.llm, config.constraints
    at_once = config.run.concurrency  # a round never waits for another one's model calls to end
    return {
        COORDINATOR: coordinator,
        "generator": Generator(
            journal,
            llm("generator"),
            constraints=rules,
            concurrency=at_once,
            retry=retry,
        ),
        "gradient": GradientCalculator(
            journal,
            llm("gradient"),
            sees=llm("gradient").sees,
            concurrency=at_once,
            retry=retry,
        ),
        "modifier": InstructionModifier(
            journal,
            llm("modifier"),
            library.search,
            constraints=rules,
            concurrency=at_once,
            retry=retry,
        ),
        "renderer": RenderWorker(journal, services.render, retry=retry),
        "scorer": ScoreWorker(journal, services.score, retry=retry),
    }
