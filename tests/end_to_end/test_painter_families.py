"""Whole runs on tiny painters of three families: FLUX.2, Qwen-Image, an SDXL file with a LoRA.

The pipelines are of the real classes and have random weights, so gains mean nothing here.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pictures
from support.tiny_families import make_family
from support.weight_files import save_checkpoint, save_lora, tiny_sdxl

from bigpe.agents.messages.core import ArmPulled, ImageRendered, PromptsRewritten
from bigpe.runtime.run.session import Session
from bigpe.services.core.values import Image, RenderRequest, Score, ScoreRequest
from bigpe.services.render.config import RenderConfig
from bigpe.services.render.diffusers.process import DiffusersBackend
from bigpe.services.render.prompt_profile import profile_of
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fake_reasoner import FakeReasoner
from bigpe.testing.runs import NO_WAIT, messages_of


class InProcess:
    """The code of a painter's process, without the process."""

    def __init__(self, config: RenderConfig, images: Path) -> None:
        self._backend = DiffusersBackend(config, images)

    async def open(self) -> str:
        return self._backend.fingerprint()

    async def close(self) -> None: ...

    async def render(self, requests: Sequence[RenderRequest]) -> list[Image]:
        items = [request.content() for request in requests]
        answer = self._backend.handle("render", {"items": items})
        return [Image.model_validate(item) for item in answer["items"]]


class Brightness:
    """A scorer: the mean of the pixels."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    async def open(self) -> str:
        return "brightness"

    async def close(self) -> None: ...

    async def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        return [Score(value=self._value(each.image), fingerprint="brightness") for each in requests]

    def _value(self, image: str) -> float:
        return float(np.asarray(Pictures.open(io.BytesIO(self._blobs.read(image)))).mean() / 255)


def painter(family: str, folder: Path) -> dict[str, Any]:
    """`[render]` of a tiny painter that is made in the folder."""
    usual = {"steps": 1, "threads": 1, "device": "cpu"}
    if family == "sdxl":
        pipeline = tiny_sdxl()
        pipeline.save_pretrained(folder / "base")
        model = save_checkpoint(pipeline, folder / "sdxl.safetensors")
        file = save_lora(pipeline, folder / "lora.safetensors")
        lora = {"model": str(file), "triggers": ["ohwx"]}
        size = {"width": 16, "height": 24}
        return {**usual, **size, "model": str(model), "base": str(folder / "base"), "lora": [lora]}
    model = make_family(family, folder / "model")
    size = {"width": 32, "height": 48}
    guided = {"guidance": 2.0, "negative_prompt": " "} if "Qwen" in family else {}
    return {**usual, **size, **guided, "model": str(model)}


@pytest.mark.parametrize(
    ("family", "form"),
    [("Flux2KleinPipeline", "prose"), ("QwenImagePipeline", "prose"), ("sdxl", "tags")],
)
async def test_a_whole_run(family: str, form: str, tmp_path: Path) -> None:
    render = painter(family, tmp_path)
    subjects = ("a cat", "a boat", "two foxes", "an old bridge", "a market", "a child with a kite")
    prompts = [f"ohwx {subject} {place}" for subject in subjects for place in ("at sea", "at home")]
    (tmp_path / "naive.txt").write_text("\n".join(prompts))
    config = {
        "run": {"rounds": 3, "batch_size": 2, "pilot_prompts": 2},
        "llm": {"default": {"provider": "openai", "model": "fake", "base_url": "http://localhost"}},
        "render": render,
        "data": {"naive": str(tmp_path / "naive.txt")},
    }
    assert profile_of(RenderConfig.model_validate(render)).form == form
    blobs = BlobStore(tmp_path / "images")
    async with Session.open(
        "main",
        config,
        project=tmp_path,
        llms={"default": FakeReasoner(log=tmp_path / "calls.jsonl")},
        renderer=InProcess(RenderConfig.model_validate(render), tmp_path / "images"),
        scorer=Brightness(blobs),
        retry=NO_WAIT,
    ) as session:
        async for _ in session.run():
            pass
    assert len([m for m in messages_of(tmp_path, ArmPulled) if m.gains]) == 3
    pictures = messages_of(tmp_path, ImageRendered)
    sizes = {Pictures.open(io.BytesIO(blobs.read(m.image.digest))).size for m in pictures}
    assert sizes == {(render["width"], render["height"])}
    rewrites = [r for m in messages_of(tmp_path, PromptsRewritten) for r in m.rewrites]
    assert rewrites
    if family == "sdxl":
        assert all("ohwx" in r.text for r in rewrites)
