"""Compare bigpe's scorer with the official hpsv2 package, and the package with the golden scores.

    python scripts parity.scorer_parity [--keep]    # what `make parity` runs
    python scripts parity.scorer_parity --full      # ViT-H-14 at its full size: 14 GB, some minutes

hpsv2's own `score()` runs in its own environment (`bigpe doctor --setup-hpsv2`, made here if it is
not there), on odd pictures and prompts and a checkpoint of random weights: small ones, the same
everywhere, or with --full some of the published size. --keep writes the golden file that the tests
compare with where there is no such environment. Prints one JSON line; exits 1 beyond 1e-6.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers

from bigpe.services.core.values import ScoreRequest
from bigpe.services.score.clip.checkpoints import convert_checkpoint
from bigpe.services.score.clip.process import ClipBackend
from bigpe.services.score.hpsv2.environment import PACKAGE, make_environment
from bigpe.services.score.hpsv2.scorer import Hpsv2PackageScorer
from bigpe.services.score.published_scorers import PUBLISHED_SCORERS
from bigpe.services.score.service import ScoreConfig
from bigpe.services.store.blobs import BlobStore
from parity import open_clip_toy as toy
from parity.vit_h import random_vit_h

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "hpsv2_scores.json"
BAR = 1e-6
FULL_PICTURES, FULL_PROMPTS = 3, 3
SMALL: dict[str, Any] = {
    "embed_dim": toy.EMBED,
    "vision_cfg": {
        "image_size": toy.SIDE,
        "layers": toy.VISION_LAYERS,
        "width": toy.VISION_WIDTH,
        "head_width": toy.VISION_HEAD,
        "patch_size": toy.PATCH,
    },
    "text_cfg": {
        "context_length": toy.CONTEXT,
        "vocab_size": toy.WORDS,
        "width": toy.TEXT_WIDTH,
        "heads": toy.TEXT_WIDTH // toy.TEXT_HEAD,
        "layers": toy.TEXT_LAYERS,
    },
}


class Parity(NamedTuple):
    """What to compare on: a checkpoint, its shape, pictures and prompts."""

    checkpoint: Path
    architecture: dict[str, Any] | None
    """None: the package's own ViT-H-14."""
    pictures: Sequence[bytes]
    prompts: Sequence[str]


def small(folder: Path) -> Parity:
    """The weights that the tests have, too."""
    weights = {name: torch.tensor(value) for name, value in toy.weights().items()}
    torch.save({"state_dict": weights}, folder / "small.pt")
    pictures = [toy.picture(index) for index in range(len(toy.SIZES))]
    return Parity(folder / "small.pt", SMALL, pictures, toy.PROMPTS)


def full(folder: Path) -> Parity:
    """Random fp16 weights of the published size."""
    torch.manual_seed(0)
    torch.save({"state_dict": random_vit_h()}, folder / "full.pt")
    square = [index for index, size in enumerate(toy.SIZES) if size != (toy.SIDE, 100)]
    pictures = [toy.picture(index) for index in square[1 : 1 + FULL_PICTURES]]
    return Parity(folder / "full.pt", None, pictures, toy.PROMPTS[1 : 1 + FULL_PROMPTS])


def ours(parity: Parity, folder: Path, requests: Sequence[ScoreRequest]) -> list[float]:
    """bigpe's scores."""
    convert_checkpoint(PUBLISHED_SCORERS["hpsv2.1"], parity.checkpoint, folder / "scorer", "random")
    config = ScoreConfig(model=str(folder / "scorer"), device="cpu")
    items = [{"image": request.image, "prompt": request.prompt} for request in requests]
    result = ClipBackend(config, folder / "images").handle("score", {"items": items})["items"]
    return [float(item["value"]) for item in result]


async def theirs(
    parity: Parity, blobs: BlobStore, requests: Sequence[ScoreRequest]
) -> tuple[list[float | None], list[list[int]]]:
    """The package's scores (None: it fails on the picture) and its token ids."""
    scorer = Hpsv2PackageScorer(
        ScoreConfig(device="cpu", call_timeout_s=3600.0),
        blobs,
        checkpoint=parity.checkpoint,
        architecture=parity.architecture,
    )
    try:
        result = await scorer.score(requests)
        ids = await scorer.tokenize(parity.prompts)
    finally:
        await scorer.close()
    return [None if isinstance(item, Exception) else item.value for item in result], ids


def largest_gap(ones: Sequence[float | None], others: Sequence[float | None]) -> float:
    pairs = [(a, b) for a, b in zip(ones, others, strict=True) if a is not None and b is not None]
    return max(abs(a - b) for a, b in pairs)


def requests_of(parity: Parity, folder: Path) -> list[ScoreRequest]:
    """Every picture with every prompt; the pictures are put into the folder."""
    blobs = BlobStore(folder / "images")
    images = [blobs.put(picture) for picture in parity.pictures]
    return [ScoreRequest(image=i, prompt=p) for i in images for p in parity.prompts]


def compare(parity: Parity, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The figure, and what the golden file holds of the package."""
    blobs, requests = BlobStore(folder / "images"), requests_of(parity, folder)
    reference, ids = asyncio.run(theirs(parity, blobs, requests))
    found = ours(parity, folder, requests)
    width = len(parity.prompts)
    rows = [reference[at : at + width] for at in range(0, len(reference), width)]
    figure = {
        "figure": "largest difference from hpsv2's own score()",
        "value": largest_gap(reference, found),
        "bar": BAR,
        "pairs": sum(value is not None for value in reference),
        "hpsv2_failed": sum(value is None for value in reference),
    }
    golden = {"package": PACKAGE, "torch": torch.__version__, "scores": rows, "tokens": ids}
    return figure, golden


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--keep", action="store_true", help="write the golden file")
    parser.add_argument("--full", action="store_true", help="ViT-H-14 at its full size")
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    make_environment(lambda line: print(line, file=sys.stderr))
    with tempfile.TemporaryDirectory(prefix="bigpe-parity-") as name:
        folder = Path(name)
        figure, golden = compare(full(folder) if options.full else small(folder), folder)
    if options.full:
        print(json.dumps({**figure, "size": "ViT-H-14"}))
        sys.exit(figure["value"] > BAR)
    if options.keep:
        GOLDEN.write_text(json.dumps(golden) + "\n", "utf-8")
    kept = json.loads(GOLDEN.read_text("utf-8"))
    flat = [[value for row in item["scores"] for value in row] for item in (golden, kept)]
    drift = largest_gap(*flat)
    same = golden["tokens"] == kept["tokens"]
    print(json.dumps({**figure, "golden_difference": drift, "golden_tokens_equal": same}))
    sys.exit(figure["value"] > BAR or drift > BAR or not same)


if __name__ == "__main__":
    main()
