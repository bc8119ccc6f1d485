"""The same number of rounds in flight and the same seed: the same run, whichever stage is slow."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigpe.runtime.project.paths import Project
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fakes import FakeLlm, FakeRenderer
from bigpe.testing.runs import CONFIG, run_fake, transcript

delays = st.sampled_from((0.0, 0.002, 0.006))


async def run_with(folder: Path, concurrency: int, llm_s: float, render_s: float) -> None:
    config = {"run": {**CONFIG["run"], "rounds": 6, "concurrency": concurrency}}
    renderer = FakeRenderer(BlobStore(Project(folder).images), delay_s=render_s)
    await run_fake(folder, config, llm=FakeLlm(delay_s=llm_s), renderer=renderer)


@pytest.mark.parametrize("concurrency", [1, 2, 3, 4])
@settings(max_examples=2, deadline=None)
@given(llm_s=delays, render_s=delays)
def test_stage_times_do_not_show(concurrency: int, llm_s: float, render_s: float) -> None:
    import asyncio

    with tempfile.TemporaryDirectory() as place:
        first, other = Path(place) / "one", Path(place) / "other"
        asyncio.run(run_with(first, concurrency, 0.004, 0.0))
        asyncio.run(run_with(other, concurrency, llm_s, render_s))
        assert transcript(first) == transcript(other)
