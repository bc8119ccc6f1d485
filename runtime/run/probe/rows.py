"""The rows of a probe, and what its calls took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from bigpe.services.core.errors import BigpeError, ConfigError, LlmError
from bigpe.services.core.values import Json, LlmUsage, Value

Verdict = Literal["ok", "note", "fault"]


class ProbeRow(Value):
    """One finding about one model."""

    part: str
    """The model, and what it does."""
    check: str
    """What was checked."""
    verdict: Verdict
    """A note tells what to know; a fault spoils a run."""
    finding: str
    remedy: str = ""
    """What to do; empty if there is nothing to do."""
    configuration: bool = False
    """Whether a setting is the cause of a fault."""
    figures: Json = {}
    """The finding's numbers and names, for machines."""


@dataclass
class Measured:
    """What calls took, for the forecast of a run."""

    seconds: dict[str, float] = field(default_factory=dict[str, float])
    """Seconds of a call: "render", "score", or a language model by the role that it serves."""
    rewrite: LlmUsage | None = None
    """Usage of one rewrite, all its attempts together."""
    answer: dict[str, LlmUsage] = field(default_factory=dict[str, LlmUsage])
    """Usage of one short answer, by role."""


@dataclass
class ProbeReport:
    """The rows so far. `listen` gets each row when it is found."""

    listen: Callable[[ProbeRow], None]
    rows: list[ProbeRow] = field(default_factory=list[ProbeRow])
    measured: Measured = field(default_factory=Measured)

    def add(self, row: ProbeRow) -> None:
        """Add a row and report it."""
        self.rows.append(row)
        self.listen(row)

    @property
    def exit_code(self) -> int:
        """2 if a setting is the cause of a fault, 1 for another fault, else 0."""
        faults = [row for row in self.rows if row.verdict == "fault"]
        if any(row.configuration for row in faults):
            return ConfigError.exit_code
        return BigpeError.exit_code if faults else 0


def is_configuration(error: BigpeError) -> bool:
    """Whether a failed first call says that a setting is wrong, not that a service is down."""
    return isinstance(error, ConfigError) or (isinstance(error, LlmError) and not error.transient)


def fault(part: str, check: str, error: BigpeError) -> ProbeRow:
    """The row of a call that failed. The error names the remedy itself."""
    return ProbeRow(
        part=part,
        check=check,
        verdict="fault",
        finding=str(error),
        configuration=is_configuration(error),
        figures={"error": type(error).__name__},
    )
