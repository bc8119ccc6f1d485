"""The scorer against hpsv2's own score(), at the full size of ViT-H-14: one JSON line per figure.

    python -P scripts/bench_scorer.py [--repeats 5] [--many 16]

An fp16 checkpoint of the official layout with random weights (about 6 GB under build/), a warm file
cache, interleaved repeats, medians; ratios of times are hpsv2's by ours. hpsv2 runs in its own
environment (made if it is not there) with the same threads; its base model is built beforehand: its
first call would also build it and fetch 4 GB. Needs 14 GB of memory and a machine without other
work; about 10 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from torch.nn import functional

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.vit_h import random_vit_h  # noqa: E402

from bigpe.services.blobs import BlobStore  # noqa: E402
from bigpe.services.clip_checkpoints import convert_checkpoint  # noqa: E402
from bigpe.services.clip_family import ClipBackend  # noqa: E402
from bigpe.services.clip_scoring import load_scoring  # noqa: E402
from bigpe.services.hpsv2_environment import make_environment  # noqa: E402
from bigpe.services.hpsv2_package import Hpsv2PackageScorer  # noqa: E402
from bigpe.services.official_scorers import OFFICIAL  # noqa: E402
from bigpe.services.score import ScoreConfig  # noqa: E402

WORK = ROOT / "build" / "bench_scorer"
CHECKPOINT = WORK / "checkpoint.pt"
PROMPT = "a castle on a hill at sunset, oil painting"
WIDTH, LAYERS, PATCH, CHANNELS, TOKENS, EMBED = 1280, 32, 14, 3, 257, 1024
Score = Callable[[list[str]], list[float]]
"""Digests of pictures in, their scores for PROMPT out."""


def say(figure: str, value: float, **more: Any) -> None:
    print(json.dumps({"figure": figure, "value": value, **more}), flush=True)


def make_files() -> None:
    """The checkpoint and its conversion, once."""
    WORK.mkdir(parents=True, exist_ok=True)
    if not CHECKPOINT.exists():
        torch.manual_seed(0)
        torch.save({"state_dict": random_vit_h()}, CHECKPOINT)
    if not (WORK / "scorer").exists():
        convert_checkpoint(OFFICIAL["hpsv2.1"], CHECKPOINT, WORK / "scorer", "random")


@contextmanager
def reference_score(blobs: BlobStore, threads: int) -> Iterator[Score]:
    """One call of hpsv2.score for a list of pictures."""
    config = ScoreConfig(device="cpu", threads=threads, call_timeout_s=3600.0)
    scorer = Hpsv2PackageScorer(config, blobs, checkpoint=CHECKPOINT)
    with asyncio.Runner() as runner:

        def score(images: list[str]) -> list[float]:
            paths = [blobs.path(image).resolve() for image in images]
            return runner.run(scorer.score_images(paths, PROMPT))

        try:
            yield score
        finally:
            runner.run(scorer.close())


def our_score(threads: int) -> Score:
    config = ScoreConfig(model=str(WORK / "scorer"), device="cpu", threads=threads)
    backend = ClipBackend(config, WORK / "images")

    def score(images: list[str]) -> list[float]:
        items = [{"image": image, "prompt": PROMPT} for image in images]
        return [float(i["value"]) for i in backend.handle("score", {"items": items})["items"]]

    return score


def each_alone(score: Score) -> Score:
    """One call a picture."""
    return lambda images: [score([image])[0] for image in images]


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def fresh_images(blobs: BlobStore, count: int, random: np.random.Generator) -> list[str]:
    """Pictures never scored before: ours keeps features, and a repeat would be free."""
    sizes = ((512, 512, 3), (480, 640, 3), (512, 333, 3))
    names = list[str]()
    for index in range(count):
        buffer = io.BytesIO()
        levels = random.integers(0, 256, sizes[index % 3], np.uint8)
        Image.fromarray(levels).save(buffer, "PNG")
        names.append(blobs.put(buffer.getvalue()))
    return names


def compare(
    name: str, pair: tuple[Score, Score], fresh: Callable[[], list[str]], repeats: int, bar: float
) -> None:
    """hpsv2 and ours on the same new pictures, in turn."""
    them, us, gap = list[float](), list[float](), 0.0
    for _ in range(repeats):
        images = fresh()
        told = [list[float](), list[float]()]
        for score, times, values in zip(pair, (them, us), told, strict=True):
            start = time.perf_counter()
            values.extend(score(images))
            times.append(time.perf_counter() - start)
        gap = max(gap, *(abs(a - b) for a, b in zip(*told, strict=True)))
    ratios = [a / b for a, b in zip(them, us, strict=True)]
    value = statistics.median(them) / statistics.median(us)
    say(name, round(value, 3), low=round(min(ratios), 3), high=round(max(ratios), 3),
        repeats=repeats, hpsv2_s=round(statistics.median(them), 3),
        ours_s=round(statistics.median(us), 3), largest_difference=gap,
        bar=bar, met=value >= bar)  # fmt: skip


def vision_products(batch: int) -> tuple[Callable[[], None], float]:
    """The matrix products of the vision tower and nothing else, and their GFLOP.

    Every layer has weights of its own, as in the tower: reading them from memory is in the floor.
    """
    rows = batch * TOKENS
    shapes = [(WIDTH, WIDTH)] * 4 + [(WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)]
    shapes = shapes * LAYERS
    weights = [torch.randn(after, before) for before, after in shapes]
    inputs = {before: torch.randn(rows, before) for before in (WIDTH, 4 * WIDTH)}
    heads = torch.randn(batch * 16, TOKENS, WIDTH // 16)
    patches = torch.randn(batch * (TOKENS - 1), CHANNELS * PATCH**2)
    first, last = torch.randn(WIDTH, CHANNELS * PATCH**2), torch.randn(EMBED, WIDTH)

    def run() -> None:
        functional.linear(patches, first)
        for (before, _), weight in zip(shapes, weights, strict=True):
            functional.linear(inputs[before], weight)
        for _ in range(LAYERS):
            (heads @ heads.transpose(1, 2)) @ heads
        functional.linear(inputs[WIDTH][:batch], last)

    flop = sum(2.0 * rows * before * after for before, after in shapes)
    flop += LAYERS * 4.0 * rows * TOKENS * WIDTH
    flop += 2.0 * patches.numel() * WIDTH + 2.0 * batch * WIDTH * EMBED
    return run, flop / 1e9


def square_product() -> Callable[[], Any]:
    a = torch.randn(2048, 2048)
    return lambda: a @ a


@torch.inference_mode()
def vision_floor(batch: int, repeats: int) -> None:
    """The forward against its own products, and against the best square product, in turn."""
    scoring = load_scoring(str(WORK / "scorer"))
    pixels = torch.randn(batch, CHANNELS, 224, 224)
    products, gflop = vision_products(batch)
    square = square_product()
    calls = (lambda: scoring.image_features(pixels), products, square)
    for call in calls:
        call()
    rounds = [[timed(call) for call in calls] for _ in range(repeats)]
    forward, floor, peak = zip(*rounds, strict=True)
    ratios = [b / a for a, b in zip(forward, floor, strict=True)]
    value = statistics.median(floor) / statistics.median(forward)
    rate = gflop / statistics.median(forward)
    say(f"vision forward over the GEMM floor, batch {batch}", round(value, 3),
        low=round(min(ratios), 3), high=round(max(ratios), 3), repeats=repeats,
        seconds=round(statistics.median(forward), 3), gflops=round(rate, 1),
        of_square_product=round(rate / (2 * 2048**3 / 1e9 / min(peak)), 3),
        bar=0.9, met=value >= 0.9)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--many", type=int, default=16, help="pictures of one prompt")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    make_environment(lambda line: print(line, file=sys.stderr))
    make_files()
    vision_floor(1, options.repeats)
    vision_floor(8, options.repeats)
    blobs, random = BlobStore(WORK / "images"), np.random.default_rng()
    with reference_score(blobs, options.threads) as theirs:
        ours = our_score(options.threads)
        # Both models are loaded and the checkpoint is in the file cache.
        for score in (theirs, ours):
            score(fresh_images(blobs, 1, random))
        many = f"{options.many} pictures of one prompt"
        for name, pair, count, bar in (
            ("one picture", (theirs, ours), 1, 1.8),
            (f"{many}, hpsv2 in one call", (theirs, ours), options.many, 1.2),
            (f"{many}, hpsv2 in as many calls", (each_alone(theirs), ours), options.many, 1.8),
        ):  # fmt: skip
            compare(
                name, pair, lambda n=count: fresh_images(blobs, n, random), options.repeats, bar
            )


if __name__ == "__main__":
    main()
