"""The actors that run plugins: they bound the plugin's time and output and count its usage."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from autogen_core import MessageContext, message_handler

from bigpe.agents.actors.base import Actor, M
from bigpe.agents.actors.journal import Journal
from bigpe.agents.campaign.plugin_state import items_of
from bigpe.agents.evidence.terms import one_line
from bigpe.agents.messages.core import (
    AnyMessage,
    CritiqueRequested,
    Gradient,
    GradientsComputed,
    Message,
    PoolChanged,
    StepFailed,
    parse_message,
)
from bigpe.agents.messages.plugin import (
    GateDecided,
    Judgement,
    ReviewRequested,
    RoleReported,
    RoleSaid,
)
from bigpe.agents.plugins import Contributor, Gate, Observer, PluginRole, RoleError
from bigpe.agents.plugins.llm import PluginLlm
from bigpe.agents.plugins.thread import RoleThread, WorkClock
from bigpe.agents.reasoning.evidence_worded.gradient import citation_holds
from bigpe.agents.reasoning.llm_turns import llm_turn
from bigpe.services.core.errors import BigpeError
from bigpe.services.core.retrying import RetryRule
from bigpe.services.core.values import LlmUsage, storable

R = TypeVar("R")
P = TypeVar("P", bound=PluginRole)


@dataclass(frozen=True)
class RoleLimits:
    """The limits of a plugin for one message."""

    timeout_s: float = 60.0
    max_texts: int = 8
    max_chars: int = 20_000
    """Maximum length of all texts together, characters."""


class PluginActor(Actor):
    """Base class: calls the plugin in its thread and records its language model calls."""

    def __init__(
        self,
        journal: Journal,
        thread: RoleThread[Any],
        llm: PluginLlm,
        limits: RoleLimits,
        retry: RetryRule | None,
    ) -> None:
        super().__init__("A role of another package", journal, retry=retry)
        self._thread = thread
        self._llm = llm
        self._limits = limits

    async def close(self) -> None:
        """End the plugin's thread."""
        await self._thread.close()

    async def _call(self, wanted: Callable[[P], Awaitable[R]]) -> R:
        clock = WorkClock(self._limits.timeout_s)
        self._llm.begin(clock)
        try:
            return await self._thread.call(wanted, clock)
        except Exception:
            if self._llm.fatal is not None:
                raise self._llm.fatal from None
            raise

    async def attempt(
        self, message: M, work: Callable[[M], Awaitable[Sequence[Message]]]
    ) -> Sequence[Message]:
        """See Actor.attempt. The language model calls of a failed step are stored, too."""
        outgoing = await super().attempt(message, work)
        if outgoing and isinstance(outgoing[-1], StepFailed):
            return [*outgoing, *self._turns(message)]
        return outgoing

    def _said(self, message: Message, texts: Sequence[str]) -> RoleSaid:
        return RoleSaid.make(
            message,
            f"{self.name}/{message.mid}",
            role=self.name,
            about=message.kind,
            texts=tuple(texts),
            usage=self._llm.usage,
        )

    def _turns(self, message: Message) -> list[Message]:
        return [
            llm_turn(message, self.name, f"{message.mid}/{index}", *exchange)
            for index, exchange in enumerate(self._llm.exchanges)
        ]

    def _texts(self, found: object) -> list[str]:
        """The texts that a plugin returned. Raises RoleError for other types and for excess."""
        texts = [found] if isinstance(found, str) else found
        if not isinstance(texts, list | tuple) or not all(isinstance(t, str) for t in texts):
            raise RoleError(f"it returned a {type(found).__name__}, not text or a list of texts")
        kept = [storable(text) for text in texts if isinstance(text, str) and text.strip()]
        size = sum(map(len, kept))
        if len(kept) > self._limits.max_texts or size > self._limits.max_chars:
            raise RoleError(
                f"it returned {len(kept):,} texts of {size:,} characters for one message; allowed "
                f"are {self._limits.max_texts:,} of {self._limits.max_chars:,}: see [roles."
                f"{self.name}] max_texts and max_chars"
            )
        return kept


class ObserverActor(PluginActor):
    """Consumes the kinds that the observer reads, and PoolChanged; emits RoleSaid, RoleReported.

    It reads its messages from the journal in transcript order. A published message only wakes it.
    So it has read a whole round when it handles the round's PoolChanged.
    """

    def __init__(
        self,
        journal: Journal,
        thread: RoleThread[Observer],
        llm: PluginLlm,
        limits: RoleLimits,
        reads: Sequence[str],
        retry: RetryRule | None = None,
    ) -> None:
        super().__init__(journal, thread, llm, limits, retry)
        self._reads = frozenset(reads)
        self._turn = asyncio.Lock()

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> None:
        """Read from the journal; the published message itself is not used."""
        await self.catch_up()

    async def catch_up(self) -> None:
        """Read all open deliveries, unless the run is pausing."""
        async with self._turn:
            try:
                await self._catch_up()
            except BigpeError as error:  # the store failed
                self._journal.fail(error)

    async def _catch_up(self) -> None:
        before = ""
        while True:
            await self._journal.settled()
            following = await self._journal.next_for(self.name)
            if following is None or following.mid == before:
                return  # no open delivery, or the run is pausing
            before = following.mid
            await self.perform(following, self._read)

    async def attempt(
        self, message: M, work: Callable[[M], Awaitable[Sequence[Message]]]
    ) -> Sequence[Message]:
        """See Actor.attempt. The end of a round is reported even after a failure."""
        outgoing = await super().attempt(message, work)
        if isinstance(message, PoolChanged):
            return [*outgoing, await self._report(message, outgoing)]
        return outgoing

    async def _read(self, message: AnyMessage) -> Sequence[Message]:
        self._llm.begin()
        if message.kind not in self._reads:
            return []
        last = await self._journal.last_text(self.name)

        async def read(observer: Observer) -> object:
            return await observer.read(message, last)

        texts = self._texts(await self._call(read) or [])
        if not texts and not self._llm.usage.calls:
            return []
        return [self._said(message, texts), *self._turns(message)]

    async def _report(self, message: PoolChanged, outgoing: Sequence[Message]) -> RoleReported:
        """The usage for a round. The report of round 1 includes the pilot."""
        first = 0 if message.round == 1 else message.round
        spent = [message for message in outgoing if isinstance(message, RoleSaid | StepFailed)]
        spent += await self._journal.spent_by(self.name, first, message.round)
        usage = sum((message.usage for message in spent), LlmUsage())
        return RoleReported.make(message, self.name, role=self.name, usage=usage)


class GateActor(PluginActor):
    """Consumes ReviewRequested, emits GateDecided."""

    @message_handler
    async def on_request(self, message: ReviewRequested, ctx: MessageContext) -> None:
        """Judge the answer if the request names this gate."""
        await self.perform(message, self._review)

    async def _review(self, message: ReviewRequested) -> Sequence[Message]:
        self._llm.begin()
        if message.role != self.name:
            return []
        subject = parse_message(json.dumps(message.subject))
        items = items_of(subject)

        async def judge(gate: Gate) -> object:
            return await gate.judge(subject, items)

        judgements = self._checked(await self._call(judge), len(items))
        decision = GateDecided.make(
            message,
            f"{self.name}/{message.mid}",
            role=self.name,
            judgements=judgements,
            usage=self._llm.usage,
        )
        return [decision, *self._turns(message)]

    def _checked(self, found: object, count: int) -> tuple[Judgement, ...]:
        if not isinstance(found, list | tuple):
            raise RoleError(f"it returned a {type(found).__name__}, not a list of judgements")
        checked: list[Judgement] = []
        for judgement in found:
            if not isinstance(judgement, Judgement) or not 0 <= judgement.item < count:
                raise RoleError(f"{judgement!r} is no judgement of one of {count} items")
            text = one_line(storable(judgement.text))
            if judgement.verdict == "amend" and not text:
                raise RoleError(f"it amends item {judgement.item} and gives no text")
            update = {"text": text, "reason": one_line(storable(judgement.reason))}
            checked.append(judgement.model_copy(update=update))
        self._texts(
            [part for judgement in checked for part in (judgement.text + judgement.reason,) if part]
        )
        return tuple(checked)


class ContributorActor(PluginActor):
    """Consumes CritiqueRequested, emits GradientsComputed under its own name."""

    @message_handler
    async def on_request(self, message: CritiqueRequested, ctx: MessageContext) -> None:
        """Write gradients."""
        await self.perform(message, self._contribute)

    async def _contribute(self, message: CritiqueRequested) -> Sequence[Message]:
        async def contribute(contributor: Contributor) -> object:
            return await contributor.contribute(message)

        found = await self._call(contribute)
        if not isinstance(found, list | tuple):
            raise RoleError(f"it returned a {type(found).__name__}, not a list of gradients")
        gradients = [self._checked(gradient, message) for gradient in found[: message.improvements]]
        self._texts([gradient.inference + gradient.improvement for gradient in gradients])
        computed = GradientsComputed.make(
            message,
            self.name,
            author=self.name,
            gradients=tuple(gradients),
            usage=self._llm.usage,
        )
        return [computed, *self._turns(message)]

    def _checked(self, found: object, message: CritiqueRequested) -> Gradient:
        """A valid gradient. Citations that `citation_holds` rejects are dropped."""
        if not isinstance(found, Gradient) or not found.improvement.strip():
            raise RoleError(f"{found!r} is no gradient with an improvement")
        improvement = one_line(storable(found.improvement))
        cited = [row for row in message.rows if row.id in found.evidence]
        valid = tuple(row.id for row in cited if citation_holds(improvement, row))
        return Gradient(
            inference=one_line(storable(found.inference)),
            improvement=improvement,
            evidence=valid,
            composed=False,
            dropped_citations=len(found.evidence) - len(valid),
            author=self.name,
        )
