"""A run does not go on with another renderer; where the work is done may change."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from bigpe.agents.messages.core import PoolChanged
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.session import Session
from bigpe.services.core.errors import ConfigError
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fakes import FakeLlm, FakeRenderer, FakeScorer
from bigpe.testing.runs import CONFIG, NO_WAIT, open_fake, run_fake, transcript

SMALL: dict[str, Any] = {"run": {**CONFIG["run"], "rounds": 4}}
ELSEWHERE: dict[str, Any] = {
    "run": {**SMALL["run"], "durability": "full"},
    "llm": {"default": {"timeout_s": 7.0, "concurrency": 3, "allow_providers": ["mine."]}},
    "render": {
        "call_timeout_s": 9.0,
        "max_batch": 1,
        "http": {"urls": ["http://elsewhere:1"], "concurrency": 1, "max_mb": 1.0},
    },
    "score": {"call_timeout_s": 9.0, "max_batch": 1, "http": {"urls": ["http://elsewhere:2"]}},
    "workers": {"address": "elsewhere:3", "render": {"max": 3}, "score": {"gpus": 0.5}},
}
"""Another timeout, other addresses, smaller batches: everything but what results depend on."""


class Renderer(FakeRenderer):
    """A renderer of some release, which it may tell."""

    def __init__(self, folder: Path, release: str, *, tells: bool = True) -> None:
        super().__init__(BlobStore(Project(folder).images))
        self._release = release
        self.fingerprint_inputs: dict[str, Any] = {}
        self._tells = tells

    async def open(self) -> str:
        if self._tells:
            self.fingerprint_inputs = {
                "weights": "a" * 64,
                "torch": self._release,
                "settings": {"steps": 4},
            }
        return f"{self._release}-renderer"


async def begin(folder: Path, renderer: FakeRenderer) -> set[tuple[str, str]]:
    """A run that is paused after a round."""
    async with open_fake(folder, SMALL, renderer=renderer) as session:
        async for message in session.run():
            if isinstance(message, PoolChanged):
                session.pause()
        assert not session.complete
    return transcript(folder)


async def go_on(folder: Path, config: dict[str, Any], renderer: FakeRenderer) -> None:
    async with open_fake(folder, config, renderer=renderer) as session:
        async for _ in session.run():
            pass
        assert session.complete


def stored(folder: Path) -> dict[str, Any]:
    """The run's configuration."""
    connection = sqlite3.connect(folder / "bigpe.db")
    [(config,)] = connection.execute("SELECT config FROM run")
    connection.close()
    return json.loads(config)


async def test_another_renderer_is_refused_with_the_difference_and_the_way_out(
    tmp_path: Path,
) -> None:
    before = await begin(tmp_path, Renderer(tmp_path, "2.5.1"))
    with pytest.raises(ConfigError) as refused:
        await go_on(tmp_path, SMALL, Renderer(tmp_path, "2.6.0"))
    message = str(refused.value)
    assert 'has begun with another renderer than the present one:\n  torch: "2.5' in message
    assert '  torch: "2.5.1" -> "2.6.0"\n' in message and "weights" not in message
    assert "Restore what was changed, then run `bigpe resume main`" in message
    assert message.endswith("\n  bigpe fork main NEW-NAME")
    assert transcript(tmp_path) == before
    await go_on(tmp_path, SMALL, Renderer(tmp_path, "2.5.1"))
    assert len(transcript(tmp_path)) > len(before)


async def test_of_one_that_tells_nothing_the_fingerprints_are_shown(tmp_path: Path) -> None:
    await begin(tmp_path, Renderer(tmp_path, "a", tells=False))
    with pytest.raises(ConfigError, match=r"\n  fingerprint: a-render -> b-render\n"):
        await go_on(tmp_path, SMALL, Renderer(tmp_path, "b", tells=False))


async def test_a_fork_may_have_another_renderer(tmp_path: Path) -> None:
    await begin(tmp_path, Renderer(tmp_path, "2.5.1"))
    renderer = Renderer(tmp_path, "2.6.0")
    async with Session.open(
        "new",
        SMALL,
        project=tmp_path,
        parent="main",
        llms={"default": FakeLlm()},
        renderer=renderer,
        scorer=FakeScorer(BlobStore(Project(tmp_path).images)),
        retry=NO_WAIT,
    ) as session:
        async for _ in session.run():
            pass
        assert session.complete


async def test_where_and_how_the_work_is_done_changes_nothing(tmp_path: Path) -> None:
    await run_fake(tmp_path / "whole", SMALL)
    folder = tmp_path / "p"
    await begin(folder, FakeRenderer(BlobStore(Project(folder).images)))
    async with open_fake(folder, ELSEWHERE) as session:
        verdicts = {change.key: change.verdict for change in session.changes}
        async for _ in session.run():
            pass
    assert set(verdicts.values()) == {"changes no result", "if the model is the same"}
    assert len(verdicts) >= 13
    assert transcript(folder) == transcript(tmp_path / "whole")
    assert stored(folder)["render"]["http"]["urls"] == ["http://elsewhere:1"]
    async with open_fake(folder, ELSEWHERE) as session:
        assert session.changes == ()


async def test_an_address_with_another_model_behind_it_is_refused_and_not_kept(
    tmp_path: Path,
) -> None:
    before = await begin(tmp_path, Renderer(tmp_path, "2.5.1"))
    config = stored(tmp_path)
    moved = SMALL | {"render": {"http": {"urls": ["http://elsewhere:1"]}}}
    with pytest.raises(ConfigError, match='torch: "2.5.1" -> "2.6.0"'):
        await go_on(tmp_path, moved, Renderer(tmp_path, "2.6.0"))
    assert (transcript(tmp_path), stored(tmp_path)) == (before, config)
    # The run's own settings still lead to its own renderer.
    await go_on(tmp_path, SMALL, Renderer(tmp_path, "2.5.1"))
