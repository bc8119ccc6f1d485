"""The scorer on a tiny CLIPModel of the real format."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures
from safetensors.torch import load_file, save_file
from support.tiny_models import make_scorer

from bigpe.services.core.errors import ConfigError, ScoreError
from bigpe.services.core.values import Score, ScoreRequest, digest
from bigpe.services.score.clip.preprocessing import FolderPreprocess
from bigpe.services.score.clip.process import ClipBackend
from bigpe.services.score.service import ClipScorer, ScoreConfig, ScoreService
from bigpe.services.store.blobs import BlobStore
from bigpe.services.store.call_cache import InMemoryCallCache


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scorer(tmp_path_factory.mktemp("tiny") / "scorer")


def config_of(model: Path | str) -> ScoreConfig:
    return ScoreConfig(model=str(model), device="cpu", threads=1)


def picture(seed: int, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> bytes:
    """A random PNG of (width, height)."""
    levels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Pictures.fromarray(levels).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def scored(backend: ClipBackend, *pairs: tuple[str, str]) -> list[dict[str, Any]]:
    items = [{"image": image, "prompt": prompt} for image, prompt in pairs]
    return backend.handle("score", {"items": items})["items"]


def test_a_score_is_the_cosine_that_transformers_computes(model: Path, tmp_path: Path) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    image = BlobStore(tmp_path).put(picture(1))
    [config] = scored(ClipBackend(config_of(model), tmp_path), (image, "a red fox"))
    reference: Any = CLIPModel.from_pretrained(model).eval()
    tokens = CLIPTokenizer.from_pretrained(model)(["a red fox"], return_tensors="pt")
    with Pictures.open(io.BytesIO(picture(1))) as opened:
        levels = np.asarray(opened).astype(np.float32) / 255
    levels = (levels - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]
    pixels = torch.tensor(levels, dtype=torch.float32).permute(2, 0, 1)[None]
    with torch.inference_mode():
        out = reference(**tokens, pixel_values=pixels)
        cosine = float(out.logits_per_image / reference.logit_scale.exp())
    assert config["value"] == pytest.approx(cosine, abs=1e-6)
    assert config["truncated_tokens"] == 0


def test_company_and_repetition_change_nothing(model: Path, tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    images = [blobs.put(picture(seed)) for seed in range(3)]
    backend = ClipBackend(config_of(model), tmp_path)
    pairs = [(image, f"a fox {n}") for n, image in enumerate(images)]
    together = scored(backend, *pairs)
    assert len({expected["value"] for expected in together}) == 3
    other = ClipBackend(config_of(model), tmp_path)
    assert [scored(other, pair)[0] for pair in reversed(pairs)] == together[::-1]
    assert scored(backend, *pairs) == together


def test_any_picture_and_prompt_is_scored(model: Path, tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    backend = ClipBackend(config_of(model), tmp_path)
    shapes = [((32, 32), "L"), ((50, 33), "RGBA"), ((20, 90), "P"), ((64, 64), "1")]
    pairs = [(blobs.put(picture(1, *shape)), "狐 🦊\x00") for shape in shapes]
    assert all(-1 <= expected["value"] <= 1 for expected in scored(backend, *pairs))
    [result] = scored(backend, (pairs[0][0], "fox " * 1250))
    assert result["truncated_tokens"] >= 1250 + 2 - 77


def test_a_bad_picture_fails_alone(model: Path, tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    good = blobs.put(picture(1))
    bad = [
        blobs.put(b"no picture"),
        blobs.put(picture(2)[:60]),
        blobs.put(picture(3, (400, 4))),
        "0" * 64,
    ]
    config = scored(ClipBackend(config_of(model), tmp_path), *((b, "fox") for b in (*bad, good)))
    assert ["error" in item for item in config] == [True, True, True, True, False]


def test_a_score_that_is_not_finite_is_a_failure(model: Path, tmp_path: Path) -> None:
    image = BlobStore(tmp_path).put(picture(1))
    backend = ClipBackend(config_of(model), tmp_path)
    torch.nn.init.constant_(backend._model.vision_model.post_layernorm.weight, float("nan"))
    [result] = scored(backend, (image, "fox"))
    assert "not a number" in result["error"]


def test_a_lack_of_memory_names_the_setting_to_lower(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = BlobStore(tmp_path).put(picture(1))
    backend = ClipBackend(config_of(model), tmp_path)

    def too_much(pixels: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(backend, "_see", too_much)
    with pytest.raises(ScoreError, match=r"out of memory.*; lower \[score\] max_batch"):
        scored(backend, (image, "fox"))


@pytest.mark.parametrize(
    ("result", "shape"),
    [
        ({"size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}}, (8, 8)),
        ({"size": 9, "crop_size": 8}, (8, 8)),
        ({"size": {"height": 6, "width": 7}, "do_center_crop": False}, (6, 7)),
        ({"size": {"shortest_edge": 8}, "do_center_crop": False}, (8, 16)),
        ({"size": 8, "do_resize": False, "do_center_crop": False}, (20, 40)),
    ],
)
def test_preprocessing_is_read_from_the_folder(
    result: dict[str, Any], shape: tuple[int, int]
) -> None:
    grey = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    ready = FolderPreprocess.read({**grey, **result})(torch.full((1, 3, 20, 40), 0.75))
    assert ready.shape == (1, 3, *shape)
    assert torch.allclose(ready, torch.tensor(0.5))


def test_folders_that_are_no_scorer_are_told(model: Path, tmp_path: Path) -> None:
    import shutil

    (tmp_path / "empty").mkdir()
    half = shutil.copytree(model, tmp_path / "half")
    weights = load_file(half / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "vision" not in name}
    save_file(kept, half / "model.safetensors", metadata={"format": "pt"})
    cut = shutil.copytree(model, tmp_path / "cut")
    (cut / "model.safetensors").write_bytes(b"\0" * 99)
    pickled = shutil.copytree(model, tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save(weights, pickled / "pytorch_model.bin")
    nearest = make_scorer(tmp_path / "nearest", resample=0)
    for place, words in (
        (tmp_path / "nowhere", "there is no such folder"),
        ("hps_v2.1", 'Available: "embedded"'),
        (tmp_path / "empty", "not a usable CLIPModel folder"),
        (half, "not a whole CLIPModel"),
        (cut, "not a usable CLIPModel folder"),
        (pickled, "not a usable CLIPModel folder"),
        (nearest, "resample = 0"),
    ):
        with pytest.raises(ConfigError, match=words):
            ClipBackend(config_of(place), tmp_path)


def test_a_preprocessor_that_does_not_fit_the_model_fails(tmp_path: Path) -> None:
    image = BlobStore(tmp_path).put(picture(1))
    folder = make_scorer(tmp_path / "wide", do_center_crop=False, size={"shortest_edge": 16})
    [config] = scored(ClipBackend(config_of(folder), tmp_path), (image, "fox"))
    assert "but its model takes 32 x 32" in config["error"]


class Judge:
    """A scorer that counts."""

    def __init__(self) -> None:
        self.asked = 0

    async def open(self) -> str:
        return "judge"

    async def score(self, requests: Sequence[ScoreRequest]) -> list[Score | Exception]:
        self.asked += len(requests)
        return [
            ScoreError("cannot")
            if request.prompt == "bad"
            else Score(value=0.5, fingerprint="judge")
            for request in requests
        ]

    async def close(self) -> None:
        """Nothing to close."""


async def test_the_service_scores_a_pair_once() -> None:
    judge = Judge()
    service = ScoreService(judge, InMemoryCallCache(), ScoreConfig())
    request = ScoreRequest(image="0" * 64, prompt="fox")
    first = await service.score(request)
    assert await service.score(request) == first
    assert judge.asked == 1
    with pytest.raises(ScoreError, match="cannot"):
        await service.score(ScoreRequest(image="0" * 64, prompt="bad"))
    await service.close()


async def test_the_child_scores(model: Path, tmp_path: Path) -> None:
    image = BlobStore(tmp_path).put(picture(1))
    scorer = ClipScorer(config_of(model), BlobStore(tmp_path))
    try:
        fingerprint = await scorer.open()
        assert fingerprint == digest(scorer.fingerprint_inputs)
        requests = [ScoreRequest(image=i, prompt="a fox") for i in (image, "0" * 64)]
        [score, failure] = await scorer.score(requests)
    finally:
        await scorer.close()
    assert isinstance(score, Score)
    assert score.fingerprint == fingerprint
    assert isinstance(failure, ScoreError)
    [config] = scored(ClipBackend(config_of(model), tmp_path), (image, "a fox"))
    assert score.value == config["value"]
