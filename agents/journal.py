"""Between the actors and the store: what was handled, what was said, what is still owed.

An actor commits the mark that it handled a message together with its own messages and the
deliveries they owe (the outbox), and publishes them only then. On resume the open deliveries are
published again. Delivery is at least once, handling exactly once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from autogen_core import AgentId, AgentRuntime, TopicId

from bigpe.agents.messages import AnyMessage, LlmTurn, Message, StepFailed, parse_message
from bigpe.agents.role_messages import RoleSaid
from bigpe.agents.snapshots import fold_version
from bigpe.services.store import Statement, Store

Listener = Callable[[Message], None]


class Journal:
    """One run's transcript and outbox."""

    def __init__(self, store: Store, run: str) -> None:
        self.run = run
        # AutoGen subscribes an agent instance to a topic named like its key, so the key must not be
        # the name of a message kind, whatever the run is called.
        self.key = f"run-{run}"
        self._store = store
        self._runtime: AgentRuntime | None = None
        self._subscribers: dict[str, tuple[str, ...]] = {}
        self._listeners: list[Listener] = []
        self._said_again: set[str] = set()
        """Messages that the transcript held already when this process said them."""
        self._working = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False
        """Set when no further message should be taken up; what is open stays open."""
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails with the error that ended the run from inside."""

    def attach(self, runtime: AgentRuntime, subscribers: dict[str, tuple[str, ...]]) -> None:
        """Name the runtime, and for each message kind the actors that it is delivered to."""
        self._runtime = runtime
        self._subscribers = subscribers

    def listen(self, listener: Listener) -> None:
        """Call `listener` with every message once it is committed."""
        self._listeners.append(listener)

    # -- an actor's step ----------------------------------------------------------------------

    def begin(self) -> bool:
        """Whether a step may start; every True must be followed by `end`."""
        if self.draining:
            return False
        self._working += 1
        self._idle.clear()
        return True

    def end(self) -> None:
        """A step has ended."""
        self._working -= 1
        if self._working == 0:
            self._idle.set()

    async def drained(self) -> None:
        """Returns when no step is under way."""
        await self._idle.wait()

    def fail(self, error: BaseException) -> None:
        """End the run from inside; the first error wins."""
        self.draining = True
        if not self.broken.done():
            self.broken.set_exception(error)

    async def is_done(self, mid: str, actor: str) -> bool:
        """Whether `actor` has handled the message already.

        Asked of the store only for messages that were said before: a new one is not done.
        """
        if mid not in self._said_again:
            return False
        return await self._store.one("is_done", run=self.run, mid=mid, actor=actor) is not None

    async def commit(
        self,
        sender: str,
        outgoing: Sequence[Message],
        *,
        handled: Message | None = None,
        ms: float = 0.0,
        snapshot: str | None = None,
        also: Sequence[Statement] = (),
    ) -> None:
        """Store `outgoing` with the deliveries it owes, and the mark that `handled` was handled.

        `snapshot`: the sender's state after that, in place of the one it kept before. `also`: what
        must be stored in the same transaction.
        """
        statements: list[Statement] = [*also]
        for message in outgoing:
            statements.append(("add_message", self._row(sender, message, ms)))
            statements += [
                ("add_delivery", {"run": self.run, "actor": actor, "mid": message.mid})
                for actor in self._subscribers.get(message.kind, ())
            ]
        if handled is not None:
            mark = {"run": self.run, "actor": sender, "mid": handled.mid}
            statements.append(("mark_done", mark))
        if snapshot is not None:
            state = {"version": fold_version(), "state": snapshot, "ts": time.time()}
            statements.append(("put_snapshot", {"run": self.run, "actor": sender, **state}))
        written = await self._store.write(statements)
        for (query, row), count in zip(statements, written, strict=True):
            if query == "add_message" and not count:
                self._said_again.add(row["mid"])
        for message in outgoing:
            for listener in self._listeners:
                listener(message)

    async def publish(self, sender: str, outgoing: Iterable[Message]) -> None:
        """Deliver committed messages through the runtime."""
        if self._runtime is None:
            raise RuntimeError("the journal is not attached to a runtime")
        for message in outgoing:
            if self._subscribers.get(message.kind):
                await self._runtime.publish_message(
                    message,
                    TopicId(message.kind, self.key),
                    sender=AgentId(sender, self.key) if sender else None,
                    message_id=message.mid,
                )

    # -- a run's beginning and return ---------------------------------------------------------

    async def owed(self) -> list[AnyMessage]:
        """Messages with an open delivery, in transcript order, each once."""
        rows = await self._store.rows("open_deliveries", run=self.run)
        return [parse_message(body) for body in dict.fromkeys(row["body"] for row in rows)]

    # -- what a role looks up -----------------------------------------------------------------

    async def next_for(self, actor: str) -> AnyMessage | None:
        """The oldest message that is owed to `actor`."""
        row = await self._store.one("next_delivery", run=self.run, actor=actor)
        return parse_message(row["body"]) if row else None

    async def last_text(self, role: str) -> str:
        """What a role said last; "" before it said anything."""
        row = await self._store.one("last_text", run=self.run, sender=role)
        return str(row["text"]) if row else ""

    async def spent_by(self, role: str, first: int, last: int) -> list[RoleSaid | StepFailed]:
        """What a role said, or failed at, about messages of the rounds `first` to `last`."""
        rows = await self._store.rows("spent_by", run=self.run, sender=role, first=first, last=last)
        found = [parse_message(row["body"]) for row in rows]
        return [one for one in found if isinstance(one, RoleSaid | StepFailed)]

    async def hand_over(self, actor: str, kinds: Sequence[str]) -> None:
        """Owe `actor` every message of these kinds that it was never owed."""
        await self._store.write(
            [("add_past_deliveries", {"run": self.run, "actor": actor, "type": k}) for k in kinds]
        )

    def _row(self, sender: str, message: Message, ms: float) -> dict[str, object]:
        tokens = 0
        if isinstance(message, LlmTurn):
            tokens = message.prompt_tokens + message.completion_tokens
        return {
            "mid": message.mid,
            "run": self.run,
            "type": message.kind,
            "sender": sender,
            "parent": message.parent,
            "round": message.round,
            "body": message.model_dump_json(),
            "ts": time.time(),
            "tokens": tokens,
            "ms": ms,
        }
