"""What `bigpe refine` prints: lines or JSON on standard output; reasons and progress on stderr."""

from __future__ import annotations

import json
import sys
from types import TracebackType
from typing import Literal

import click
from rich.progress import Progress

from bigpe.runtime.cli.common import print_json, stderr
from bigpe.runtime.sharing.best import ChosenBy
from bigpe.runtime.sharing.refine import RefinedRow
from bigpe.services.core.values import Json

NOTE_EVERY = 100
"""Results between two notes on progress, where stderr is no terminal."""
OutputFormat = Literal["lines", "jsonl", "array"]


class RefineOutput:
    """Prints results in their order. A context manager; its end prints the array and a summary."""

    def __init__(self, form: OutputFormat, source: str | None, total: int | None) -> None:
        """`source`: where rows come from, for reasons; `total`: number of rows if known."""
        self.prompts = 0
        """Rows with a prompt."""
        self.chosen_by: ChosenBy | None = None
        """By which prompts the instruction was chosen; None if the user gave it."""
        self.refined = 0
        self._form = form
        self._source = source
        self._total = total
        self._array: list[Json] = []
        self._noted = False
        self._count = 0
        self._failed = False
        quiet = not sys.stderr.isatty() or (form != "array" and sys.stdout.isatty())
        self._bar = None if quiet else Progress(console=stderr(), transient=True)
        self._task = self._bar.add_task("refined", total=total) if self._bar else None

    def __enter__(self) -> RefineOutput:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()
        if self._form == "array":
            print_json(self._array)
        kept = self.prompts - self.refined
        if self.prompts > 1 and kept:
            click.echo(f"{self.refined} of {self.prompts} prompts refined", err=True)

    def add(self, result: RefinedRow) -> None:
        """Print a result, and its reason if it is unchanged."""
        self._count += 1
        self.prompts += result.cause != "input"
        self.refined += result.reason is None
        if self._form == "array":
            self._array.append(self._as_json(result))
        elif self._form == "jsonl":
            click.echo(json.dumps(self._as_json(result), ensure_ascii=False))
        else:
            click.echo(" ".join(result.text.split()))
            self._note_negative(result)
        if result.reason and not result.row.skipped:
            click.echo(self._note(result), err=True)
        self._show_progress()

    def add_left(self, results: list[RefinedRow]) -> None:
        """Add results behind a gap, after an early end. Lines would lose their places."""
        if self._form != "lines":
            for result in results:
                self.add(result)

    def _note_negative(self, result: RefinedRow) -> None:
        """Say once that lines hold no negative prompts."""
        if not self._noted and result.rewrite and result.rewrite.negative:
            self._noted = True
            click.echo("rewrites have negative prompts, too; --json or --jsonl has them", err=True)

    def _note(self, result: RefinedRow) -> str:
        place = f"{self._source}, line {result.row.line}: " if self._source else ""
        text = f": {result.row.text}" if result.row.text and not self._source else ""
        return f"{place}kept unchanged ({result.reason}){text}"

    def _show_progress(self) -> None:
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self._count)
        elif not sys.stderr.isatty() and self._count % NOTE_EVERY == 0:
            of = f" of {self._total:,}" if self._total else ""
            click.echo(f"{self._count:,}{of} done, {self.refined:,} refined", err=True)

    def _as_json(self, result: RefinedRow) -> Json:
        negative = result.rewrite.negative if result.rewrite else ""
        return {
            "line": result.row.line,
            "naive": result.row.text,
            "text": result.text,
            **({"negative": negative} if negative else {}),
            "refined": result.reason is None,
            "reason": result.reason,
            "cause": result.cause,
            "chosen_by": self.chosen_by,
        }
