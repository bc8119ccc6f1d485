"""The page on which people rate pairs of images, blind."""

from __future__ import annotations

import time
from typing import NamedTuple
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from bigpe.runtime.evaluation.rating import Question, RatingPair, Vote, in_order, votes_of
from bigpe.runtime.project.paths import Project
from bigpe.runtime.viewer.pages.images import Thumbnails
from bigpe.runtime.viewer.server import Pages, asset
from bigpe.services.store.database import Store

LONGEST_FORM = 4096
"""Most bytes of a form."""
CHOICES = ("left", "right", "tie")


class Rater(NamedTuple):
    """A person and the pairs that they rate."""

    run: str
    name: str
    question: Question
    limit: int
    """Most pairs of this person."""


class RatePages:
    """Displays pair after pair. A vote is stored before the next pair is displayed."""

    def __init__(self, project: Project, store: Store, rater: Rater) -> None:
        self._store = store
        self._rater = rater
        self._pairs = in_order(rater.question.pairs, rater.run, rater.name, rater.limit)
        self._images = Thumbnails(project.images)
        self._pages = Pages()
        self._displayed_at: dict[str, float] = {}

    def app(self) -> Starlette:
        """The pages as an ASGI application; serve it writable."""
        return Starlette(
            routes=[
                Route("/", self._next_pair),
                Route("/vote", self._vote, methods=["POST"]),
                Route("/undo", self._undo, methods=["POST"]),
                Route("/image/{digest}.png", self._images.whole),
                Route("/assets/{name}", asset),
            ]
        )

    async def _votes(self) -> list[Vote]:
        question = self._rater.question
        votes = await votes_of(self._store, self._rater.run, question.first, question.second)
        return [vote for vote in votes if vote.rater == self._rater.name]

    async def _next_pair(self, request: Request) -> Response:
        votes = await self._votes()
        rated = {(vote.prompt, vote.seed) for vote in votes}
        left = [pair for pair in self._pairs if (pair.prompt, pair.seed) not in rated]
        pair = left[0] if left else None
        if pair is not None:
            self._displayed_at[pair.key] = time.monotonic()
        return self._pages.page(
            request,
            "pages/rate.html",
            run=self._rater.run,
            pair=pair,
            sides=self._sides(pair) if pair else (),
            done=len(self._pairs) - len(left),
            total=len(self._pairs),
            undoable=bool(votes),
        )

    def _sides(self, pair: RatingPair) -> tuple[str, str]:
        """Digests of the left and the right image."""
        first, second = pair.first.image, pair.second.image
        first_left = pair.first_is_left(self._rater.run, self._rater.name)
        return (first, second) if first_left else (second, first)

    async def _vote(self, request: Request) -> Response:
        form = await _form(request)
        pair = next((pair for pair in self._pairs if pair.key == form.get("pair")), None)
        if pair is None or form.get("choice") not in CHOICES:
            raise HTTPException(400, "this is not a vote on a pair of this page")
        vote = self.vote_on(pair, form["choice"])
        await self._store.write([("put_vote", vote.model_dump())])
        return self._back(request)

    def vote_on(self, pair: RatingPair, choice: str) -> Vote:
        """The vote of a click on "left", "right" or "tie"."""
        rater, question = self._rater, self._rater.question
        left = "first" if pair.first_is_left(rater.run, rater.name) else "second"
        right = "second" if left == "first" else "first"
        now = time.monotonic()
        return Vote.model_validate(
            {
                "run": rater.run,
                "rater": rater.name,
                "first": question.first,
                "second": question.second,
                "source": question.source,
                "prompt": pair.prompt,
                "seed": pair.seed,
                "first_image": pair.first.image,
                "second_image": pair.second.image,
                "first_score": pair.first.score,
                "second_score": pair.second.score,
                "left_side": left,
                "choice": {"left": left, "right": right, "tie": "tie"}[choice],
                "ms": 1000 * (now - self._displayed_at.get(pair.key, now)),
                "ts": time.time(),
            }
        )

    async def _undo(self, request: Request) -> Response:
        votes = await self._votes()
        if votes:
            await self._store.write([("drop_vote", votes[-1].model_dump())])
        return self._back(request)

    def _back(self, request: Request) -> Response:
        return RedirectResponse(f"{request.scope['root_path']}/", 303)


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LONGEST_FORM:
            raise HTTPException(413, "this form is too long")
    fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=8)
    return {name: values[0] for name, values in fields.items()}
