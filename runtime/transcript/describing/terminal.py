"""Descriptions for a terminal: lines with a hanging indent, and tables as wide as the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from bigpe.runtime.formatting import quote, visible
from bigpe.runtime.transcript.describing.parts import (
    LONGEST_CAUSE,
    ChatTurns,
    Description,
    Gain,
    ImageReference,
    InstructionId,
    Line,
    Lines,
    Part,
    Preformatted,
    Quoted,
    Span,
    Styled,
    Table,
    span_text,
)

INDENT = 4
GAP = 2
"""Characters between two columns."""
NARROWEST = 18
"""Characters of a text column below which the cells of a row stand below one another."""
STYLES = {"dim": "dim", "bad": "red", "strong": "bold"}


def line_text(line: Line, *, whole: bool = False) -> Text:
    """A line with its styles; `whole`: quoted texts are not cut and keep their lines."""
    text = Text()
    for span in line.spans:
        text.append(_words(span, whole=whole), style=_style(span))
    return text


def print_details(console: Console, description: Description, *, whole: bool = False) -> None:
    """Print the details below a headline. `whole`: as `line_text`."""
    width = console.width - INDENT
    for part in description.details:
        print_indented(console, _part(part, width, whole=whole))


def print_indented(console: Console, items: Iterable[Text | RichTable]) -> None:
    """Print below a headline. Only a terminal breaks lines, behind the indent."""
    for item in items:
        if isinstance(item, RichTable) or console.is_terminal:
            console.print(Padding(item, (0, 0, 0, INDENT)))
            continue
        for row in item.split("\n", allow_blank=True) or [item]:
            console.print(Text(" " * INDENT) + row, soft_wrap=True)


def block(text: str) -> Text:
    """A text with its own lines; control characters are made visible."""
    return Text("\n".join(map(visible, text.splitlines())))


def _words(span: Span, *, whole: bool) -> str:
    if not whole or not isinstance(span, Quoted):
        return span_text(span)
    lines = [visible(row) for row in span.text.strip().splitlines()]
    return f'"{lines[0]}"' if len(lines) == 1 else "\n".join(["", *lines, ""])


def _style(span: Span) -> str:
    match span:
        case Gain():
            return "green" if span.value > 0 else "red" if span.value < 0 else ""
        case InstructionId():
            return "cyan"
        case Styled():
            return STYLES[span.style]
        case _:
            return ""


def _part(part: Part, width: int, *, whole: bool) -> Iterator[Text | RichTable]:
    match part:
        case Line():
            yield line_text(part, whole=whole)
        case Lines():
            yield from (line_text(item, whole=whole) for item in part.items)
        case Table():
            if part.groups and (whole or not part.folded):
                yield from _table(_Cells(part, whole=whole), width)
        case ChatTurns():
            yield block(part.answer) if whole else Text(quote(part.answer))
        case Preformatted():
            if not part.title:
                yield block(part.text) if whole else Text(quote(part.text, LONGEST_CAUSE))
        case ImageReference():
            pass


class _Cells:
    """The texts of a table without its pictures."""

    def __init__(self, part: Table, *, whole: bool) -> None:
        drawn = [n for n, column in enumerate(part.columns) if column.kind != "picture"]
        self.title = Text(visible(part.title), style="bold")
        self.columns = [part.columns[n] for n in drawn]
        self.groups = [
            (
                line_text(group.head, whole=whole) if group.head else None,
                [[_cell(row[n], whole=whole) for n in drawn] for row in group.rows],
                line_text(group.foot, whole=whole) if group.foot else None,
            )
            for group in part.groups
        ]

    def text_width(self, width: int) -> float:
        """What each text column gets of `width` characters, if they share equally."""
        texts = sum(column.kind == "text" for column in self.columns)
        left = width
        for n, column in enumerate(self.columns):
            cells = [row[n] for _, rows, _ in self.groups for row in rows]
            if column.kind != "text":
                left -= GAP + max(len(column.title), *(cell.cell_len for cell in cells), 0)
        return left / max(texts, 1) - GAP


def _table(cells: _Cells, width: int) -> Iterator[Text | RichTable]:
    yield cells.title
    narrow = cells.text_width(width) < NARROWEST
    yield from _stacked(cells) if narrow else [_columns(cells)]


def _columns(cells: _Cells) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), expand=True)
    for column in cells.columns:
        table.add_column(
            column.title,
            ratio=column.share if column.kind == "text" else None,
            no_wrap=column.kind != "text",
            justify="right" if column.kind == "number" else "left",
            overflow="fold",
        )
    widest = next(n for n, column in enumerate(cells.columns) if column.kind == "text")

    def alone(text: Text) -> list[Text]:
        return [text if n == widest else Text() for n in range(len(cells.columns))]

    for head, rows, foot in cells.groups:
        if head is not None:
            table.add_row(*alone(head), style="bold")
        for row in rows:
            table.add_row(*row)
        if foot is not None:
            table.add_row(*alone(foot), style="dim")
        table.add_section()
    return table


def _stacked(cells: _Cells) -> Iterator[Text]:
    """Each row below the other: its texts, then its short cells on one line."""
    for head, rows, foot in cells.groups:
        yield Text()
        if head is not None:
            yield head
        for row in rows:
            named = list(zip(cells.columns, row, strict=True))
            for column, cell in named:
                if column.kind == "text":
                    yield Text(f"{column.title}: ", style="dim") + cell
            short = [
                Text(f"{column.title} ", style="dim") + cell
                for column, cell in named
                if column.kind != "text"
            ]
            yield Text("  ") + Text("; ").join(short)
        if foot is not None:
            yield foot
    yield Text()


def _cell(line: Line, *, whole: bool) -> Text:
    """A cell: a quoted text needs no quotation marks there."""
    text = Text()
    for span in line.spans:
        words = _words(span, whole=whole).strip("\n")
        if isinstance(span, Quoted) and words.startswith('"') and words.endswith('"'):
            words = words[1:-1]
        text.append(words, style=_style(span))
    return text
