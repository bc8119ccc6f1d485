"""Models that many runs share: same fingerprints, measured once, closed by their owner."""

from __future__ import annotations

from pathlib import Path

from bigpe.runtime.experiments.shared_models import SharedModels, Stopwatches, share_models
from bigpe.services.core.values import Image, RenderRequest, ScoreRequest
from bigpe.services.llm.config import client_fingerprint
from bigpe.services.llm.service import LlmConfig, LlmRequest, LlmService, Turn
from bigpe.services.processes.batch_queue import parallelism_of
from bigpe.services.score.service import SupportsImages
from bigpe.services.store.blobs import BlobStore
from bigpe.services.store.call_cache import InMemoryCallCache
from bigpe.testing.fakes import FakeLlm, FakeRenderer, FakeScorer


class Parallel(FakeLlm):
    parallelism = 3
    fingerprint = "weights"
    closed = False

    async def close(self) -> None:
        self.closed = True


async def test_shared_models_are_the_same_models_to_a_run(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    client = Parallel()
    own = SharedModels(
        FakeRenderer(blobs), FakeScorer(blobs), {"default": client, "modifier": client}
    )
    watches = Stopwatches(tmp_path / "seconds.json")
    shared = share_models(own, watches)
    assert shared.llms["default"] is shared.llms["modifier"]
    assert client_fingerprint(shared.llms["default"], LlmConfig()) == client_fingerprint(
        client, LlmConfig()
    )
    assert parallelism_of(shared.llms["default"], 16) == 3
    serial = share_models(SharedModels(own.renderer, own.scorer, {"default": FakeLlm()}), watches)
    assert parallelism_of(serial.llms["default"], 16) == 16
    assert await shared.renderer.open() == await own.renderer.open()
    assert isinstance(shared.scorer, SupportsImages) == isinstance(own.scorer, SupportsImages)
    await shared.llms["default"].close()
    assert not client.closed


async def test_the_items_of_all_calls_are_counted(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    own = SharedModels(FakeRenderer(blobs), FakeScorer(blobs), {"default": FakeLlm()})
    watches = Stopwatches(tmp_path / "seconds.json")
    shared = share_models(own, watches)
    [image] = await shared.renderer.render([RenderRequest(prompt="a fox", seed=1)])
    assert isinstance(image, Image)
    await shared.scorer.score([ScoreRequest(image=image.digest, prompt="a fox")] * 2)
    service = LlmService(shared.llms["default"], InMemoryCallCache())
    turn = Turn(role="user", text="a fox")
    await service.ask(LlmRequest(turns=(turn,), seed=1, temperature=0.0, max_tokens=8))
    assert {kind: watch.items for kind, watch in watches.of.items()} == {
        "render": 1,
        "score": 2,
        "llm": 1,
    }
