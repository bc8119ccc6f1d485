"""Tables of an evaluation, for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bigpe.runtime.evaluation.compare import (
    Difference,
    Evaluation,
    SequenceLine,
    TreatmentComparison,
)
from bigpe.runtime.evaluation.measure import DISTRACTORS
from bigpe.runtime.formatting import escape_markdown, interval, markdown_table, points

HEADINGS = (
    "treatment",
    "n",
    "score",
    "gain",
    "95% interval",
    "p (Holm)",
    "won",
    "over the seed",
)
REWRITE_HEADINGS = (
    "treatment",
    "words",
    "kept naive",
    "cut off",
    "subject named",
    "prompt shown",
    "variety of texts",
    "variety of pictures",
)
"""Headings of `rewrite_cells`."""
REWRITES_TITLE = (
    "Rewrites; shown: by a scorer, the picture suits its naive prompt better than "
    f"{DISTRACTORS} others; variety: mean distance, of pictures relative to naive pictures"
)
SKEWED = (
    ", but the gains are so skewed that it may hold in fewer than 95% of cases: evaluate a larger, "
    "fixed number of prompts instead"
)
SIGNIFICANT = 0.05
MOST_LINES = 12


def show(console: Console, report: Evaluation, *, every_prompt: bool = False) -> None:
    """Print the tables and warnings; names and prompts are never read as markup."""
    _show_treatments(console, report, _title(report), HEADINGS, _cells)
    _show_treatments(console, report, REWRITES_TITLE, REWRITE_HEADINGS, rewrite_cells)
    _show_guards(console, report)
    for line in sentences(report):
        console.print(Text(line), soft_wrap=True)
    _show_prompts(console, report, len(report.lines) if every_prompt else MOST_LINES)


def _show_treatments(
    console: Console,
    report: Evaluation,
    title: str,
    headings: Sequence[str],
    cells: Callable[[TreatmentComparison], list[str]],
) -> None:
    table = Table(title=Text(title), title_justify="left")
    for index, heading in enumerate(headings):
        if index == 0:
            table.add_column(heading, min_width=18)
        else:
            table.add_column(heading, justify="right")
    for result in report.compared:
        style = "bold" if result.treatment.name.startswith("best: ") else ""
        table.add_row(*(Text(cell) for cell in cells(result)), style=style)
    console.print(table)


def markdown(report: Evaluation) -> str:
    """The whole report as Markdown, with all prompts."""
    parts = [f"# Evaluation of run {report.run}\n", _title(report) + ".\n"]
    parts.append(_grid(HEADINGS, [_cells(result) for result in report.compared]))
    parts.append(f"{REWRITES_TITLE}.\n")
    parts.append(_grid(REWRITE_HEADINGS, [rewrite_cells(result) for result in report.compared]))
    if rows := _guard_rows(report):
        parts.append(_grid(("guard", "treatment", "gain", "95% interval", "verdict"), rows))
    parts.append("\n".join(f"- {escape_markdown(line)}" for line in sentences(report)) + "\n")
    parts.append("## By prompt (gains, score x 100)\n")
    parts.append(_grid(_prompt_heading(report), _prompt_rows(report, len(report.lines))))
    return "\n".join(parts)


def sentences(report: Evaluation) -> list[str]:
    """Notes, warnings and costs of the report, one line each."""
    notes = [*report.notes]
    if report.sequence is not None:
        notes.append(_sequence_text(report.sequence))
    if report.selection is not None and report.selection.chosen is not None:
        choice = report.selection
        how = (
            f"best of {len(choice.candidates)} candidates on {choice.prompts} validation prompts "
            f"({choice.renders} renders)"
            if choice.prompts
            else "best by the run's own train prompts, not measured on validation prompts"
        )
        notes.append(f"{how}: {report.selection.chosen.text}")
    for result in report.compared:
        for guard in result.hacked:
            notes.append(
                f"WARNING: {result.treatment.name} gains on the scorer and loses on guard {guard}: "
                "it pleases the scorer, not people; do not use it"
            )
        if result.strays:
            notes.append(
                f"WARNING: pictures of {result.treatment.name} show what was asked less often than "
                f"naive ones ({_share(result.shown_share)} against "
                f"{_share(result.naive_shown_share)}): "
                "the rewrites lead away from their prompts"
            )
        if result.missing:
            notes.append(
                f"{result.treatment.name}: {result.missing} missing ({'; '.join(result.failures)})"
            )
    if report.pool_diversity is not None:
        notes.append(f"pool diversity {report.pool_diversity:.2f} (mean distance, 0 to 1)")
    notes.append(_cost(report))
    return notes


def _title(report: Evaluation) -> str:
    seeds = f"{report.seeds} seed{'s' if report.seeds > 1 else ''}"
    return f"{report.prompts} {report.split} prompts, {seeds} each; gains are score x 100"


def _cells(result: TreatmentComparison) -> list[str]:
    gain, over = result.gain, result.over_seed
    return [
        result.treatment.name,
        str(gain.n if gain else ""),
        "-" if result.score is None else f"{100 * result.score:.2f}",
        "-" if gain is None else points(gain.mean),
        _interval(gain),
        _p(gain),
        "-" if gain is None else f"{gain.win_rate:.0%}",
        "-" if over is None else f"{points(over.mean)} {_interval(over)}",
    ]


def rewrite_cells(result: TreatmentComparison) -> list[str]:
    """Length, shares and diversity of a treatment's rewrites and images."""
    pictures = result.picture_diversity
    return [
        result.treatment.name,
        f"{result.words:.0f}",
        f"{result.fallback_share:.0%}",
        f"{result.truncated_share:.0%}",
        f"{result.subject_share:.0%}",
        _share(result.shown_share),
        "-" if result.diversity is None else f"{result.diversity:.2f}",
        "-" if pictures is None else f"{pictures:.2f}",
    ]


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _interval(difference: Difference | None) -> str:
    return "-" if difference is None else interval(difference.lo, difference.hi)


def _p(difference: Difference | None) -> str:
    if difference is None or difference.p_holm is None:
        return "-"
    star = "*" if difference.p_holm < SIGNIFICANT else ""
    return f"{difference.p_holm:.4f}{star}"


def _guard_rows(report: Evaluation) -> list[list[str]]:
    rows: list[list[str]] = []
    for result in report.compared:
        for name, found in result.guards.items():
            verdict = "reward hacking" if name in result.hacked else "agrees"
            if (
                result.gain is not None
                and found.mean * result.gain.mean < 0
                and name not in result.hacked
            ):
                verdict = "disagrees, within chance"
            rows.append(
                [name, result.treatment.name, points(found.mean), _interval(found), verdict]
            )
    return rows


def _show_guards(console: Console, report: Evaluation) -> None:
    rows = _guard_rows(report)
    if not rows:
        return
    table = Table("guard", "treatment", "gain", "95% interval", "verdict")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row), style="red" if "hacking" in row[-1] else "")
    console.print(table)


def _show_prompts(console: Console, report: Evaluation, count: int) -> None:
    heading, *columns = _prompt_heading(report)
    table = Table(title="By prompt (gains, score x 100)", title_justify="left")
    table.add_column(heading, ratio=1)
    for column in columns:
        table.add_column(Text(column), justify="right")
    for row in _prompt_rows(report, count):
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    if count < len(report.lines):
        left = len(report.lines) - count
        console.print(Text(f"{left} more prompts: --every-prompt, --markdown FILE or --json"))


def _prompt_heading(report: Evaluation) -> list[str]:
    names = [
        result.treatment.name for result in report.compared if result.treatment.kind != "naive"
    ]
    return ["prompt", "naive", *names]


def _prompt_rows(report: Evaluation, count: int) -> list[list[str]]:
    ids = [result.treatment.id for result in report.compared if result.treatment.kind != "naive"]
    return [
        [
            line.prompt,
            "-" if line.naive_score is None else f"{100 * line.naive_score:.2f}",
            *("-" if (gain := line.gains.get(id)) is None else points(gain) for id in ids),
        ]
        for line in report.lines[:count]
    ]


def _sequence_text(sequence: SequenceLine) -> str:
    bounds = "no bounds yet" if sequence.lo is None else interval(sequence.lo, sequence.hi)
    signs = f"sign e-value {sequence.sign_e:.3g} ({'agrees' if sequence.sign_e >= 20 else 'weak'})"
    return (
        f"after {sequence.n} prompts: mean gain {points(sequence.mean)}, 95% confidence sequence "
        f"{bounds}, {signs}; stopped: {sequence.stopped}. The table's p values and intervals "
        "need a number of prompts that is fixed beforehand; the sequence does not"
        f"{SKEWED if sequence.too_skewed else ''}"
    )


def _cost(report: Evaluation) -> str:
    calls = sum(result.usage.llm_calls for result in report.compared)
    tokens = sum(result.usage.tokens for result in report.compared)
    usd = sum(result.usd for result in report.compared)
    money = f", {usd:.4f} USD" if usd else ""
    chosen = report.selection.renders if report.selection else 0
    return (
        f"cost: {report.renders} renders for the table and {chosen} for the choice, "
        f"{calls} LLM calls, {tokens:,} tokens{money}; stored calls were free"
    )


def _grid(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown_table(heading, rows, escape=escape_markdown)
