"""Score reference pairs with a scorer that is here, and compare with the values recorded for them.

    python -P scripts/check_official_scores.py PAIRS.jsonl --model hpsv2.1 [--tolerance 1e-4]
    python -P scripts/check_official_scores.py PAIRS.jsonl --model hpsv2.1 --record SCORED.jsonl

A line of PAIRS is {"image": "cat.png", "prompt": "a cat", "score": 0.2731}; pictures are relative
to the file. `score` is what the code of the scorer's authors gives, on its own scale: HPS as
hpsv2.score() returns it, not x 100; PickScore divided by 100. On CUDA hpsv2 rounds to half
precision, steps of 0.00024, so compare such values with --tolerance 3e-4. --record writes the lines
with the scores found here.

Published weights were not on the machine that built bigpe: run this once before trusting them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from bigpe.services.blobs import BlobStore
from bigpe.services.clip_family import ClipBackend
from bigpe.services.errors import BigpeError, DataError
from bigpe.services.score import ScoreConfig

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """The file's pairs; DataError names the line of a mistake."""
    rows: list[Row] = []
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rows.append({**row, "image": str(row["image"]), "prompt": str(row["prompt"])})
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}, line {number}: not a pair with image and prompt") from error
    if not rows:
        raise DataError(f"{path} has no pairs")
    return rows


def score(rows: list[Row], folder: Path, model: str, threads: int) -> list[Row]:
    """What the scorer says of each pair: "value", "fingerprint" and more, or "error"."""
    with tempfile.TemporaryDirectory(prefix="bigpe-check-") as images:
        blobs = BlobStore(Path(images))
        try:
            digests = [blobs.put((folder / row["image"]).read_bytes()) for row in rows]
        except OSError as error:
            raise DataError(f"a picture cannot be read: {error}") from error
        backend = ClipBackend(ScoreConfig(model=model, threads=threads), Path(images))
        pairs = zip(digests, rows, strict=True)
        items = [{"image": image, "prompt": row["prompt"]} for image, row in pairs]
        told: list[Row] = backend.handle("score", {"items": items})["items"]
        return told


def compare(rows: list[Row], told: list[Row], tolerance: float) -> bool:
    """Print a line for each pair that differs or fails, and one for all; whether all agree."""
    gaps: list[float] = []
    failed = 0
    for row, one in zip(rows, told, strict=True):
        about = {"image": row["image"], "prompt": row["prompt"], "recorded": row["score"]}
        if "error" in one:
            failed += 1
            print(json.dumps({**about, "error": one["error"]}))
            continue
        gaps.append(abs(one["value"] - float(row["score"])))
        if gaps[-1] > tolerance:
            print(json.dumps({**about, "found": one["value"], "difference": gaps[-1]}))
    met = not failed and max(gaps) <= tolerance
    figure: Row = {"figure": "difference of recorded scores", "pairs": len(rows), "failed": failed}
    if gaps:
        figure |= {"largest": max(gaps), "median": statistics.median(gaps)}
    print(json.dumps({**figure, "tolerance": tolerance, "met": met}))
    return met


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--model", default="hpsv2.1")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--record", type=Path, help="write the pairs with the scores found here")
    options = parser.parse_args()
    try:
        rows = read_rows(options.pairs)
        if not options.record and any("score" not in row for row in rows):
            raise DataError(f"{options.pairs} has pairs without a score; see --record")
        told = score(rows, options.pairs.parent, options.model, options.threads)
    except BigpeError as error:
        sys.exit(f"error: {error}")
    if options.record:
        kept = [
            {**row, "score": one.get("value"), "error": one.get("error")}
            for row, one in zip(rows, told, strict=True)
        ]
        lines = (json.dumps({k: v for k, v in row.items() if v is not None}) for row in kept)
        options.record.write_text("\n".join(lines) + "\n", "utf-8")
    elif not compare(rows, told, options.tolerance):
        sys.exit(1)


if __name__ == "__main__":
    main()
