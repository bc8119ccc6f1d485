"""The scorer against hpsv2.score() itself, at the full size of ViT-H-14: one JSON line per figure.

    python scripts/bench_scorer.py [--repeats 5] [--many 16]

An fp16 checkpoint of the official layout with random weights (about 2 GB under build/), a warm file
cache, interleaved repeats, medians; ratios of times are hpsv2's by ours. hpsv2's base model is
built beforehand: its first call would also build it and fetch 4 GB. Needs 14 GB of memory.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bigpe.services.blobs import BlobStore
from bigpe.services.clip_checkpoints import convert_checkpoint
from bigpe.services.clip_family import ClipBackend
from bigpe.services.clip_scoring import load_scoring
from bigpe.services.official_scorers import OFFICIAL
from bigpe.services.score import ScoreConfig

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from hpsv2_reference import make_importable  # noqa: E402

WORK = ROOT / "build" / "bench_scorer"
VISION = {"image_size": 224, "layers": 32, "width": 1280, "head_width": 80, "patch_size": 14}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 1024, "heads": 16, "layers": 24}
PROMPT = "a castle on a hill at sunset, oil painting"
GFLOP_A_PICTURE = 334.6
"""The vision tower's products, two operations a multiplication (shared/reference/hpsv2.md)."""


def say(figure: str, value: float, **more: Any) -> None:
    print(json.dumps({"figure": figure, "value": value, **more}), flush=True)


def reference_score() -> Callable[[list[Image.Image]], list[float]]:
    """hpsv2.score on the checkpoint; the model of its cache is put there, not downloaded."""
    make_importable()
    from hpsv2 import img_score  # type: ignore[import-not-found]
    from hpsv2.src.open_clip.model import CLIP  # type: ignore[import-not-found]
    from hpsv2.src.open_clip.transform import image_transform  # type: ignore[import-not-found]

    torch.manual_seed(0)
    model = CLIP(1024, VISION, TEXT, output_dict=True)
    file = WORK / "checkpoint.pt"
    if not file.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        torch.save({"state_dict": {k: v.half() for k, v in model.state_dict().items()}}, file)
    img_score.model_dict["model"] = model
    img_score.model_dict["preprocess_val"] = image_transform(224, False, resize_longest_max=True)

    def score(images: list[Image.Image]) -> list[float]:
        return [float(value) for value in img_score.score(images, PROMPT, cp=str(file))]

    return score


def our_score(threads: int) -> Callable[[list[str]], list[float]]:
    if not (WORK / "scorer").exists():
        convert_checkpoint(OFFICIAL["hpsv2.1"], WORK / "checkpoint.pt", WORK / "scorer", "random")
    config = ScoreConfig(model=str(WORK / "scorer"), device="cpu", threads=threads)
    backend = ClipBackend(config, WORK / "images")

    def score(images: list[str]) -> list[float]:
        items = [{"image": image, "prompt": PROMPT} for image in images]
        return [float(i["value"]) for i in backend.handle("score", {"items": items})["items"]]

    return score


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def gemm_peak(side: int = 2048, repeats: int = 6) -> float:
    """GFLOP/s of a float32 product, the best of some."""
    a = torch.randn(side, side)
    return 2 * side**3 / min(timed(lambda: a @ a) for _ in range(repeats)) / 1e9


class Fresh:
    """Pictures that were never scored before: ours keeps features, and a repeat would be free."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._blobs = BlobStore(WORK / "images")

    def take(self, count: int) -> tuple[list[Image.Image], list[str]]:
        """`count` new pictures, and their digests."""
        sizes = ((512, 512, 3), (480, 640, 3), (512, 333, 3))
        images, names = list[Image.Image](), list[str]()
        for index in range(count):
            levels = self._rng.integers(0, 256, sizes[index % 3], np.uint8)
            images.append(Image.fromarray(levels))
            buffer = io.BytesIO()
            images[-1].save(buffer, "PNG")
            names.append(self._blobs.put(buffer.getvalue()))
        return images, names


def compare(name: str, score: Any, ours: Any, fresh: Fresh, count: int, repeats: int) -> None:
    """hpsv2.score() and ours on the same new pictures, in turn."""
    times: list[tuple[float, float]] = []
    for _ in range(repeats):
        images, names = fresh.take(count)
        times.append((timed(lambda i=images: score(i)), timed(lambda n=names: ours(n))))
    them, us = (statistics.median(column) for column in zip(*times, strict=True))
    ratios = sorted(a / b for a, b in times)
    say(name, round(them / us, 3), low=round(ratios[0], 3), high=round(ratios[-1], 3),
        repeats=repeats, hpsv2_s=round(them, 3), ours_s=round(us, 3))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--many", type=int, default=16, help="pictures of one prompt")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    score = reference_score()
    ours, fresh = our_score(options.threads), Fresh()
    images, names = fresh.take(3)
    gaps = [abs(a - b) for a, b in zip(score(images), ours(names), strict=True)]
    say("largest difference of a score", max(gaps), n=len(gaps), bar=1e-6, met=max(gaps) <= 1e-6)
    compare("one picture, one call", score, ours, fresh, 1, options.repeats)
    scoring = load_scoring(str(WORK / "scorer"))
    pixels = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        peak = gemm_peak()
        seconds = statistics.median(
            timed(lambda: scoring.image_features(pixels)) for _ in range(options.repeats)
        )
        peak = max(peak, gemm_peak())
    say("vision forward over GEMM floor, batch 1", round(GFLOP_A_PICTURE / seconds / peak, 3),
        seconds=round(seconds, 3), gemm_peak_gflops=round(peak, 1), bar=0.9)  # fmt: skip
    many = f"{options.many} pictures of one prompt, one call"
    compare(many, score, ours, fresh, options.many, max(1, options.repeats // 2))


if __name__ == "__main__":
    main()
