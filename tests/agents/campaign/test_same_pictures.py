"""A renderer that does not heed the prompt stops a run: no gain could ever be other than 0."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from bigpe.agents.campaign.stopping import SAME_PICTURES
from bigpe.agents.messages.core import ImageScored, Message
from bigpe.testing.campaigns import answer, drive, plan


def painted(image: Callable[[ImageScored], str]) -> Callable[[Message], Message | None]:
    """The usual answers, with these images."""

    def reply(message: Message) -> Message | None:
        usual = answer(message)
        if isinstance(usual, ImageScored):
            return usual.model_copy(update={"image": image(usual), "score": 0.25})
        return usual

    return reply


@pytest.mark.parametrize(
    ("image", "rounds"),
    [
        (lambda scored: "grid", 0),
        # A workflow with a seed and without the prompt: what a naive prompt and its rewrite share.
        (lambda scored: str(scored.seed), 2),
    ],
)
def test_a_prompt_without_effect_stops_the_run(
    image: Callable[[ImageScored], str], rounds: int
) -> None:
    campaign, _, _ = drive(plan(rounds=20), random.Random(1), painted(image))
    assert campaign.failed and campaign.stopped is not None
    assert "does not reach the renderer" in campaign.stopped.reason
    assert campaign.applied == rounds and (rounds == 0 or 3 * rounds >= SAME_PICTURES)


def test_a_picture_that_some_rewrites_leave_alone_stops_nothing() -> None:
    def image(scored: ImageScored) -> str:
        kept = scored.purpose == "rewrite" and "thing1" in scored.prompt
        return f"{scored.naive if kept else scored.prompt} {scored.seed}"

    campaign, _, _ = drive(plan(rounds=8), random.Random(1), painted(image))
    assert not campaign.failed and campaign.applied == 8
