"""Paid calls are paid once: a durable memo with single flight.

An effect is a call of a model. Its key is the digest of everything its result depends on, so a
resumed run, another arm or a later evaluation that asks for the same thing gets the stored
result. A failed call is never stored.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from cachetools import LRUCache

from bigpe.services.core.errors import LlmError
from bigpe.services.core.values import Json, LlmUsage, canonical_json
from bigpe.services.store.caller_context import CallerContext, current_caller, watching
from bigpe.services.store.database import Statement, Store


class CallCacheProtocol(Protocol):
    """What services need of `CallCache`."""

    async def run(
        self,
        key: str,
        kind: str,
        request: Json,
        call: Callable[[], Awaitable[Json]],
        *,
        valid: Callable[[Json], bool] | None = None,
    ) -> Json:
        """The stored result of `key`, or that of `call`, which is stored first.

        Concurrent callers of one key share one call. A stored result that `valid` refuses (its
        picture is gone, say) is paid again. Exceptions of `call` propagate and store nothing.
        """
        ...


class _Flights:
    """One call at a time for each key; concurrent requests for the key wait for it."""

    def __init__(self) -> None:
        self._going: dict[str, asyncio.Task[Json]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._going

    async def join(self, key: str, call: Callable[[], Coroutine[Any, Any, Json]]) -> Json:
        """The result of the call under way, or of this one."""
        flight = self._going.get(key)
        if flight is None:
            flight = self._going[key] = asyncio.create_task(call())
            flight.add_done_callback(lambda landed: self._land(key, landed))
        # A waiter that is cancelled must not take the call from those who share it.
        return await asyncio.shield(flight)

    def _land(self, key: str, flight: asyncio.Task[Json]) -> None:
        self._going.pop(key, None)
        if not flight.cancelled():
            flight.exception()  # waiters get it; without waiters asyncio would log it

    async def close(self) -> None:
        """End the calls under way; what they write already is written."""
        going = [*self._going.values()]
        for flight in going:
            flight.cancel()
        await asyncio.gather(*going, return_exceptions=True)


class CallCache:
    """The memo, kept in the project's database."""

    def __init__(self, store: Store, *, sealed: bool = False) -> None:
        """`sealed`: kept in the table that a run's store is refused (see `database.SEALED`)."""
        self._store = store
        self._get, self._put = (
            ("get_sealed_effect", "put_sealed_effect") if sealed else ("get_effect", "put_effect")
        )
        self._flights = _Flights()
        self.paid: Counter[str] = Counter()
        """Calls really made by this process, by kind."""
        self.saved: Counter[str] = Counter()
        """Calls answered from the memo or by joining one in flight, by kind."""

    async def run(
        self,
        key: str,
        kind: str,
        request: Json,
        call: Callable[[], Awaitable[Json]],
        *,
        valid: Callable[[Json], bool] | None = None,
    ) -> Json:
        """See `CallCacheProtocol.run`."""
        if key in self._flights:
            self.saved[kind] += 1
        return await self._flights.join(key, lambda: self._obtain(key, kind, request, call, valid))

    async def close(self) -> None:
        """End the calls under way, before the database is closed under them."""
        await self._flights.close()

    async def _obtain(
        self,
        key: str,
        kind: str,
        request: Json,
        call: Callable[[], Awaitable[Json]],
        valid: Callable[[Json], bool] | None,
    ) -> Json:
        row = await self._store.row(self._get, key=key)
        if row is not None:
            stored: Json = json.loads(row["result"])
            if valid is None or valid(stored):
                self.saved[kind] += 1
                return stored
        self.paid[kind] += 1
        payment = await self._open_payment(kind)
        start = time.monotonic()
        with watching() as watch:
            try:
                result = await call()
            except Exception as error:
                usage = error.usage if isinstance(error, LlmError) else LlmUsage()
                seconds = time.monotonic() - start
                await self._store.write([_settled(payment, "failed", usage, seconds)])
                raise
        seconds = time.monotonic() - start
        record = {
            "key": key,
            "kind": kind,
            "request": canonical_json(request),
            "result": canonical_json(result),
            "ms": 1000 * seconds,
            "ts": time.time(),
        }
        usage = LlmUsage.model_validate(result.get("usage", {}))
        worked = seconds if watch.seconds is None else watch.seconds
        await self._store.write([(self._put, record), _settled(payment, "answered", usage, worked)])
        return result

    async def _open_payment(self, kind: str) -> str:
        """Note the call before it is made: whatever happens to this process, it is known of."""
        spender = current_caller() or CallerContext("", "", 0)
        payment = uuid.uuid4().hex
        record = {
            "id": payment,
            "run": spender.run,
            "actor": spender.actor,
            "round": spender.round,
            "kind": kind,
            "ts": time.time(),
        }
        await self._store.write([("open_payment", record)])
        return payment


class InMemoryCallCache:
    """A memo in memory: it goes with its owner, and results unused for longest go before."""

    def __init__(self, limit: int = 10_000) -> None:
        self._kept: LRUCache[str, Json] = LRUCache(limit)
        self._flights = _Flights()

    async def run(
        self,
        key: str,
        kind: str,
        request: Json,
        call: Callable[[], Awaitable[Json]],
        *,
        valid: Callable[[Json], bool] | None = None,
    ) -> Json:
        """See `CallCacheProtocol.run`."""
        kept = self._kept.get(key)
        if kept is not None and (valid is None or valid(kept)):
            return kept

        async def obtain() -> Json:
            self._kept[key] = result = await call()
            return result

        return await self._flights.join(key, obtain)


def _settled(payment: str, outcome: str, usage: LlmUsage, seconds: float) -> Statement:
    record = {
        "id": payment,
        "outcome": outcome,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "ms": 1000 * seconds,
    }
    return ("settle_payment", record)
