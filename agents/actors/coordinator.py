"""The UCB coordinator: an actor around the campaign, which decides everything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from autogen_core import MessageContext, message_handler

from bigpe.agents.actors.base import Actor, M
from bigpe.agents.actors.journal import Journal
from bigpe.agents.campaign.campaign import Campaign
from bigpe.agents.messages.core import (
    GradientsComputed,
    ImageScored,
    InstructionsProposed,
    Message,
    PlanChanged,
    PromptsRewritten,
    RunStarted,
    StepFailed,
    StopRequested,
)
from bigpe.agents.messages.plugin import GateDecided, RoleReported, RolesChanged

SNAPSHOT_EVERY = 256
"""Handled messages between two snapshots: resuming folds at most so many, some tenths of a second,
and writing the state of a very long run that often still costs less than a thousandth of it."""


class Coordinator(Actor):
    """Consumes every result, emits every request, ArmPulled, PoolChanged and RunStopped."""

    def __init__(self, journal: Journal, campaign: Campaign | None = None) -> None:
        """`campaign`: the fold of what the coordinator handled before."""
        super().__init__("Chooses instructions and keeps the pool", journal)
        self.campaign = campaign or Campaign()
        self._unkept = 0
        """Messages handled since the last snapshot by this process."""

    async def fold(self, message: Message) -> None:
        """Take an owed message in before the run goes on; what follows from it is owed then."""
        messages = self.campaign.apply(message)
        await self._journal.commit(self.name, messages, handled=message)

    @message_handler
    async def on_result(
        self,
        message: RunStarted
        | PlanChanged
        | StopRequested
        | PromptsRewritten
        | ImageScored
        | GradientsComputed
        | InstructionsProposed
        | GateDecided
        | RoleReported
        | RolesChanged
        | StepFailed,
        ctx: MessageContext,
    ) -> None:
        """Fold the message in; say what follows from it."""
        await self.perform(message, self._apply)

    async def attempt(
        self, message: M, work: Callable[[M], Awaitable[Sequence[Message]]]
    ) -> Sequence[Message]:
        """Never tried again: applying twice would count twice. A failure here ends the run."""
        return await work(message)

    def snapshot(self) -> str | None:
        """The campaign, every SNAPSHOT_EVERY messages."""
        self._unkept += 1
        if self._unkept < SNAPSHOT_EVERY:
            return None
        self._unkept = 0
        return self.campaign.snapshot()

    async def _apply(self, message: Message) -> Sequence[Message]:
        return self.campaign.apply(message)
