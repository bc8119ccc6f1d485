"""The actors that call the render service and the score service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from autogen_core import MessageContext, message_handler

from bigpe.agents.actors.base import Actor
from bigpe.agents.actors.journal import Journal
from bigpe.agents.messages.core import (
    ImageRendered,
    ImageScored,
    Message,
    RenderRequested,
    ScoreRequested,
)
from bigpe.services.core.retrying import RetryRule
from bigpe.services.core.values import Image, RenderRequest, Score, ScoreRequest

IN_FLIGHT = 64
"""Requests of an actor in flight. The queue of the service bounds and batches them."""


class RenderClient(Protocol):
    """A render service."""

    async def render(self, request: RenderRequest) -> Image:
        """Render an image into the blob store. Raises RenderError."""
        ...


class ScoreClient(Protocol):
    """A scorer service."""

    async def score(self, request: ScoreRequest) -> Score:
        """The preference score of an image. Raises ScoreError."""
        ...


class RenderActor(Actor):
    """Consumes RenderRequested, emits ImageRendered and ScoreRequested."""

    def __init__(
        self, journal: Journal, service: RenderClient, *, retry: RetryRule | None = None
    ) -> None:
        super().__init__("Renders images", journal, concurrency=IN_FLIGHT, retry=retry)
        self._service = service

    @message_handler
    async def on_request(self, message: RenderRequested, ctx: MessageContext) -> None:
        """Render one image."""
        await self.perform(message, self._render)

    async def _render(self, message: RenderRequested) -> Sequence[Message]:
        image = await self._service.render(
            RenderRequest(
                prompt=message.prompt,
                seed=message.seed,
                negative=message.negative,
                priority=message.round,
            )
        )
        rendered = message.followed_by(ImageRendered, image=image)
        truncated = max(image.truncated_tokens.values(), default=0)
        wanted = rendered.followed_by(ScoreRequested, image=image.digest, truncated=truncated)
        return [rendered, wanted]


class ScoreActor(Actor):
    """Consumes ScoreRequested, emits ImageScored."""

    def __init__(
        self, journal: Journal, service: ScoreClient, *, retry: RetryRule | None = None
    ) -> None:
        super().__init__("Scores images", journal, concurrency=IN_FLIGHT, retry=retry)
        self._service = service

    @message_handler
    async def on_request(self, message: ScoreRequested, ctx: MessageContext) -> None:
        """Score one image against its naive prompt."""
        await self.perform(message, self._score)

    async def _score(self, message: ScoreRequested) -> Sequence[Message]:
        score = await self._service.score(
            ScoreRequest(image=message.image, prompt=message.naive, priority=message.round)
        )
        scored = message.followed_by(
            ImageScored,
            image=message.image,
            truncated=message.truncated,
            naive_truncated=score.truncated_tokens,
            score=score.value,
            scorer=score.fingerprint,
        )
        return [scored]
