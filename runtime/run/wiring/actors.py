"""The core actors of a run."""

from __future__ import annotations

from autogen_core import SingleThreadedAgentRuntime
from opentelemetry.trace import NoOpTracerProvider

from bigpe.agents.actors.base import Actor
from bigpe.agents.actors.coordinator import Coordinator
from bigpe.agents.actors.generator import Generator
from bigpe.agents.actors.gradient_calculator import GradientCalculator
from bigpe.agents.actors.journal import Journal
from bigpe.agents.actors.modifier import InstructionModifier
from bigpe.agents.actors.render_score import RenderActor, ScoreActor
from bigpe.agents.messages.base import COORDINATOR
from bigpe.agents.messages.core import routes
from bigpe.runtime.project.config import MOST_IN_FLIGHT
from bigpe.runtime.run.services import Services
from bigpe.services.core.retrying import RetryRule
from bigpe.services.prompt_data.library import SearchedPrompts


def kinds_for(actor: str) -> list[str]:
    """The kinds of message that are delivered to `actor`."""
    return [kind for kind, recipients in routes().items() if actor in recipients]


def quiet_runtime() -> SingleThreadedAgentRuntime:
    """AutoGen's runtime without its own spans, which are six per delivery. See `tracing`."""
    return SingleThreadedAgentRuntime(
        tracer_provider=NoOpTracerProvider(), ignore_unhandled_exceptions=False
    )


def core_actors(
    journal: Journal,
    coordinator: Coordinator,
    services: Services,
    library: SearchedPrompts,
    retry: RetryRule,
) -> dict[str, Actor]:
    """Make the core actors, by name. They still have to join a runtime."""
    llm, style = services.llm, services.style
    at_once = MOST_IN_FLIGHT  # so no round waits for model calls of another round
    return {
        COORDINATOR: coordinator,
        "generator": Generator(
            journal,
            llm("generator"),
            style=style,
            concurrency=at_once,
            retry=retry,
        ),
        "gradient": GradientCalculator(
            journal,
            llm("gradient"),
            sees=llm("gradient").sees,
            style=style,
            concurrency=at_once,
            retry=retry,
        ),
        "modifier": InstructionModifier(
            journal,
            llm("modifier"),
            library.search,
            style=style,
            concurrency=at_once,
            retry=retry,
        ),
        "renderer": RenderActor(journal, services.render, retry=retry),
        "scorer": ScoreActor(journal, services.score, retry=retry),
    }
