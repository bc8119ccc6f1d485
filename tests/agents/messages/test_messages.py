"""What the message classes declare: their recipients, and what a failed step loses."""

from __future__ import annotations

import pytest

from bigpe.agents.actors.base import Actor
from bigpe.agents.actors.coordinator import Coordinator
from bigpe.agents.actors.generator import Generator
from bigpe.agents.actors.gradient_calculator import GradientCalculator
from bigpe.agents.actors.modifier import InstructionModifier
from bigpe.agents.actors.render_score import RenderActor, ScoreActor
from bigpe.agents.messages.base import COORDINATOR, Message
from bigpe.agents.messages.core import (
    CritiqueRequested,
    ProposalRequested,
    RenderRequested,
    RewriteRequested,
    ScoreRequested,
    StepFailed,
    parse_message,
    routes,
)
from bigpe.agents.messages.failure_scope import (
    BatchLost,
    FailureScope,
    GradientsLost,
    ImageLost,
    PromptLost,
    ReviewLost,
    StepLost,
)
from bigpe.agents.messages.plugin import ReviewRequested
from bigpe.runtime.run.wiring.actors import kinds_for
from bigpe.services.core.values import Instruction

ACTORS: dict[str, type[Actor]] = {
    COORDINATOR: Coordinator,
    "generator": Generator,
    "gradient": GradientCalculator,
    "modifier": InstructionModifier,
    "renderer": RenderActor,
    "scorer": ScoreActor,
}
IDS = {"mid": "m", "run": "r", "parent": "p", "round": 2}
IMAGE = {"purpose": "naive", "naive": "a cat", "prompt": "a cat, oil", "seed": 3}


@pytest.mark.parametrize("name", ACTORS)
def test_an_actor_handles_every_kind_that_is_delivered_to_it_and_no_other(name: str) -> None:
    handlers = ACTORS[name]._discover_handlers()  # pyright: ignore[reportPrivateUsage]
    handled = {kind.__name__ for handler in handlers for kind in handler.target_types}
    assert handled == set(kinds_for(name))


def test_every_recipient_is_a_core_actor() -> None:
    assert {name for recipients in routes().values() for name in recipients} == set(ACTORS)


@pytest.mark.parametrize(
    ("request_", "scope"),
    [
        (
            RenderRequested(**IDS, **IMAGE),
            ImageLost(purpose="naive", naive="a cat", seed=3, rendered=False),
        ),
        (
            ScoreRequested(**IDS, **IMAGE, image="d"),
            ImageLost(purpose="naive", naive="a cat", seed=3, rendered=True),
        ),
        (RewriteRequested(**IDS, instruction=Instruction(text="x"), tasks=()), BatchLost()),
        (
            CritiqueRequested(
                **IDS, instruction=Instruction(text="x"), rows=(), best=None, worst=None,
                professional=None, seed=1, improvements=1,
            ),
            GradientsLost(),
        ),
        (ReviewRequested(**IDS, role="g", subject={}), ReviewLost()),
        (
            ProposalRequested(
                **IDS, instruction=Instruction(text="x"), gradients=(), rows=(), pairs=(),
                living=(), batch=(), seed=1,
            ),
            StepLost(),
        ),
    ],
)  # fmt: skip
def test_a_request_declares_what_its_failure_loses(request_: Message, scope: FailureScope) -> None:
    assert request_.failure_scope() == scope


SCOPES: tuple[FailureScope, ...] = (
    ImageLost(purpose="pilot", naive="a cat", seed=3, rendered=True),
    PromptLost(naive="a dog", seed=4),
    BatchLost(),
    GradientsLost(),
    ReviewLost(),
    StepLost(),
)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_stored_failure_keeps_its_scope(scope: FailureScope) -> None:
    failure = StepFailed(
        **IDS, step="s", step_kind="k", actor="a", error="E", cause="c", attempt=1,
        will_retry=False, scope=scope,
    )  # fmt: skip
    assert parse_message(failure.model_dump_json()) == failure
    assert failure.naive == getattr(scope, "naive", "")
