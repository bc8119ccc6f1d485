"""The journal: actors commit and publish their messages through it.

One transaction stores the mark that a message was handled, the messages that the step emits, and
their open deliveries. The messages are published after the commit. A resume publishes the open
deliveries again. So delivery is at least once, and handling is exactly once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from autogen_core import AgentId, AgentRuntime, TopicId

from bigpe.agents.actors.outbox import Outbox, OutboxEntry
from bigpe.agents.campaign.snapshot import fold_version
from bigpe.agents.messages.core import AnyMessage, LlmTurn, Message, StepFailed, parse_message
from bigpe.agents.messages.plugin import RoleSaid
from bigpe.services.store.database import Statement, Store

Listener = Callable[[Message], None]


class Journal:
    """One run's transcript and outbox."""

    def __init__(self, store: Store, run: str) -> None:
        self.run = run
        self._store = store
        self._runtime: AgentRuntime | None = None
        self._subscribers: dict[str, tuple[str, ...]] = {}
        self._topics: dict[str, TopicId] = {}
        self._listeners: list[Listener] = []
        self._outbox = Outbox(store, run, self._committed, self._lost)
        self._working = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False
        """True when no further step may start. Open deliveries stay open."""
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Gets the exception that ends the run."""

    def attach(self, runtime: AgentRuntime, subscribers: dict[str, tuple[str, ...]]) -> None:
        """Set the runtime, and for each message kind the actors that receive it."""
        self._runtime = runtime
        self._subscribers = subscribers
        self._topics = {kind: TopicId(kind, self.run) for kind in subscribers}

    def listen(self, listener: Listener) -> None:
        """Call `listener` with every message once it is committed."""
        self._listeners.append(listener)

    # -- an actor's step ----------------------------------------------------------------------

    def begin(self) -> bool:
        """Whether a step may start. If it returns True, the caller must call `end`."""
        if self.draining:
            return False
        self._working += 1
        self._idle.clear()
        return True

    def end(self) -> None:
        """Record that a step has ended."""
        self._working -= 1
        if self._working == 0:
            self._idle.set()

    async def drained(self) -> None:
        """Wait until no step runs."""
        await self._idle.wait()

    def fail(self, error: BaseException) -> None:
        """End the run with `error`, unless an earlier error ends it already."""
        self.draining = True
        if not self.broken.done():
            self.broken.set_exception(error)

    async def is_done(self, mid: str, actor: str) -> bool:
        """Whether `actor` has handled the message already.

        The store is read only for repeated messages: a new message cannot be handled yet.
        """
        if mid not in self._outbox.repeated:
            return False
        await self.settled()
        return await self._store.row("is_done", run=self.run, mid=mid, actor=actor) is not None

    async def conclude(
        self,
        sender: str,
        outgoing: Sequence[Message],
        handled: Message,
        *,
        ms: float,
        snapshot: str | None,
    ) -> None:
        """End a step: queue its messages and the mark of `handled`; they are published once stored.

        Returns before the commit; waits only while the outbox is full. Steps are stored in the
        order of these calls. A step that cannot be stored ends the run.

        Args:
            sender: The actor that made the step.
            outgoing: The messages that the step emits.
            handled: The message that the step handled.
            ms: Duration of the step, milliseconds.
            snapshot: The sender's state after the step; it replaces an earlier one.
        """
        also: list[Statement] = []
        if snapshot is not None:
            state = {"version": fold_version(), "state": snapshot, "ts": time.time()}
            also.append(("put_snapshot", {"run": self.run, "actor": sender, **state}))
        self._put(self._entry(sender, outgoing, handled, also, ms=ms))
        await self._outbox.room()

    async def commit(
        self,
        sender: str,
        outgoing: Sequence[Message],
        *,
        handled: Message | None = None,
        also: Sequence[Statement] = (),
    ) -> None:
        """Store `outgoing` with its deliveries and the mark of `handled`. Returns after the commit.

        `also`: further statements of the same transaction.
        """
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(self._entry(sender, outgoing, handled, also, committed=committed))
        await committed

    async def settled(self) -> None:
        """Wait until all queued messages are committed."""
        await self.commit("", [])

    def _entry(
        self,
        sender: str,
        messages: Sequence[Message],
        handled: Message | None,
        also: Sequence[Statement],
        *,
        ms: float = 0.0,
        committed: asyncio.Future[None] | None = None,
    ) -> OutboxEntry:
        return OutboxEntry(
            sender,
            messages,
            [self._row(sender, message, ms) for message in messages],
            [
                {"actor": actor, "mid": message.mid}
                for message in messages
                for actor in self._subscribers.get(message.kind, ())
            ],
            [{"actor": sender, "mid": handled.mid}] if handled else [],
            also,
            committed,
        )

    def _put(self, entry: OutboxEntry) -> None:
        self._outbox.put(entry)
        self._working += 1
        self._idle.clear()

    async def _committed(self, entry: OutboxEntry) -> None:
        for message in entry.outgoing:
            for listener in self._listeners:
                listener(message)
        if entry.committed is None:
            await self.publish(entry.sender, entry.outgoing)
        elif not entry.committed.done():  # it is done if the waiting task was cancelled
            entry.committed.set_result(None)
        self.end()

    def _lost(self, entry: OutboxEntry, error: Exception) -> None:
        if entry.committed is None:
            self.fail(error)
        elif not entry.committed.done():
            entry.committed.set_exception(error)
        self.end()

    async def publish(self, sender: str, outgoing: Iterable[Message]) -> None:
        """Deliver committed messages through the runtime."""
        if self._runtime is None:
            raise RuntimeError("the journal is not attached to a runtime")
        for message in outgoing:
            if self._subscribers.get(message.kind):
                await self._runtime.publish_message(
                    message,
                    self._topics[message.kind],
                    sender=AgentId(sender, self.run) if sender else None,
                    message_id=message.mid,
                )

    # -- a run's beginning and return ---------------------------------------------------------

    async def pending(self) -> list[AnyMessage]:
        """Messages with an open delivery, in transcript order, each once."""
        rows = await self._store.rows("open_deliveries", run=self.run)
        return [parse_message(body) for body in dict.fromkeys(row["body"] for row in rows)]

    # -- reads of plugin actors ---------------------------------------------------------------

    async def next_for(self, actor: str) -> AnyMessage | None:
        """The message of the oldest open delivery to `actor`."""
        row = await self._store.row("next_delivery", run=self.run, actor=actor)
        return parse_message(row["body"]) if row else None

    async def last_text(self, role: str) -> str:
        """The newest text of a plugin actor; "" if there is none."""
        row = await self._store.row("last_text", run=self.run, sender=role)
        return str(row["text"]) if row else ""

    async def spent_by(self, role: str, first: int, last: int) -> list[RoleSaid | StepFailed]:
        """A plugin actor's texts and failures about messages of the rounds `first` to `last`."""
        rows = await self._store.rows("spent_by", run=self.run, sender=role, first=first, last=last)
        found = [parse_message(row["body"]) for row in rows]
        return [message for message in found if isinstance(message, RoleSaid | StepFailed)]

    async def requeue(self, actor: str, kinds: Sequence[str]) -> None:
        """Open a delivery to `actor` for each earlier message of these kinds that had none."""
        await self._store.write(
            [("add_past_deliveries", {"run": self.run, "actor": actor, "type": k}) for k in kinds]
        )

    def _row(self, sender: str, message: Message, ms: float) -> dict[str, object]:
        tokens = 0
        if isinstance(message, LlmTurn):
            tokens = message.prompt_tokens + message.completion_tokens
        return {
            "mid": message.mid,
            "type": message.kind,
            "sender": sender,
            "parent": message.parent,
            "round": message.round,
            "body": message.model_dump_json(),
            "ts": time.time(),
            "tokens": tokens,
            "ms": ms,
        }
