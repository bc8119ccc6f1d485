"""The evaluation page: results of the latest `bigpe evaluate`, by treatment and prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError
from starlette.requests import Request

from bigpe.agents.statistics.intervals import Interval
from bigpe.runtime.evaluation.compare import Difference, Evaluation, PromptLine, TreatmentComparison
from bigpe.runtime.evaluation.measure import EvaluationRow
from bigpe.runtime.evaluation.rating import rating_lines, reports_of
from bigpe.runtime.evaluation.report import sentences
from bigpe.runtime.formatting import falling
from bigpe.runtime.viewer.context import Context
from bigpe.runtime.viewer.pages.charts import Whisker, whiskers

A_PAGE = 40


class TreatmentLine(NamedTuple):
    """A treatment of the report."""

    compared: TreatmentComparison
    gain: Interval | None
    whisker: Whisker | None


class PromptView(NamedTuple):
    """A naive prompt of the report."""

    line: PromptLine
    naive_image: str
    cells: list[EvaluationRow | None]
    """The row of the first seed by treatment, in the report's order."""


async def show(context: Context, request: Request) -> tuple[str, Mapping[str, Any]]:
    """The page. `sort`: id of the treatment that orders the prompts; `from`: first prompt."""
    stored = await context.store.row("evaluation_report", run=context.run)
    report = _report(stored["body"]) if stored else None
    reports = await reports_of(context.store, context.run)
    people = [rating_lines(votes, first, second) for first, second, votes in reports]
    if stored is None or report is None:
        return "pages/evaluation.html", {
            "here": "evaluation",
            "people": people,
            "report": None,
            "unread": stored is not None,
        }
    treated = [compared for compared in report.compared if compared.treatment.kind != "naive"]
    gains = [interval_of(compared.gain) for compared in treated]
    ids = [compared.treatment.id for compared in treated]
    given = request.query_params.get("from", "0")
    start = int(given) if given.isdecimal() and len(given) < 10 else 0
    sort = request.query_params.get("sort", "")
    lines = list(report.lines)
    if sort in ids:
        lines.sort(key=lambda line: falling(line.gains.get(sort)))
    return "pages/evaluation.html", {
        "here": "evaluation",
        "people": people,
        "report": report,
        "ts": stored["ts"],
        "treatments": [
            TreatmentLine(compared, gain, line)
            for compared, gain, line in zip(treated, gains, whiskers(gains), strict=True)
        ],
        "sentences": sentences(report),
        "prompts": await _views(context, report, ids, lines[start : start + A_PAGE]),
        "sort": sort if sort in ids else "",
        "start": start,
        "total": len(lines),
        "a_page": A_PAGE,
    }


async def chosen_id(context: Context) -> str:
    """Id of the instruction that the latest evaluation chose by validation gain; "" if none was."""
    stored = await context.store.row("evaluation_report", run=context.run)
    report = _report(stored["body"]) if stored else None
    selection = report.selection if report else None
    if selection is None or selection.chosen is None or not selection.prompts:
        return ""
    return selection.chosen.id


def _report(body: str) -> Evaluation | None:
    try:
        return Evaluation.model_validate_json(body)
    except ValidationError:  # of another version of bigpe
        return None


def interval_of(difference: Difference | None) -> Interval | None:
    """The mean and bounds of a difference."""
    return Interval(difference.mean, difference.lo, difference.hi) if difference else None


async def _views(
    context: Context, report: Evaluation, ids: list[str], lines: list[PromptLine]
) -> list[PromptView]:
    wanted = {line.prompt for line in lines}
    first: dict[tuple[str, str], EvaluationRow] = {}
    for stored in await context.store.rows("evaluation_rows", run=context.run, split=report.split):
        if stored["prompt"] in wanted:
            row = EvaluationRow.model_validate_json(stored["body"])
            first.setdefault((row.prompt, row.treatment), row)
    views: list[PromptView] = []
    for line in lines:
        cells = [first.get((line.prompt, id)) for id in ids]
        naive = next((cell.naive_image for cell in cells if cell and cell.naive_image), "")
        views.append(PromptView(line, naive, cells))
    return views
