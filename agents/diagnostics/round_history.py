"""The round history: a fold of a run's messages into the input of the diagnosis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from bigpe.agents.diagnostics.faults import WINDOW, RoundDiagnostics
from bigpe.agents.diagnostics.text_diversity import (
    ContentTermIndex,
    content,
    distance,
    mean_distance,
)
from bigpe.agents.messages.core import (
    ArmPulled,
    ImageScored,
    InstructionsProposed,
    Message,
    PoolChanged,
    RunStarted,
    StepFailed,
)
from bigpe.agents.statistics.moments import mean
from bigpe.services.core.values import Instruction


@dataclass
class _Open:
    """A round that is not settled."""

    pulled: ArmPulled | None = None
    truncated: int = 0
    novelty: list[float] = field(default_factory=list[float])
    proposals: int = 0
    causes: list[str] = field(default_factory=list[str])


class RoundHistory:
    """The newest settled rounds. Add every message of a run, or of its newest rounds, in order.

    It looks back `WINDOW` rounds, and of what was proposed another `WINDOW`: wherever it began,
    the newest rounds give the same result once it has read that many.
    """

    def __init__(
        self, messages: Iterable[Message] = (), living: Iterable[Instruction] = ()
    ) -> None:
        """`living`: the living instructions before the first message."""
        self.facts: list[RoundDiagnostics] = []
        """The newest settled rounds, in order."""
        self._open: dict[int, _Open] = defaultdict(_Open)
        self._living: dict[str, frozenset[str]] = {}
        """Content of the living instructions, by id."""
        self._diversity: float | None = None
        self._known = ContentTermIndex()
        self._change_pool(living)
        for message in messages:
            self.add(message)

    def add(self, message: Message) -> None:
        """Apply a message."""
        match message:
            case RunStarted():
                self._change_pool([seed.instruction for seed in message.plan.instructions])
                self.know(message)
            case ArmPulled():
                self._open[message.round].pulled = message
            case ImageScored(purpose="rewrite"):
                self._open[message.round].truncated += message.truncated > 0
            case InstructionsProposed():
                self._propose(self._open[message.round], message)
            case StepFailed(will_retry=False):
                self._open[message.round].causes.append(message.cause)
            case PoolChanged():
                self._settle(message)
            case _:
                pass

    def know(self, message: RunStarted | InstructionsProposed) -> None:
        """Add only the proposed instructions of a message from before the examined rounds."""
        proposed = (
            message.plan.instructions if isinstance(message, RunStarted) else message.proposals
        )
        self._know([content(item.instruction) for item in proposed], message.round)

    def _know(self, contents: Iterable[frozenset[str]], round: int) -> None:
        for terms in contents:
            self._known.add(terms, round)

    def _change_pool(self, admitted: Iterable[Instruction], retired: Iterable[str] = ()) -> None:
        self._living |= {instruction.id: content(instruction) for instruction in admitted}
        for id in retired:
            self._living.pop(id, None)
        self._diversity = mean_distance([*self._living.values()])

    def _propose(self, current: _Open, message: InstructionsProposed) -> None:
        self._known.forget(message.round - WINDOW)
        current.proposals += len(message.proposals)
        contents = [content(proposal.instruction) for proposal in message.proposals]
        near = [self._nearest(terms) for terms in contents]
        current.novelty += [gap for gap in near if gap is not None]
        for refused in message.refused:
            current.novelty += [0.0] if refused.code == "near-copy" else []
        self._know(contents, message.round)

    def _nearest(self, terms: frozenset[str]) -> float | None:
        """Distance to the nearest living or recently proposed instruction; None without any."""
        near = [distance(terms, other) for other in self._living.values()]
        proposed = self._known.nearest(terms)
        return min([*near, *([] if proposed is None else [proposed])], default=None)

    def _settle(self, message: PoolChanged) -> None:
        current = self._open[message.round]
        for late in [round for round in self._open if round <= message.round]:
            del self._open[late]
        if message.admitted or message.retired:
            self._change_pool(message.admitted, [row.instruction for row in message.retired])
        pulled = current.pulled
        if pulled is None:
            return
        fallbacks = [gain.fallback for gain in pulled.gains if gain.fallback is not None]
        while self.facts and self.facts[0].round <= message.round - WINDOW:
            del self.facts[0]
        self.facts.append(
            RoundDiagnostics(
                round=message.round,
                arm=pulled.instruction,
                gains=tuple(gain.gain for gain in pulled.gains),
                missing=pulled.missing,
                fallbacks=len(fallbacks),
                truncated=current.truncated,
                novelty=mean(current.novelty) if current.novelty else None,
                diversity=self._diversity,
                stale=message.stale,
                wants_proposal=pulled.wants_gradient and bool(pulled.gains),
                proposals=current.proposals,
                causes=(*current.causes, *fallbacks),
            )
        )
