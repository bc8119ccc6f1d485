"""Scores of different scorers never meet in a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bigpe.agents.messages.core import ImageScored
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.session import Session
from bigpe.services.core.errors import ConfigError, ScoreError
from bigpe.services.core.values import Image, RenderRequest, Score, ScoreRequest
from bigpe.services.score.service import ScoreConfig, ScoreService
from bigpe.services.store.blobs import BlobStore
from bigpe.services.store.call_cache import InMemoryCallCache
from bigpe.testing.fakes import FakeLlm, FakeRenderer, FakeScorer
from bigpe.testing.runs import CONFIG, NO_WAIT, transcript


class OtherScorer(FakeScorer):
    """The same scores, from what calls itself another scorer."""

    async def open(self) -> str:
        return "other-scorer"

    async def score(self, requests: Sequence[ScoreRequest]) -> list[Score | Exception]:
        made = await super().score(requests)
        return [
            item.model_copy(update={"fingerprint": "other-scorer"})
            if isinstance(item, Score)
            else item
            for item in made
        ]


async def go_on(folder: Path, scorer: FakeScorer, *, pause: bool = False) -> None:
    blobs = BlobStore(Project(folder).images)
    async with Session.open(
        "main",
        CONFIG,
        project=folder,
        llms={"default": FakeLlm()},
        renderer=FakeRenderer(blobs),
        scorer=scorer,
        retry=NO_WAIT,
    ) as session:
        async for message in session.run():
            if pause and isinstance(message, ImageScored):
                session.pause()


async def test_a_run_does_not_go_on_with_another_scorer(tmp_path: Path) -> None:
    blobs = BlobStore(Project(tmp_path).images)
    await go_on(tmp_path, FakeScorer(blobs), pause=True)
    before = transcript(tmp_path)
    with pytest.raises(ConfigError, match="with another scorer") as refused:
        await go_on(tmp_path, OtherScorer(blobs))
    assert "fingerprint: fake-sco -> other-sc" in str(refused.value)
    assert transcript(tmp_path) == before
    await go_on(tmp_path, FakeScorer(blobs))
    assert len(transcript(tmp_path)) > len(before)


class ChangedScorer(OtherScorer):
    """Says one thing when it is opened and another in its scores: its files were changed."""

    async def open(self) -> str:
        return "fake-scorer"


async def test_a_scorer_that_changes_in_a_run_gives_no_score(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    [picture] = await FakeRenderer(blobs).render([RenderRequest(prompt="fox", seed=1)])
    assert isinstance(picture, Image)
    service = ScoreService(ChangedScorer(blobs), InMemoryCallCache(), ScoreConfig())
    try:
        with pytest.raises(ScoreError, match="the scorer has changed"):
            await service.score(ScoreRequest(image=picture.digest, prompt="fox"))
    finally:
        await service.close()
