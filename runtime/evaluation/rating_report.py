"""Text of the votes on two treatments."""

from __future__ import annotations

from typing import Any

from bigpe.runtime.evaluation.rating import NAIVE, RatingReport


def rating_lines(report: RatingReport, first: str, second: str) -> list[str]:
    """The report as lines; `first` and `second` are treatments: "naive" or an instruction's id."""
    first, second = (id if id == NAIVE else id[:8] for id in (first, second))
    if not report.votes:
        return [f"no votes yet on {first} against {second}; collect some with `bigpe rate`"]
    lines = [
        f"{_count(report.votes, 'vote')} of {_count(len(report.raters), 'rater')} on "
        f"{_count(report.pairs, 'pair')}: {second} preferred on {report.wins}, {first} on "
        f"{report.losses}, neither on {report.ties}",
        f"win rate of {second}: {_share(report.win_rate, report.win_rate_interval)} "
        "of the decided pairs (Wilson)",
        f"ties: {_share(report.tie_share, report.tie_share_interval)} of all pairs "
        "(no visible difference, or raters disagree)",
        f"the scorer agrees on {_share(report.agreement, report.agreement_interval)} of "
        f"{_count(report.judged_by_scorer, 'pair')}; Cohen's kappa "
        f"{'-' if report.kappa is None else f'{report.kappa:+.2f}'}",
    ]
    if report.left_share is not None:
        lines.append(f"votes for the left picture: {100 * report.left_share:.0f}%")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _share(share: float | None, bounds: tuple[Any, Any] | None) -> str:
    if share is None or bounds is None:
        return "-"
    return f"{100 * share:.0f}% [{100 * bounds[0]:.0f}%, {100 * bounds[1]:.0f}%]"
