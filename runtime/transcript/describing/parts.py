"""The parts of a message's description, and their text for a terminal.

A description has content without layout. `terminal_lines` prints it as lines, and
viewer/templates/message_content.html as HTML. Both depend on the parts only, not on message kinds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from bigpe.agents.evidence.mixed_model import EvidenceRow
from bigpe.agents.messages.core import PairedGain
from bigpe.runtime.formatting import points, quote, visible
from bigpe.services.core.values import Json

INDENT = "  "
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


Span = str | Styled | Quoted | Gain | Score | InstructionId


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
class GainList:
    """Paired comparisons with their images."""

    form: ClassVar[str] = "gains"
    pairs: tuple[PairedGain, ...]

    @property
    def mean(self) -> float:
        """The mean gain, in score units."""
        return sum(pair.gain for pair in self.pairs) / len(self.pairs)


@dataclass(frozen=True)
class EvidenceTable:
    """Estimated effects on the gain."""

    form: ClassVar[str] = "evidence"
    rows: tuple[EvidenceRow, ...]


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


Part = Line | Lines | ImageReference | GainList | EvidenceTable | ChatTurns | Preformatted


@dataclass(frozen=True)
class Description:
    """The content of a message, for terminal and pages."""

    headline: Line
    details: tuple[Part, ...] = ()
    gist: tuple[Span, ...] = ()
    """Continues the headline if the details are left out."""
    folds: bool = False
    """Whether a page puts successive messages of this kind into a single entry."""

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


# -- the text for a terminal ----------------------------------------------------------------------


def terminal_lines(description: Description) -> list[str]:
    """The headline, then the details, indented."""
    details = (text for part in description.details for text in _part_lines(part))
    return [_text(description.headline.spans), *(INDENT + text for text in details)]


def summary(description: Description) -> str:
    """The description as a single line."""
    return _text((*description.headline.spans, *description.gist))


def _text(spans: tuple[Span, ...]) -> str:
    return "".join(map(_span_text, spans))


def _span_text(span: Span) -> str:
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


def _part_lines(part: Part) -> Iterator[str]:
    match part:
        case Line():
            yield _text(part.spans)
        case Lines():
            yield from (_text(item.spans) for item in part.items)
        case GainList():
            for pair in part.pairs:
                texts = f"{quote(pair.naive, 40)} -> {quote(pair.rewrite, 90)}"
                texts += f" without {quote(pair.negative, 60)}" if pair.negative else ""
                yield f"{points(pair.gain):>7}  {texts}"
            if part.pairs:
                yield f"{points(part.mean):>7}  mean (score x 100)"
        case EvidenceTable():
            yield from map(_evidence_line, part.rows)
        case ChatTurns():
            yield quote(part.answer)
        case Preformatted():
            if not part.title:
                yield quote(part.text, LONGEST_CAUSE)
        case ImageReference():
            pass


def _evidence_line(row: EvidenceRow) -> str:
    confounded = ", confounded" if row.confounded else ""
    return (
        f"{row.id} {row.kind} {quote(row.term, 40)}: {points(row.effect)} "
        f"[{points(row.lo)}, {points(row.hi)}], n={row.n}, arms={row.arms}{confounded}"
    )
