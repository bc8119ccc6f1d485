"""The file of a grid's finished cells: one line per cell, appended and synced when it is finished.

Tables, plots and the report are made from this file alone.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import Field, ValidationError

from bigpe.services.core.errors import StoreError
from bigpe.services.core.values import Value, canonical_json

DEFAULT_FOLDER = Path("docs/results/cells")
POOL_DIVERSITY = "pool diversity"
"""Name of a cell's curve. The curve "diversity" in cells of 0.1.0 is another metric."""


class ExperimentCell(Value):
    """A run of a configuration with its measurements. Gains are in score units."""

    experiment: str
    arm: str
    x: float | None = None
    series: str = ""
    config: str
    """Digest (16 hex) of the configuration without its seed, the prompts and the measurement."""
    seed: int
    run: str
    budget: int
    """Render budget of the run; 0: no limit."""
    reason: str
    """Reason why the run stopped."""
    rounds: int
    renders: int
    """Distinct images that the run requested, also those that an earlier run had paid for."""
    scores: int
    llm_calls: int
    tokens: int
    seconds: float
    """Model time without a call cache: calls times the project's seconds per call."""
    instruction: str
    """The text of the instruction that the run returned."""
    gains: dict[str, dict[str, float]] = Field(default_factory=dict[str, dict[str, float]])
    """Condition -> held-out naive prompt -> its mean paired gain."""
    curves: dict[str, list[tuple[float, float]]] = Field(
        default_factory=dict[str, list[tuple[float, float]]]
    )
    """Name -> points over time."""
    figures: dict[str, float | None] = Field(default_factory=dict[str, float | None])
    faults: tuple[str, ...] | None = None
    """Faults at the run's end; None: written by a version without diagnostics."""
    rules: int = 1
    """`RULES` of the campaign plan; absent in cells of rules 1."""
    version: str = ""
    commit: str = ""
    """Commit of the code, if available; "+" marks uncommitted changes."""
    finished: float = 0.0
    """Unix time, seconds."""

    @property
    def key(self) -> tuple[str, int]:
        """The identity of the cell: configuration and seed."""
        return (self.config, self.seed)


def read_cells(path: Path) -> list[ExperimentCell]:
    """The cells of a file, in order; empty without a file. StoreError names a bad line.

    A last line without a line break is left by a killed process and is ignored.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    cells: list[ExperimentCell] = []
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if not line.strip() or not line.endswith("\n"):
            continue
        try:
            cells.append(ExperimentCell.model_validate_json(line))
        except ValidationError as error:
            raise StoreError(
                f"{path}, line {number}: not a cell of an experiment "
                f"({error.error_count()} faults); fix or remove the line"
            ) from error
    return cells


def append_cell(path: Path, cell: ExperimentCell) -> None:
    """Append a line and sync it. Several processes may do so. StoreError if writing fails."""
    line = canonical_json(cell.model_dump(mode="json")) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _drop_torn_line(file.fileno())
            file.write(line.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def _drop_torn_line(descriptor: int) -> None:
    """Remove an incomplete last line, so that the next line is valid."""
    size = os.fstat(descriptor).st_size
    while size and os.pread(descriptor, 1, size - 1) != b"\n":
        size -= 1
    os.ftruncate(descriptor, size)


def newest(cells: Iterable[ExperimentCell]) -> list[ExperimentCell]:
    """The latest cell of each arm and seed, of the highest rules only.

    For an arm with several configurations (for example another budget) the latest counts. So a
    table never mixes two versions of the loop or two settings of an arm.
    """
    listed = list(cells)
    rules = max((cell.rules for cell in listed), default=0)
    kept = {cell.key: cell for cell in listed if cell.rules == rules}.values()
    latest = {cell.arm: cell.config for cell in sorted(kept, key=lambda cell: cell.finished)}
    return [cell for cell in kept if latest[cell.arm] == cell.config]
