"""Compares a scorer that is installed here with scores that were recorded elsewhere."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from bigpe.services.core.errors import DataError
from bigpe.services.score.clip.process import ClipBackend
from bigpe.services.score.service import ScoreConfig
from bigpe.services.store.blobs import BlobStore


class ReferencePair(BaseModel):
    """An image and a prompt with the score that the reference code gives; one line of a file."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    image: str
    """Path, relative to the file of pairs."""
    prompt: str
    score: float | None = None
    error: str | None = None
    """Why the pair could not be scored when it was recorded."""


class CheckedPair(NamedTuple):
    """A pair with the score computed here, or with the error of the scorer."""

    pair: ReferencePair
    value: float | None
    error: str | None

    @property
    def difference(self) -> float | None:
        """Distance from the recorded score, score units; None if either score is missing."""
        if self.value is None or self.pair.score is None:
            return None
        return abs(self.value - self.pair.score)


class CheckReport(NamedTuple):
    """How far the scores computed here are from the recorded ones."""

    checked: Sequence[CheckedPair]
    tolerance: float

    @property
    def differences(self) -> list[float]:
        """The distances of all pairs that have both scores."""
        return [check.difference for check in self.checked if check.difference is not None]

    @property
    def outside(self) -> list[CheckedPair]:
        """Pairs that failed or differ by more than the tolerance."""
        return [
            check
            for check in self.checked
            if check.difference is None or check.difference > self.tolerance
        ]

    def summary(self) -> dict[str, Any]:
        """Counts and distances, for JSON."""
        found = self.differences
        return {
            "pairs": len(self.checked),
            "failed": len(self.checked) - len(found),
            "largest_difference": max(found, default=None),
            "median_difference": statistics.median(found) if found else None,
            "tolerance": self.tolerance,
            "met": not self.outside,
        }


def read_pairs(path: Path) -> list[ReferencePair]:
    """The pairs of a JSON Lines file. DataError names the line of a mistake."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    pairs: list[ReferencePair] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            pairs.append(ReferencePair.model_validate_json(line))
        except ValidationError as error:
            reason = error.errors()[0]
            field = ".".join(map(str, reason["loc"])) or "line"
            raise DataError(f"{path}, line {number}: {field}: {reason['msg']}") from error
    if not pairs:
        raise DataError(f"{path} has no pairs; write one JSON object per line")
    return pairs


def score_pairs(
    pairs: Sequence[ReferencePair], folder: Path, config: ScoreConfig
) -> list[CheckedPair]:
    """Score each pair with the installed scorer; images are relative to `folder`. DataError."""
    with tempfile.TemporaryDirectory(prefix="bigpe-check-") as images:
        blobs = BlobStore(Path(images))
        try:
            digests = [blobs.put((folder / pair.image).read_bytes()) for pair in pairs]
        except OSError as error:
            raise DataError(f"an image cannot be read: {error}; check its path") from error
        items = [
            {"image": digest, "prompt": pair.prompt}
            for digest, pair in zip(digests, pairs, strict=True)
        ]
        answers = ClipBackend(config, Path(images)).handle("score", {"items": items})["items"]
    return [
        CheckedPair(pair, answer.get("value"), _error_of(answer))
        for pair, answer in zip(pairs, answers, strict=True)
    ]


def _error_of(answer: dict[str, Any]) -> str | None:
    return str(answer["error"]) if "error" in answer else None


def check_pairs(path: Path, config: ScoreConfig, tolerance: float) -> CheckReport:
    """Score the pairs of a file and compare with their recorded scores. DataError."""
    pairs = read_pairs(path)
    if missing := sum(pair.score is None for pair in pairs):
        raise DataError(
            f"{path} has {missing} pairs without a score; set one, or run with --record"
        )
    return CheckReport(score_pairs(pairs, path.parent, config), tolerance)


def record_pairs(path: Path, config: ScoreConfig, target: Path) -> list[CheckedPair]:
    """Write the pairs of a file with the scores computed here to `target`. DataError."""
    checked = score_pairs(read_pairs(path), path.parent, config)
    lines = [
        check.pair.model_copy(update={"score": check.value, "error": check.error}).model_dump_json(
            exclude_none=True
        )
        for check in checked
    ]
    target.write_text("\n".join(lines) + "\n", "utf-8")
    return checked
