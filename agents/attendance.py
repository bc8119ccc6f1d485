"""What observers use, counted at a moment that does not depend on when they say it.

An observer reports what it used for a round once it has read all of it. That is counted when the
*next* round is settled, which waits for the report: an observer has a round's time before it holds
up the run, and two equal runs count the same at the same place. Part of the fold, and pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bigpe.services.values import LlmUsage


@dataclass
class Attendance:
    """Which observers are there, and their reports that were not counted yet."""

    since: dict[str, int] = field(default_factory=dict[str, int])
    """By observer: the first round that it reports of."""
    ever: list[str] = field(default_factory=list[str])
    """All that ever were there."""
    reports: dict[int, dict[str, LlmUsage]] = field(default_factory=dict[int, dict[str, LlmUsage]])
    """By round and observer."""
    changes: int = 0
    """How often observers joined or left after the run began."""

    def set(self, observers: Sequence[str], following: int) -> None:
        """These observers are there from now on; new ones report from round `following` on."""
        self.since = {name: self.since.get(name, following) for name in sorted(observers)}
        self.ever += [name for name in self.since if name not in self.ever]

    def expects(self, name: str, round: int) -> bool:
        """Whether that report is counted with its round; else the observer joined later."""
        return name in self.since and round >= self.since[name]

    def report(self, name: str, round: int, usage: LlmUsage) -> None:
        """Keep a report until its round is counted."""
        self.reports.setdefault(round, {})[name] = usage

    def complete(self, round: int) -> bool:
        """Whether all reports of the round are there."""
        told = self.reports.get(round, {})
        return all(name in told for name, first in self.since.items() if round >= first)

    def count(self, round: int) -> dict[str, LlmUsage]:
        """Take out the reports of the round, by observer in the order of names."""
        return dict(sorted(self.reports.pop(round, {}).items()))
