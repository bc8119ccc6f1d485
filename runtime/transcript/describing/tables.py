"""Comparisons, effects of terms and tried changes as tables of a description."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bigpe.agents.evidence.contrasts import Contrast, TermTally
from bigpe.agents.evidence.mixed_model import EvidenceRow, PairedComparison
from bigpe.agents.messages.core import PairedGain
from bigpe.agents.messages.search import InstructionRecord, TriedChange
from bigpe.agents.reasoning.free_form.tables import only_in
from bigpe.runtime.formatting import points
from bigpe.runtime.transcript.describing.parts import (
    Column,
    Gain,
    InstructionId,
    Line,
    Picture,
    Quoted,
    RowGroup,
    Score,
    Span,
    Table,
    bad,
    dim,
    line,
    negative_prompt,
)

NOTHING = "-"
UNIT = " mean (score x 100)"
CONTRASTS = "Contrasts: rewrites of one prompt at one seed, by any instruction"
LIMIT = 400
"""Characters of the words that only one rewrite of a contrast has."""


def gain_table(gains: Sequence[PairedGain], title: str) -> Table:
    """Paired comparisons with both pictures, from the highest to the lowest gain, and the mean.

    Fallbacks and cut tokens have a column only if there are any.
    """
    ordered = sorted(gains, key=lambda pair: -pair.gain)
    fell = any(pair.fallback is not None for pair in gains)
    cut = any(pair.truncated for pair in gains)
    columns = [
        Column("pictures", "picture"),
        Column("naive prompt"),
        Column("rewrite", share=3),
        Column("gain", "number"),
        Column("scores", "number"),
        *([Column("fallback")] if fell else []),
        *([Column("tokens cut", "number")] if cut else []),
    ]
    rows = tuple(_gain_row(pair, fell=fell, cut=cut) for pair in ordered)
    foot = line(Gain(sum(p.gain for p in gains) / len(gains)), dim(UNIT)) if gains else None
    return Table(title, tuple(columns), (RowGroup(rows, foot=foot),) if rows else ())


def _gain_row(pair: PairedGain, *, fell: bool, cut: bool) -> tuple[Line, ...]:
    kept = pair.fallback is not None
    rewrite = line(dim("kept naive")) if kept else _rewrite(pair)
    reason = f"{pair.fault or 'unusable'}: {pair.fallback}" if kept else NOTHING
    return (
        line(
            *_picture(pair.naive_image, "naive", pair.naive),
            *_picture(pair.image, "rewritten", pair.rewrite),
        ),
        line(Quoted(pair.naive, style="dim")),
        rewrite,
        line(Gain(pair.gain)),
        line(Score(pair.naive_score), dim(" → "), Score(pair.score)),
        *([line(bad(reason) if kept else dim(reason))] if fell else []),
        *([line(str(pair.truncated or NOTHING))] if cut else []),
    )


def contrast_table(contrasts: Iterable[Contrast], batch: Sequence[PairedGain], own: str) -> Table:
    """Rewrites of one naive prompt and seed by any instruction, best first, a group for each.

    `own`: the id of the instruction that the gradient is about.
    """
    naive_images = {(pair.naive, pair.seed): pair.naive_image for pair in batch}
    columns = (
        Column("picture", "picture"),
        Column("rewrite"),
        Column("gain", "number"),
        Column("instruction", "short"),
    )
    groups: list[RowGroup] = []
    for found in contrasts:
        best, worst = found.best, found.worst
        digest = naive_images.get((best.naive, best.seed), "")
        groups.append(
            RowGroup(
                tuple(_compared(pair, own) for pair in (best, *found.between, worst)),
                head=line(*_picture(digest, "naive", best.naive), Quoted(best.naive)),
                foot=line(
                    "only the best has: ",
                    only_in(best.rewrite, worst.rewrite, LIMIT),
                    "; only the worst has: ",
                    only_in(worst.rewrite, best.rewrite, LIMIT),
                ),
            )
        )
    return Table(CONTRASTS, columns, tuple(groups))


def _compared(pair: PairedComparison, own: str) -> tuple[Line, ...]:
    mark = (dim(" (this)"),) if pair.arm == own else ()
    return (
        line(*_picture(pair.image, "rewritten", pair.rewrite)),
        _rewrite(pair),
        line(Gain(pair.gain)),
        line(InstructionId(pair.arm), *mark),
    )


def professional_table(pairs: Iterable[PairedComparison]) -> Table:
    """Professional prompts of the batch's subjects with their gains."""
    found = list(pairs)
    drawn = any(pair.image for pair in found)
    columns = (
        *((Column("picture", "picture"),) if drawn else ()),
        Column("professional prompt", share=3),
        Column("for"),
        Column("gain", "number"),
    )
    rows = tuple(
        (
            *((line(*_picture(pair.image, "professional", pair.rewrite)),) if drawn else ()),
            _rewrite(pair),
            line(Quoted(pair.naive, style="dim")),
            line(Gain(pair.gain)),
        )
        for pair in found
    )
    return Table(
        "Professional prompts of the same subjects", columns, (RowGroup(rows),) if rows else ()
    )


def evidence_table(
    rows: Iterable[EvidenceRow],
    title: str,
    tallies: Mapping[str, TermTally] | None = None,
    *,
    folded: bool = False,
) -> Table:
    """Estimated effects on the gain; with `tallies` also the differences within one prompt."""
    columns = (
        Column("row", "short"),
        Column("term"),
        *((Column("within prompt", "number"), Column("better on", "number")) if tallies else ()),
        Column("estimate", "number"),
        Column("95% interval", "number"),
        Column("n", "number"),
        Column("arms", "number"),
    )
    found = tuple(_evidence_row(row, tallies) for row in rows)
    return Table(title, columns, (RowGroup(found),) if found else (), folded)


def _evidence_row(row: EvidenceRow, tallies: Mapping[str, TermTally] | None) -> tuple[Line, ...]:
    kind = "" if row.kind == "term" else f" ({row.kind})"
    note = f"{kind}{' (confounded)' if row.confounded else ''}"
    within: tuple[Line, ...] = ()
    if tallies:
        tally = tallies.get(row.term)
        within = (
            (line(Gain(tally.mean)), line(f"{tally.better} of {tally.prompts}"))
            if tally
            else (line(NOTHING), line(NOTHING))
        )
    return (
        line(row.id),
        line(Quoted(row.term), dim(note)),
        *within,
        line(Gain(row.effect)),
        line(f"{points(row.lo)} … {points(row.hi)}"),
        line(str(row.n)),
        line(str(row.arms)),
    )


def record_table(records: Iterable[InstructionRecord]) -> Table:
    """Instructions with their results, best first."""
    columns = (
        Column("id", "short"),
        Column("instruction", share=3),
        Column("mean gain", "number"),
        Column("95% interval", "number"),
        Column("n", "number"),
        Column("prompts won", "number"),
    )
    rows = tuple(
        (
            line(InstructionId(record.instruction.id)),
            line(Quoted(record.instruction.text)),
            line(NOTHING) if record.mean is None else line(Gain(record.mean)),
            line(*(_bounds(record) or (NOTHING,))),
            line(str(record.gains)),
            line(str(len(record.won))),
        )
        for record in records
    )
    return Table("Instructions with results", columns, (RowGroup(rows),) if rows else ())


def tried_table(changes: Sequence[TriedChange]) -> Table:
    """Each tried change with what the child gained over its parent, oldest first."""
    columns = (
        Column("round", "number"),
        Column("operator", "short"),
        Column("parent → child", "short"),
        Column("change"),
        Column("over parent", "number"),
        Column("prompts", "number"),
    )
    rows = tuple(
        (
            line(str(change.round)),
            line(change.operator),
            line(InstructionId(change.parent), dim(" → "), InstructionId(change.child)),
            line(Quoted(change.change)),
            line(NOTHING)
            if change.mean is None
            else line(Gain(change.mean), " ", *_bounds(change)),
            line(str(change.prompts or NOTHING)),
        )
        for change in changes
    )
    return Table("Changes that were tried", columns, (RowGroup(rows),) if rows else ())


def _bounds(found: TriedChange | InstructionRecord) -> tuple[Span, ...]:
    if found.lo is None or found.hi is None:
        return ()
    return (dim(f"{points(found.lo)} … {points(found.hi)}"),)


def _rewrite(pair: PairedGain | PairedComparison) -> Line:
    return line(Quoted(pair.rewrite), *negative_prompt(pair))


def _picture(digest: str, side: str, text: str) -> tuple[Span, ...]:
    return (Picture(digest, f"{side}: {text}"),) if digest else ()
