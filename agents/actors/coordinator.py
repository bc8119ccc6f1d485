"""The coordinator: the actor that runs the campaign and thereby makes every decision."""

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
"""Handled messages between two snapshots: resuming folds at most this number, some tenths of a
second. Writing the state this often costs less than a thousandth of a very long run."""


class Coordinator(Actor):
    """Consumes every result, emits every request, ArmPulled, PoolChanged and RunStopped."""

    def __init__(self, journal: Journal, campaign: Campaign | None = None) -> None:
        """`campaign`: the fold of the messages that earlier processes handled."""
        super().__init__("Chooses instructions and keeps the pool", journal)
        self.campaign = campaign or Campaign()
        self._handled = 0
        """Messages that this process has handled since the last snapshot."""

    async def fold(self, message: Message) -> None:
        """Handle an open delivery before the run goes on. Its consequences become deliveries."""
        await self._journal.commit(self.name, self.campaign.apply(message), handled=message)

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
        """Apply the message to the campaign and emit its consequences."""
        await self.perform(message, self._apply)

    async def attempt(
        self, message: M, work: Callable[[M], Awaitable[Sequence[Message]]]
    ) -> Sequence[Message]:
        """Run `work` once: a second application would count twice. A failure ends the run."""
        return await work(message)

    def snapshot(self) -> str | None:
        """The campaign's state after every SNAPSHOT_EVERY messages, else None."""
        self._handled += 1
        if self._handled < SNAPSHOT_EVERY:
            return None
        self._handled = 0
        return self.campaign.snapshot()

    async def _apply(self, message: Message) -> Sequence[Message]:
        return self.campaign.apply(message)
