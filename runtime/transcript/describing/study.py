"""The study of a batch and the changes of a search as parts of a description."""

from __future__ import annotations

from collections.abc import Sequence

from bigpe.agents.evidence.contrasts import TermTally
from bigpe.agents.messages.search import BatchStudy, InstructionRecord, TriedChange
from bigpe.runtime.formatting import counted
from bigpe.runtime.transcript.describing.parts import (
    Gain,
    GainList,
    ImageReference,
    InstructionId,
    Line,
    Part,
    Quoted,
    dim,
    line,
    negative_prompt,
)


def study_parts(study: BatchStudy) -> list[Part]:
    """The batch, the contrasts within one prompt with their images, the tallies of terms, and what
    was tried."""
    parts: list[Part] = [_record(study.search.own), GainList(study.batch)]
    for contrast in study.contrasts:
        parts.append(line(dim("within one prompt: "), Quoted(contrast.best.naive)))
        between = [("between", pair) for pair in contrast.between]
        for side, pair in (("better", contrast.best), *between, ("worse", contrast.worst)):
            parts.append(
                line(
                    dim(f"{side} by "), InstructionId(pair.arm), " ", Gain(pair.gain), " ",
                    Quoted(pair.rewrite), *negative_prompt(pair),
                )
            )  # fmt: skip
            if pair.image:
                label = line(f"{side} ", Gain(pair.gain))
                parts.append(ImageReference(pair.image, f"{side}: {pair.rewrite}", label))
    parts += [_tally(tally) for tally in study.tallies]
    return [*parts, *tried_parts(study.search.tried)]


def _tally(tally: TermTally) -> Line:
    prompts = counted(tally.prompts, "prompt")
    return line(
        dim("rewrites with "), Quoted(tally.term), " ", Gain(tally.mean),
        dim(f" against others of one prompt, better on {tally.better} of {prompts}"),
    )  # fmt: skip


def _record(record: InstructionRecord) -> Line:
    if record.mean is None:
        return line(dim("its record: no result yet"))
    wins = f", best on {counted(len(record.won), 'prompt')}" if record.won else ""
    return line(dim("its record: "), Gain(record.mean), dim(f" over {record.gains} pairs{wins}"))


def tried_parts(changes: Sequence[TriedChange]) -> list[Part]:
    """Each tried change in one line, with what the child gained over its parent."""
    rows: list[Part] = []
    for change in changes:
        measured = (
            (Gain(change.mean), f" over its parent on {counted(change.prompts, 'prompt')}")
            if change.mean is not None
            else ("not measured yet",)
        )
        rows.append(
            line(
                dim(f"round {change.round}, {change.operator}: "), InstructionId(change.child), " ",
                Quoted(change.change), " ", *measured,
            )
        )  # fmt: skip
    return rows
