"""Finished cells of a grid: one line a cell, appended and synced as soon as it is known.

The lines are the result. Whatever reads them (tables, plots, the report) needs no database.
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
"""Name of the curve in a cell. Cells of 0.1.0 have a curve "diversity" of another metric, which is
not drawn."""


class ExperimentCell(Value):
    """One run of one configuration, and what was measured of it. Gains are in score units."""

    experiment: str
    arm: str
    x: float | None = None
    series: str = ""
    config: str
    """Digest (16 hex) of the configuration without its seed, the prompts and the measuring."""
    seed: int
    run: str
    budget: int
    """Renders that the run was allowed; 0: any."""
    reason: str
    """Why the run stopped."""
    rounds: int
    renders: int
    """Different pictures that the run asked for, whether or not an earlier run had paid them."""
    scores: int
    llm_calls: int
    tokens: int
    seconds: float
    """Model time as if nothing had been paid before: calls times the project's seconds a call."""
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
    """What diagnostics saw at the run's end; None: told by a version that did not look."""
    rules: int = 1
    """`RULES` of the campaign plan that the loop decided by; cells of the first do not have it."""
    version: str = ""
    commit: str = ""
    """Of the code that ran it, if known; "+" marks uncommitted changes."""
    finished: float = 0.0
    """Unix time, seconds."""

    @property
    def key(self) -> tuple[str, int]:
        """What makes it this cell: configuration and seed."""
        return (self.config, self.seed)


def read_cells(path: Path) -> list[ExperimentCell]:
    """The cells of a file, in order; none when there is no file. StoreError names a bad line.

    A last line without an end is what a kill left behind: it is passed over.
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
                f"({error.error_count()} faults); mend or remove the line"
            ) from error
    return cells


def append_cell(path: Path, cell: ExperimentCell) -> None:
    """Add one line and sync it; several processes may do so at once. StoreError if it cannot."""
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
    """What a kill left of a line would spoil the next one."""
    size = os.fstat(descriptor).st_size
    while size and os.pread(descriptor, 1, size - 1) != b"\n":
        size -= 1
    os.ftruncate(descriptor, size)


def newest(cells: Iterable[ExperimentCell]) -> list[ExperimentCell]:
    """One cell for each arm and seed, the latest told, of the latest rules alone.

    Of an arm run under several configurations (another budget, say) the latest counts. So nothing
    that is made from cells mixes two versions of the loop, or two settings of an arm.
    """
    known = list(cells)
    rules = max((cell.rules for cell in known), default=0)
    kept = {cell.key: cell for cell in known if cell.rules == rules}.values()
    latest = {cell.arm: cell.config for cell in sorted(kept, key=lambda cell: cell.finished)}
    return [cell for cell in kept if latest[cell.arm] == cell.config]
