"""The scorer against hpsv2's own score(), at the full size of ViT-H-14: one JSON line per figure.

    python scripts benchmarks.bench_scorer [--repeats 5] [--many 16]
    python scripts benchmarks.bench_scorer --quick    # small weights, without hpsv2: no speedups

An fp16 checkpoint of the official layout with random weights (about 6 GB under build/), a warm file
cache, interleaved repeats, medians; ratios of times are hpsv2's by ours. hpsv2 runs in its own
environment (made if it is not there) with the same threads; its base model is built beforehand: its
first call would also build it and fetch 4 GB. Needs 14 GB of memory and a machine without other
work; about 20 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import functools
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil
import torch
import transformers
from parity import scorer_parity
from parity.open_clip_toy import PROMPTS, SIZES
from parity.scorer_parity import small
from parity.vit_h import random_vit_h
from PIL import Image
from torch import nn
from torch.nn import functional

from benchmarks.figures import say, say_ratio
from bigpe.services.score.clip import process as clip_family
from bigpe.services.score.clip.checkpoints import convert_checkpoint
from bigpe.services.score.clip.model import ClipScoring, load_scoring
from bigpe.services.score.clip.packed_linear import pack_linears
from bigpe.services.score.clip.process import ClipBackend
from bigpe.services.score.hpsv2.environment import make_environment
from bigpe.services.score.hpsv2.scorer import Hpsv2PackageScorer
from bigpe.services.score.published_scorers import PUBLISHED_SCORERS
from bigpe.services.score.service import ScoreConfig
from bigpe.services.store.blobs import BlobStore

LIBC = ctypes.CDLL(None)
ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "bench_scorer"
CHECKPOINT = WORK / "checkpoint.pt"
PROMPT = "a castle on a hill at sunset, oil painting"
WIDTH, LAYERS, PATCH, CHANNELS, TOKENS, EMBED = 1280, 32, 14, 3, 257, 1024
FULL_SOON = 500_000
"""Bytes of each cache where memory is watched: its filling is no leak."""
Score = Callable[[list[str]], list[float]]
"""Digests of pictures in, their scores for PROMPT out."""


def make_files() -> None:
    """The checkpoint and its conversion, once."""
    WORK.mkdir(parents=True, exist_ok=True)
    if not CHECKPOINT.exists():
        torch.manual_seed(0)
        torch.save({"state_dict": random_vit_h()}, CHECKPOINT)
    if not (WORK / "scorer").exists():
        convert_checkpoint(PUBLISHED_SCORERS["hpsv2.1"], CHECKPOINT, WORK / "scorer", "random")


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


def fresh_images(
    blobs: BlobStore,
    count: int,
    random: np.random.Generator,
    sides: Sequence[tuple[int, int, int]] = ((512, 512, 3), (480, 640, 3), (512, 333, 3)),
) -> list[str]:
    """Pictures never scored before: ours keeps features, and a repeat would be free."""
    names = list[str]()
    for index in range(count):
        buffer = io.BytesIO()
        levels = random.integers(0, 256, sides[index % len(sides)], np.uint8)
        Image.fromarray(levels).save(buffer, "PNG")
        names.append(blobs.put(buffer.getvalue()))
    return names


def compare(
    figure: str, how: str, pair: tuple[Score, Score], fresh: Callable[[], list[str]], repeats: int
) -> float:
    """hpsv2 and ours on the same new pictures, in turn; returns the largest score difference."""
    them, us, gap = list[float](), list[float](), 0.0
    for _ in range(repeats):
        images = fresh()
        result = [list[float](), list[float]()]
        for score, times, values in zip(pair, (them, us), result, strict=True):
            start = time.perf_counter()
            values.extend(score(images))
            times.append(time.perf_counter() - start)
        gap = max(gap, *(abs(a - b) for a, b in zip(*result, strict=True)))
    say_ratio(figure, them, us, how)
    return gap


def vision_products(batch: int) -> tuple[Callable[[], None], float]:
    """The matrix products of the vision tower and nothing else, and their GFLOP.

    Every layer has weights of its own, as in the tower: reading them from memory is in the floor.
    The products are the fastest known here, those that the scorer uses, not torch's own.
    """
    rows = batch * TOKENS
    shapes = [(WIDTH, WIDTH)] * 4 + [(WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)]
    shapes = shapes * LAYERS
    layers = nn.ModuleList([nn.Linear(before, after) for before, after in shapes])
    pack_linears(layers)
    inputs = {before: torch.randn(rows, before) for before in (WIDTH, 4 * WIDTH)}
    heads = torch.randn(batch * 16, TOKENS, WIDTH // 16)
    patches = torch.randn(batch * (TOKENS - 1), CHANNELS * PATCH**2)
    first, last = torch.randn(WIDTH, CHANNELS * PATCH**2), torch.randn(EMBED, WIDTH)

    def run() -> None:
        functional.linear(patches, first)
        for (before, _), layer in zip(shapes, layers, strict=True):
            layer(inputs[before])
        for _ in range(LAYERS):
            (heads @ heads.transpose(1, 2)) @ heads  # pyright: ignore[reportUnusedExpression]
        functional.linear(inputs[WIDTH][:batch], last)

    flop = sum(2.0 * rows * before * after for before, after in shapes)
    flop += LAYERS * 4.0 * rows * TOKENS * WIDTH
    flop += 2.0 * patches.numel() * WIDTH + 2.0 * batch * WIDTH * EMBED
    return run, flop / 1e9


def square_product() -> Callable[[], Any]:
    a, square = torch.randn(2048, 2048), nn.Sequential(nn.Linear(2048, 2048))
    pack_linears(square)
    return lambda: square(a)


@torch.inference_mode()
def vision_floor(batch: int, repeats: int) -> None:
    """The forward against its own products, in turn; beside them the best square product."""
    scoring = packed_scoring(WORK / "scorer")
    pixels = torch.randn(batch, CHANNELS, 224, 224)
    products, gflop = vision_products(batch)
    square = square_product()
    calls = (lambda: scoring.image_features(pixels), products, square)
    for call in calls:
        call()
    rounds = [[timed(call) for call in calls] for _ in range(repeats)]
    forward, floor, peak = zip(*rounds, strict=True)
    rate = gflop / statistics.median(forward)
    of_square = rate / (2 * 2048**3 / 1e9 / min(peak))
    how = (
        f"matrix products of the tower alone over its forward, ViT-H-14 float32, batch {batch}; "
        f"{rate:.0f} GFLOP/s, {of_square:.2f} of a 2048-square product"
    )
    say_ratio(f"vision_gemm_ratio_b{batch}", floor, forward, how)


def packed_scoring(folder: Path) -> ClipScoring:
    """The scorer as its service has it."""
    scoring = load_scoring(str(folder))
    pack_linears(scoring.model)
    return scoring


def say_batch_consistency(model: Path, size: str) -> None:
    """The scores of 8 pictures in one forward against each alone."""
    scoring = packed_scoring(model)
    torch.manual_seed(1)
    pixels = torch.randn(8, CHANNELS, scoring.side, scoring.side)
    with torch.inference_mode():
        text = scoring.text_features(torch.tensor([scoring.tokens(PROMPT).ids]))
        together = scoring.image_features(pixels) @ text.T
        alone = torch.cat([scoring.image_features(item[None]) for item in pixels]) @ text.T
    gap = float((together - alone).abs().max())
    how = f"largest score difference, batch 8 against batch 1, {size}"
    say("batch_consistency_max_diff", gap, unit="score", n=8, how=how)


def held_mb() -> float:
    """Resident memory less what was freed: glibc keeps up to 170 MB of that, by chance."""
    if hasattr(LIBC, "malloc_trim"):
        LIBC.malloc_trim(0)
    return psutil.Process().memory_info().rss / 1e6


def say_growth(blobs: BlobStore, count: int = 10_000, warm: int = 2_000) -> None:
    """Resident memory over many scores of new prompts and new pictures, on small weights."""
    convert_toy(WORK / "toy")
    config = ScoreConfig(model=str(WORK / "toy" / "scorer"), device="cpu", threads=1)
    with mock.patch.object(clip_family, "CACHE_BYTES", FULL_SOON):
        backend = ClipBackend(config, blobs.folder)
    random, before = np.random.default_rng(), 0.0
    for index in range(count):
        if index == warm:
            before = held_mb()
        if index % 20 == 0:
            [image] = fresh_images(blobs, 1, random, sides=((48, 40, 3),))
        backend.handle("score", {"items": [{"image": image, "prompt": f"fox {index}"}]})
    growth = held_mb() - before
    how = (
        f"resident memory from score {warm:,} on, caches full, small weights; the allocator gives "
        "back what is free before each of the two readings"
    )
    say("rss_growth_mb", round(growth, 2), unit="MB", n=count, how=how)


def convert_toy(folder: Path) -> None:
    """Small weights of the official layout."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "scorer").exists():
        parity = small(folder)
        convert_checkpoint(
            PUBLISHED_SCORERS["hpsv2.1"], parity.checkpoint, folder / "scorer", "toy"
        )


def small_parity() -> tuple[float, int]:
    """Largest difference and pairs, on odd pictures and prompts; hpsv2 runs in its environment."""
    with tempfile.TemporaryDirectory(prefix="bigpe-parity-") as name:
        figure, _ = scorer_parity.compare(small(Path(name)), Path(name))
    return float(figure["value"]), int(figure["pairs"])


def quick() -> None:
    """What needs neither hpsv2 nor 14 GB."""
    convert_toy(WORK / "toy")
    golden = json.loads(scorer_parity.GOLDEN.read_text("utf-8"))["scores"]
    with tempfile.TemporaryDirectory(prefix="bigpe-parity-") as name:
        folder = Path(name)
        parity = small(folder)
        found = scorer_parity.ours(parity, folder, scorer_parity.requests_of(parity, folder))
    wanted = [value for row in golden for value in row]
    gap = scorer_parity.largest_gap(wanted, found)
    pairs = sum(value is not None for value in wanted)
    how = "largest difference from hpsv2.score() as recorded by make parity, small weights"
    say("parity_max_diff", gap, unit="score", n=pairs, how=how)
    say_batch_consistency(WORK / "toy" / "scorer", "small weights")
    say_growth(BlobStore(WORK / "images"))


def full(repeats: int, many: int, threads: int) -> None:
    """Everything, at the published size."""
    make_environment(lambda line: print(line, file=sys.stderr))
    make_files()
    vision_floor(1, repeats)
    vision_floor(8, repeats)
    say_batch_consistency(WORK / "scorer", "ViT-H-14, random weights")
    blobs, random = BlobStore(WORK / "images"), np.random.default_rng()
    gaps = list[float]()
    with reference_score(blobs, threads) as theirs:
        ours = our_score(threads)
        # Both models are loaded and the checkpoint is in the file cache.
        for score in (theirs, ours):
            score(fresh_images(blobs, 1, random))
        end = "hpsv2.score()'s seconds by ours, ViT-H-14, fp16 checkpoint, warm file cache"
        plan = (
            ("speedup_one_image", f"one picture; {end}", (theirs, ours), 1),
            ("speedup_sixteen_one_call", f"hpsv2 in one call; {end}", (theirs, ours), many),
            ("speedup_sixteen_calls", f"hpsv2 in as many calls; {end}", (each_alone(theirs), ours),
             many),
        )  # fmt: skip
        for figure, how, pair, count in plan:
            fresh = functools.partial(fresh_images, blobs, count, random)
            gaps.append(compare(figure, f"{count} new pictures of one prompt, {how}", pair, fresh,
                                repeats))  # fmt: skip
    gap, pairs = small_parity()
    how = (
        f"largest difference from hpsv2.score(): small weights, {len(SIZES)} sizes and modes x "
        f"{len(PROMPTS)} prompts: {gap:.1e}; ViT-H-14, {(1 + 2 * many) * repeats} pairs: "
        f"{max(gaps):.1e}"
    )
    pairs += (1 + 2 * many) * repeats
    say("parity_max_diff", max(gap, *gaps), unit="score", n=pairs, how=how)
    say_growth(blobs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--many", type=int, default=16, help="pictures of one prompt")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="small weights, without hpsv2")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if options.quick:
        quick()
    else:
        full(options.repeats, options.many, options.threads)


if __name__ == "__main__":
    main()
