"""What a gradient calculator saw and answered, as parts of a description."""

from __future__ import annotations

import re

from bigpe.agents.messages.core import CritiqueRequested, Gradient, ProposalRequested
from bigpe.agents.messages.search import BatchStudy, SearchState
from bigpe.agents.reasoning.free_form.gradient import hint_rows
from bigpe.agents.reasoning.free_form.instruction import BEST, WORST
from bigpe.agents.reasoning.free_form.tables import best_and_worst
from bigpe.runtime.formatting import counted
from bigpe.runtime.transcript.describing.parts import (
    Gain,
    Line,
    Part,
    Quoted,
    Score,
    Span,
    dim,
    line,
    lines,
    strong,
)
from bigpe.runtime.transcript.describing.tables import (
    contrast_table,
    evidence_table,
    gain_table,
    professional_table,
    record_table,
    tried_table,
)


def study_parts(message: CritiqueRequested, study: BatchStudy) -> list[Part]:
    """The instruction with its record, the batch, contrasts, professional prompts, hints, and what
    was tried. The rest of the evidence table is folded: the request does not hold it."""
    tallies = {tally.term: tally for tally in study.tallies}
    hints = hint_rows(message.rows, study)
    return [
        line(Quoted(message.instruction.text)),
        _record(study.search),
        gain_table(study.batch, "The batch"),
        contrast_table(study.contrasts, study.batch, message.instruction.id),
        professional_table(study.professionals),
        evidence_table(hints, "Hints: effects of single terms over all rounds", tallies),
        tried_table(study.search.tried),
        evidence_table(
            message.rows, "The whole evidence table, of which hints are taken", tallies, folded=True
        ),
    ]


def study_gist(study: BatchStudy) -> tuple[Span, ...]:
    """What the request holds, in numbers."""
    held = (
        counted(len(study.batch), "comparison"),
        counted(len(study.contrasts), "contrast"),
        counted(len(study.search.tried), "tried change"),
    )
    return (" ", dim(", ".join(held)))


def proposal_request_parts(message: ProposalRequested) -> list[Part]:
    """The improvements; where the request holds a search, also rewrites, records and changes."""
    parts = [part for each in message.gradients for part in improvement_parts(each.improvement)]
    if message.search is None:
        return parts
    seen = best_and_worst(message.gains, BEST, WORST)
    return [
        *parts,
        gain_table(seen, "Rewrites of the batch: the best and the worst"),
        record_table(message.search.records),
        tried_table(message.search.tried),
    ]


def _record(search: SearchState) -> Line:
    """The results before the batch, and the noise."""
    own = search.own
    wins = f", best on {counted(len(own.won), 'prompt')}" if own.won else ""
    record: tuple[Span, ...] = (dim("no result yet"),)
    if own.mean is not None:
        record = (Gain(own.mean), dim(f" over {counted(own.gains, 'comparison')}{wins}"))
    stale = f"; the best has not improved for {counted(search.stale, 'round')}"
    return line(
        dim("its record before this batch: "), *record, dim("; noise of one gain: "),
        Score(search.sigma), dim(" (score x 100)"), dim(stale if search.stale else ""),
    )  # fmt: skip


def gradient_parts(gradient: Gradient) -> list[Part]:
    """Inference, improvements, the words that they name, and what they cite."""
    dropped = gradient.dropped_citations
    source = "composed from the evidence" if gradient.composed else f"worded by {gradient.author}"
    cites = f"; cites {', '.join(gradient.evidence) or 'nothing'}"
    note = f"; {counted(dropped, 'citation')} dropped" if dropped else ""
    named = (("add", gradient.adds), ("avoid", gradient.avoids))
    words = "; ".join(f"{verb}: {', '.join(terms)}" for verb, terms in named if terms)
    return [
        line(dim("inference: "), gradient.inference),
        *improvement_parts(gradient.improvement),
        *([line(dim(words))] if words else []),
        line(dim(f"{source}{cites}{note}")),
    ]


def improvement_parts(text: str) -> list[Part]:
    """An improvement; several changes, "(1) … (2) …", are a list."""
    changes = re.split(r"\s+(?=\(\d\) )", text)
    if len(changes) == 1:
        return [line(dim("improvement: "), strong(text))]
    return [line(dim("improvements:")), lines(line(strong(change)) for change in changes)]
