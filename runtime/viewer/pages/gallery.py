"""The gallery page: the two images of each paired comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from starlette.requests import Request

from bigpe.agents.messages.core import ArmPulled, PairedGain
from bigpe.runtime.transcript.search import as_row
from bigpe.runtime.transcript.summary import PairRef
from bigpe.runtime.viewer.context import Context
from bigpe.runtime.viewer.pages.text_diff import Piece, text_difference

A_PAGE = 24
ORDERS = {"best": "highest gain first", "worst": "lowest gain first", "new": "newest first"}


class Comparison(NamedTuple):
    """A naive prompt and its rewrite, rendered with the same seed."""

    pair: PairedGain
    ref: PairRef
    mid: str
    """The message with the comparison."""
    difference: list[Piece]


async def show(context: Context, request: Request) -> tuple[str, Mapping[str, Any]]:
    """The page. `sort`: an order; `arm`: an instruction's id; `from`: first comparison."""
    params = request.query_params
    facts = context.reader.facts
    order = params.get("sort", "best")
    order = order if order in ORDERS else "best"
    arm = params.get("arm", "")
    arm = arm if arm in facts.arms else ""
    refs = chosen(facts.pairs, order=order, arm=arm)
    given = params.get("from", "0")
    start = int(given) if given.isdecimal() and len(given) < 10 else 0
    return "pages/gallery.html", {
        "here": "gallery",
        "order": order,
        "orders": ORDERS,
        "arm": arm,
        "pulled": [a for a in facts.arms.values() if a.count],
        "comparisons": await read_comparisons(context, refs[start : start + A_PAGE]),
        "start": start,
        "total": len(refs),
        "a_page": A_PAGE,
    }


def chosen(pairs: Sequence[PairRef], *, order: str, arm: str = "") -> list[PairRef]:
    """The comparisons of an instruction (or all) in order; equal gains stay in order of time."""
    kept = [pair for pair in pairs if not arm or pair.arm == arm]
    if order == "new":
        return kept[::-1]
    return sorted(kept, key=lambda pair: pair.gain, reverse=order == "best")


async def read_comparisons(context: Context, refs: Sequence[PairRef]) -> list[Comparison]:
    """Read the comparisons from their messages."""
    found: list[Comparison] = []
    for ref in refs:
        stored = await context.store.row("message_by_seq", run=context.run, seq=ref.seq)
        message = as_row(stored).message if stored else None
        if isinstance(message, ArmPulled):
            pair = message.gains[ref.place]
            difference = text_difference(pair.naive, pair.rewrite)
            found.append(Comparison(pair, ref, message.mid, difference))
    return found
