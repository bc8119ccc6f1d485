"""The parts of a message's description.

A description has content without layout. `terminal.py` prints it, and
viewer/templates/message_content.html makes HTML of it. Both depend on the parts only, not on
message kinds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from bigpe.runtime.formatting import points, quote, visible
from bigpe.services.core.values import Json

LONGEST_CAUSE = 400
"""Characters of a preformatted text that a terminal shows."""


# -- spans: the pieces of a line ------------------------------------------------------------------


@dataclass(frozen=True)
class Styled:
    """Words with a style on a page."""

    form: ClassVar[str] = "styled"
    text: str
    style: Literal["dim", "bad", "strong"]


@dataclass(frozen=True)
class Quoted:
    """Words of a person or a language model. A terminal cuts them at `limit` characters."""

    form: ClassVar[str] = "quoted"
    text: str
    limit: int = 160
    style: Literal["prompt", "dim"] = "prompt"


@dataclass(frozen=True)
class Gain:
    """A difference of scores, in score units."""

    form: ClassVar[str] = "gain"
    value: float


@dataclass(frozen=True)
class Score:
    """A score, in score units."""

    form: ClassVar[str] = "score"
    value: float


@dataclass(frozen=True)
class InstructionId:
    """A reference to an instruction. A page links it to the lineage."""

    form: ClassVar[str] = "instruction"
    id: str


@dataclass(frozen=True)
class Picture:
    """A small image of the blob store. A terminal does not show it."""

    form: ClassVar[str] = "picture"
    digest: str
    alt: str


Span = str | Styled | Quoted | Gain | Score | InstructionId | Picture


# -- parts: the details below the headline --------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A paragraph."""

    form: ClassVar[str] = "line"
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Lines:
    """A list of lines."""

    form: ClassVar[str] = "lines"
    items: tuple[Line, ...]


@dataclass(frozen=True)
class ImageReference:
    """An image of the blob store, with its texts. A terminal does not show it."""

    form: ClassVar[str] = "image"
    digest: str
    alt: str
    label: Line
    """Under a thumbnail."""
    caption: tuple[Line, ...] = ()
    """Beside the whole image."""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    kind: Literal["text", "short", "number", "picture"] = "text"
    """`text` takes the width that is left; a terminal leaves `picture` out."""
    share: int = 1
    """Of the width that text columns have, in a terminal."""


@dataclass(frozen=True)
class RowGroup:
    """Rows that belong together: a line for each cell."""

    rows: tuple[tuple[Line, ...], ...]
    head: Line | None = None
    foot: Line | None = None


@dataclass(frozen=True)
class Table:
    """A table. If `folded`, a page folds it, and a terminal has it only in a message alone."""

    form: ClassVar[str] = "table"
    title: str
    columns: tuple[Column, ...]
    groups: tuple[RowGroup, ...]
    folded: bool = False


@dataclass(frozen=True)
class ChatTurns:
    """An exchange with a language model: dumps of AgentChat messages, the answer last."""

    form: ClassVar[str] = "chat"
    turns: tuple[Json, ...]

    @property
    def answer(self) -> str:
        """The model's answer; empty without an exchange."""
        return str(self.turns[-1].get("content", "")) if self.turns else ""


@dataclass(frozen=True)
class Preformatted:
    """A text with its own line breaks, such as JSON. With a `title` a page folds it, and a
    terminal leaves it out."""

    form: ClassVar[str] = "preformatted"
    text: str
    title: str = ""


Part = Line | Lines | ImageReference | Table | ChatTurns | Preformatted


@dataclass(frozen=True)
class Description:
    """The content of a message, for terminal and pages."""

    headline: Line
    details: tuple[Part, ...] = ()
    gist: tuple[Span, ...] = ()
    """Continues the headline if the details are left out."""
    folds: bool = False
    """Whether a page puts successive messages of this kind into a single entry."""
    long: bool = False
    """Whether a list of messages shows the gist, and the details on demand only."""

    @property
    def image(self) -> ImageReference | None:
        """The image that the message is about, if any."""
        return next((part for part in self.details if isinstance(part, ImageReference)), None)


def line(*spans: Span) -> Line:
    """A line of these pieces."""
    return Line(spans)


class _HasNegative(Protocol):
    @property
    def negative(self) -> str: ...


def negative_prompt(text: _HasNegative) -> tuple[Span, ...]:
    """The negative prompt of a rewrite or an image, if it has one."""
    return (dim(" without "), Quoted(text.negative)) if text.negative else ()


def lines(items: Iterable[Line]) -> Lines:
    """A list of these lines."""
    return Lines(tuple(items))


def dim(text: str) -> Styled:
    """Less important words."""
    return Styled(text, "dim")


def bad(text: str) -> Styled:
    """Words about a failure."""
    return Styled(text, "bad")


def strong(text: str) -> Styled:
    """The most important words."""
    return Styled(text, "strong")


# -- as plain text --------------------------------------------------------------------------------


def summary(description: Description) -> str:
    """The description as a single line."""
    return "".join(map(span_text, (*description.headline.spans, *description.gist)))


def span_text(span: Span) -> str:
    """A span on one line, cut at its limit; control characters are made visible."""
    match span:
        case str():
            return visible(span)
        case Styled():
            return visible(span.text)
        case Quoted():
            return quote(span.text, span.limit)
        case Gain():
            return points(span.value)
        case Score():
            return f"{100 * span.value:.2f}"
        case InstructionId():
            return visible(span.id[:8])
        case Picture():
            return ""
