"""What the agents of the free-form style read: the results of a search as plain text.

Gains are shown as score x 100. Long texts are shortened until a request fits its budget of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from bigpe.agents.evidence.contrasts import Contrast, TermTally
from bigpe.agents.evidence.mixed_model import EvidenceRow, PairedComparison
from bigpe.agents.evidence.terms import contains_term, one_line, parts_of
from bigpe.agents.messages.parts import PairedGain
from bigpe.agents.messages.search import InstructionRecord, SearchState, TriedChange
from bigpe.services.core.values import Instruction, cut_text
from bigpe.services.llm.base_client import estimated_tokens

LIMITS = (4000, 2000, 1000, 600, 400, 250, 150, 80, 40)
"""Lengths to which texts are shortened, in characters, until a request fits."""
DIFFERENCES = 14
"""Words of each side that a contrast lists."""


def fit(build: Callable[[int], str], tokens: int) -> str:
    """`build(limit)` with the largest limit of LIMITS whose text fits in about `tokens` tokens.

    `build` shortens each text to `limit` characters. The smallest limit is used if none fits.
    """
    text = ""
    for limit in LIMITS:
        text = build(limit)
        if estimated_tokens(text) <= tokens:
            break
    return text


def shortened(text: str, limit: int) -> str:
    """`text` on one line, at most `limit` characters; a cut is marked by an ellipsis."""
    line = one_line(text)
    return cut_text(line, limit)


def points(gain: float) -> str:
    """A gain as score x 100, with its sign."""
    return f"{100 * gain:+.1f}"


def estimate(mean: float | None, lo: float | None, hi: float | None) -> str:
    """A mean gain with its 95% interval, where there is one."""
    if mean is None:
        return "no result yet"
    bounds = f" [{points(lo)}, {points(hi)}]" if lo is not None and hi is not None else ""
    return f"{points(mean)}{bounds}"


def quoted(text: str) -> str:
    """An instruction with its lines, delimited. It is never cut: each of its rules counts."""
    return f'"""\n{text}\n"""'


def exemplars(instruction: Instruction, limit: int) -> str:
    """The exemplars of an instruction, which the generator sees as earlier answers."""
    return "\n".join(f"- {shortened(exemplar.line, limit)}" for exemplar in instruction.exemplars)


def record(item: InstructionRecord) -> str:
    """The results of an instruction in one line."""
    if item.mean is None:
        return "no result yet"
    won = f"; best on {counted(len(item.won), 'prompt')}" if item.won else ""
    return f"mean gain {estimate(item.mean, item.lo, item.hi)}, {item.gains} comparisons{won}"


def batch(gains: Sequence[PairedGain], limit: int) -> str:
    """The batch, from the highest to the lowest gain."""
    ordered = sorted(gains, key=lambda gain: -gain.gain)
    return "\n".join(_gain(index, gain, limit) for index, gain in enumerate(ordered, start=1))


def best_and_worst(gains: Sequence[PairedGain], best: int, worst: int) -> list[PairedGain]:
    """The rewrites with the `best` highest and the `worst` lowest gains, without fallbacks."""
    usable = sorted((gain for gain in gains if gain.fallback is None), key=lambda gain: -gain.gain)
    return usable[:best] + usable[best:][-worst:]


def _gain(index: int, gain: PairedGain, limit: int) -> str:
    head = f"{index}. short prompt: {shortened(gain.naive, limit)}"
    if gain.fallback is not None:
        return f"{head}\n   no usable rewrite ({shortened(gain.fallback, min(limit, 200))}): gain 0"
    cut = f"; the model cut off {gain.truncated} tokens of it" if gain.truncated else ""
    scores = f"score {100 * gain.score:.1f}, short prompt {100 * gain.naive_score:.1f}"
    return (
        f"{head}\n   rewrite: {_rewrite(gain, limit)}\n   gain: {points(gain.gain)} ({scores}){cut}"
    )


def _rewrite(pair: PairedGain | PairedComparison, limit: int) -> str:
    """The rewrite, and its negative prompt if it has one."""
    apart = f" [negative prompt: {shortened(pair.negative, limit)}]" if pair.negative else ""
    return shortened(pair.rewrite, limit) + apart


def contrast(item: Contrast, own: str, limit: int) -> str:
    """Rewrites of one prompt, best first, and the words that only the best or the worst has.

    `own`: the id of the instruction that is looked at.
    """
    best, worst = item.best, item.worst
    names = {own: "this instruction"}
    return "\n".join(
        (
            f"- short prompt: {shortened(best.naive, limit)}",
            *(
                f"  {points(pair.gain)} ({names.get(pair.arm, pair.arm[:8])}): "
                f"{_rewrite(pair, limit)}"
                for pair in (best, *item.between, worst)
            ),
            f"  only the best has: {only_in(best.rewrite, worst.rewrite, limit)}",
            f"  only the worst has: {only_in(worst.rewrite, best.rewrite, limit)}",
        )
    )


def only_in(text: str, other: str, limit: int) -> str:
    """What `text` says and `other` does not, in order, at most 2 `limit` characters."""
    found = [part for part in dict.fromkeys(parts_of(text)) if not contains_term(other, part)]
    more = f" and {len(found) - DIFFERENCES} more" if len(found) > DIFFERENCES else ""
    listed = shortened(", ".join(found[:DIFFERENCES]), 2 * limit)
    return f"{listed}{more}" if found else "nothing"


def professional(pair: PairedComparison, limit: int) -> str:
    """A professional prompt with its gain."""
    return (
        f"- {shortened(pair.rewrite, limit)} "
        f"(for {shortened(pair.naive, min(limit, 120))}; gain {points(pair.gain)})"
    )


def hints(rows: Iterable[EvidenceRow], tallies: Mapping[str, TermTally]) -> str:
    """Rows of the evidence table, with the tallies of their terms."""
    return "\n".join(_hint(row, tallies.get(row.term)) for row in rows)


def _hint(row: EvidenceRow, tally: TermTally | None) -> str:
    within = (
        f"rewrites with it {points(tally.mean)} against others of the same short prompt, better "
        f"on {tally.better} of {counted(tally.prompts, 'prompt')}; "
        if tally
        else ""
    )
    return (
        f'{row.id} "{row.term}": {within}estimate {points(row.effect)} '
        f"[{points(row.lo)}, {points(row.hi)}], in {counted(row.n, 'rewrite')} of "
        f"{counted(row.arms, 'instruction')}"
    )


def tried(changes: Iterable[TriedChange], own: str, limit: int) -> str:
    """The changes that were tried, and what each child gained over its parent.

    `own`: the id of the instruction that is looked at, whose last batch is not counted.
    """
    return "\n".join(
        f"- round {change.round}, {change.operator}: {shortened(change.change, limit)} -> "
        f"{_outcome(change, own)}"
        for change in changes
    )


def _outcome(change: TriedChange, own: str) -> str:
    made = f"; it made this instruction of {change.parent[:8]}" if change.child == own else ""
    if not change.prompts:
        return f"not measured before this batch{made}" if made else "not measured yet"
    measured = estimate(change.mean, change.lo, change.hi)
    return f"{measured} over its parent, {counted(change.prompts, 'prompt')}{made}"


def leaderboard(search: SearchState, partner: InstructionRecord | None, limit: int) -> str:
    """The best and the worst instructions with their texts, without those that are shown whole."""
    whole = {item.instruction.id for item in (search.own, partner) if item is not None}
    return "\n".join(
        f"- {item.instruction.id[:8]} ({record(item)}): {shortened(item.instruction.text, limit)}"
        for item in search.records
        if item.instruction.id not in whole
    )


def counted(count: int, noun: str) -> str:
    """`1 round`, `3 rounds`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def sections(parts: Iterable[tuple[str, str]]) -> str:
    """Headed sections; empty ones are left out."""
    return "\n\n".join(f"## {title}\n{body}" for title, body in parts if body)
