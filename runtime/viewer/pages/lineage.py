"""The lineage page: the tree of instructions, with the changes of each and their reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from starlette.requests import Request

from bigpe.agents.statistics.intervals import Interval
from bigpe.runtime.transcript.summary import ArmSummary, RunSummary
from bigpe.runtime.viewer.context import Context
from bigpe.runtime.viewer.pages.text_diff import Piece, text_difference

DEEPEST = 8
"""Most steps of indentation; deeper nodes print their depth."""
MOST = 400
"""Most instructions on the page."""


class Node(NamedTuple):
    """An instruction with its place in the tree."""

    arm: ArmSummary
    depth: int
    gain: Interval | None
    parent_gain: Interval | None
    difference: list[Piece]
    """Difference to the parent's text; for a seed, its own text."""

    @property
    def indent(self) -> int:
        """Steps of indentation on the page."""
        return min(self.depth, DEEPEST)


async def show(context: Context, request: Request) -> tuple[str, Mapping[str, Any]]:
    """The page. `all=1` adds instructions that were never admitted."""
    facts = context.reader.facts
    everything = request.query_params.get("all") == "1"
    nodes = tree(facts, everything=everything)
    return "pages/lineage.html", {
        "here": "lineage",
        "nodes": nodes[:MOST],
        "hidden": len(nodes) - len(nodes[:MOST]),
        "never": sum(arm.state == "waiting" for arm in facts.arms.values()),
        "everything": everything,
    }


def tree(facts: RunSummary, *, everything: bool) -> list[Node]:
    """The instructions, depth first: each seed with its descendants, the oldest first."""
    prior = facts.pooled_variance()
    arms = {id: arm for id, arm in facts.arms.items() if everything or arm.state != "waiting"}
    children: defaultdict[str, list[str]] = defaultdict(list)
    for id, arm in arms.items():
        children[arm.parent if arm.parent in arms else ""].append(id)
    gains = {id: facts.interval(arm, prior) for id, arm in arms.items()}
    nodes: list[Node] = []
    stack = [(id, 0) for id in reversed(children[""])]
    while stack:
        id, depth = stack.pop()
        arm = arms[id]
        parent = arms.get(arm.parent or "")
        old = parent.instruction.text if parent else arm.instruction.text
        difference = text_difference(old, arm.instruction.text)
        nodes.append(Node(arm, depth, gains[id], gains.get(arm.parent or ""), difference))
        stack += [(child, depth + 1) for child in reversed(children[id])]
    return nodes
