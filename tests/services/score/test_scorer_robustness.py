"""The scorer under bad pictures, company, repetition and long use."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image as Pictures
from support.tiny_models import make_scorer

from bigpe.services.core.errors import ScoreError
from bigpe.services.core.image_decoding import decode
from bigpe.services.score.clip import process as clip_family
from bigpe.services.score.clip.preprocessing import OnFloats, official_preprocess
from bigpe.services.score.clip.process import ClipBackend
from bigpe.services.score.service import ScoreConfig
from bigpe.services.store.blobs import BlobStore

GROWTH_BYTES = 6e6
"""It grows by 0.5 MB; this is 3 kB a score."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scorer(tmp_path_factory.mktemp("tiny") / "scorer")


def backend_of(model: Path, images: Path, **settings: Any) -> ClipBackend:
    return ClipBackend(ScoreConfig(model=str(model), device="cpu", threads=1, **settings), images)


def png(levels: np.ndarray[Any, Any], mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Pictures.fromarray(levels).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def noise(seed: int, width: int = 40, height: int = 32) -> bytes:
    return png(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is huge and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    return start + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def damaged(place: int) -> bytes:
    data = bytearray(noise(1))
    data[place] ^= 0xFF
    return bytes(data)


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "200 megapixels": (lambda: bomb(20_000, 10_000), "more than 64,000,000 pixels"),
    "100 megapixels": (lambda: bomb(10_000, 10_000), "more than 64,000,000 pixels"),
    "4 terapixels": (lambda: bomb(2_000_000, 2_000_000), "more than 64,000,000 pixels"),
    "30,000 x 1": (lambda: png(np.zeros((1, 30_000, 3), np.uint8)), "longer than 20 : 1"),
    "truncated": (lambda: noise(2)[:-200], "cannot be decoded"),
    "damaged data": (lambda: damaged(80), "cannot be decoded"),
    "damaged header": (lambda: damaged(20), "cannot be decoded"),
    "no data": (lambda: b"", "cannot be decoded"),
    "text": (lambda: b"<svg/>" * 99, "cannot be decoded"),
}


def test_bad_pictures_fail_alone_with_their_cause(model: Path, tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    images = [blobs.put(noise(8)), *(blobs.put(make()) for make, _ in BAD.values())]
    images.append(blobs.put(noise(9)))
    result = backend_of(model, tmp_path).handle(
        "score", {"items": [{"image": image, "prompt": "a fox"} for image in images]}
    )["items"]
    assert "value" in result[0] and "value" in result[-1]
    for (name, (_, words)), first in zip(BAD.items(), result[1:-1], strict=True):
        assert words in first["error"], (name, first)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_pixels_that_are_not_finite_are_refused(value: float) -> None:
    pixels = torch.full((1, 3, 40, 40), 0.5)
    pixels[0, 1, 2, 3] = value
    preprocess = official_preprocess("longest-side-pad", 32)
    assert isinstance(preprocess, OnFloats)
    with pytest.raises(ScoreError, match="not finite"):
        preprocess.fit(pixels)


def test_a_transparent_picture_lies_on_white() -> None:
    levels = np.zeros((2, 2, 4), np.uint8)
    levels[0, 0] = (200, 0, 0, 255)
    levels[0, 1] = (0, 0, 0, 51)
    rgb = np.asarray(decode(png(levels, "RGBA"), "it"))
    assert rgb.tolist() == [[[200, 0, 0], [204, 204, 204]], [[255] * 3, [255] * 3]]


def test_a_picture_is_looked_at_once(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = BlobStore(tmp_path)
    left, two = blobs.put(noise(1)), blobs.put(noise(2))
    looks: list[str] = []
    reading = BlobStore.read
    monkeypatch.setattr(BlobStore, "read", lambda s, d: (looks.append(d), reading(s, d))[1])
    backend = backend_of(model, tmp_path)
    items = [{"image": i, "prompt": p} for p in ("a", "b") for i in (left, two, left)]
    first = backend.handle("score", {"items": items})
    assert backend.handle("score", {"items": items[::-1]})["items"] == first["items"][::-1]
    assert sorted(looks) == sorted([left, two])


@pytest.mark.parametrize("count", [1, 5, 8, 11])
def test_batches_of_a_fixed_shape_score_as_single_pictures(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    blobs = BlobStore(tmp_path)
    items = [{"image": blobs.put(noise(n, 32 + n)), "prompt": f"fox {n}"} for n in range(count)]
    items.insert(count // 2, {"image": blobs.put(b"bad"), "prompt": "fox"})
    single = backend_of(model, tmp_path).handle("score", {"items": items})["items"]
    wide = backend_of(model, tmp_path, max_batch=8)
    monkeypatch.setattr(wide, "_rows", 8)
    shapes: list[int] = []
    see = wide._see
    monkeypatch.setattr(wide, "_see", lambda pixels: (shapes.append(len(pixels)), see(pixels))[1])
    together = wide.handle("score", {"items": items})["items"]
    assert set(shapes) == {8} and len(shapes) == -(-count // 8)
    for first, other in zip(single, together, strict=True):
        assert first.get("error") == other.get("error")
        assert first.get("value", 0) == pytest.approx(other.get("value", 0), abs=1e-6)


def test_half_precision_is_near_and_another_scorer(model: Path, tmp_path: Path) -> None:
    image = BlobStore(tmp_path).put(noise(1))
    items = [{"image": image, "prompt": "a fox"}]
    full, half = (backend_of(model, tmp_path, dtype=d) for d in ("float32", "bfloat16"))
    [a], [b] = (item.handle("score", {"items": items})["items"] for item in (full, half))
    assert a["value"] != b["value"] and a["value"] == pytest.approx(b["value"], abs=0.02)
    assert a["fingerprint"] != b["fingerprint"]


def test_memory_stays_flat(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """3 000 scores: a new prompt each, and new pictures all the time."""
    monkeypatch.setattr(clip_family, "CACHE_BYTES", 40_000)
    blobs = BlobStore(tmp_path)
    backend = backend_of(model, tmp_path)
    process = psutil.Process()

    def score(start: int, stop: int) -> None:
        for n in range(start, stop, 20):
            image = blobs.put(noise(n))
            items = [{"image": image, "prompt": f"fox {n + k}"} for k in range(20)]
            assert all(
                "value" in item for item in backend.handle("score", {"items": items})["items"]
            )

    score(0, 1000)
    before = process.memory_info().rss
    score(1000, 3000)
    assert process.memory_info().rss - before < GROWTH_BYTES
    assert backend._texts.currsize <= 40_000 and backend._pictures.currsize <= 40_000
    assert len(backend._texts) < 1000 and len(backend._pictures) < 150, "both were full"
