"""The call cache: a durable cache of paid calls; concurrent equal calls are made once.

The key of a call is the digest of everything that its result depends on. So a resumed run, another
arm or a later evaluation gets the stored result. A failed call is never stored.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, Protocol

from cachetools import LRUCache

from bigpe.services.core.errors import LlmError
from bigpe.services.core.values import Json, LlmUsage, canonical_json
from bigpe.services.store.caller_context import CallerContext, current_caller, watching
from bigpe.services.store.database import Statement, Store


class CachedCall(NamedTuple):
    """A call whose result a cache may keep."""

    key: str
    """Digest of everything that the result depends on."""
    kind: str
    request: Json
    """The request, as it is stored beside the result."""
    make: Callable[[], Awaitable[Json]]
    valid: Callable[[Json], bool] | None = None
    """Whether a stored result can still be used; None: always."""

    def accepts(self, stored: Json) -> bool:
        """Whether the stored result can still be used."""
        return self.valid is None or self.valid(stored)


class CallCacheProtocol(Protocol):
    """The interface of a call cache. An implementation inherits `run` and defines `answer`."""

    async def run(
        self,
        key: str,
        kind: str,
        request: Json,
        call: Callable[[], Awaitable[Json]],
        *,
        valid: Callable[[Json], bool] | None = None,
    ) -> Json:
        """The stored result of `key`. If there is none, the result of `call` is stored.

        Concurrent callers of a key share one call. If `valid` rejects a stored result (for example,
        its image is missing), the call is repeated. Exceptions of `call` propagate.
        """
        return await self.answer(CachedCall(key, kind, request, call, valid))

    async def answer(self, wanted: CachedCall) -> Json:
        """See `run`."""
        ...


class _Flights:
    """One call at a time for each key; concurrent requests for the key wait for it."""

    def __init__(self) -> None:
        self._going: dict[str, asyncio.Task[Json]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._going

    async def join(self, key: str, call: Callable[[], Coroutine[Any, Any, Json]]) -> Json:
        """The result of the call in flight for this key, or of `call`."""
        flight = self._going.get(key)
        if flight is None:
            flight = self._going[key] = asyncio.create_task(call())
            flight.add_done_callback(lambda landed: self._land(key, landed))
        # A cancelled caller must not cancel the call that others wait for.
        return await asyncio.shield(flight)

    def _land(self, key: str, flight: asyncio.Task[Json]) -> None:
        self._going.pop(key, None)
        if not flight.cancelled():
            flight.exception()  # waiters get it; without waiters asyncio would log it

    async def close(self) -> None:
        """Cancel the calls in flight."""
        going = [*self._going.values()]
        for flight in going:
            flight.cancel()
        await asyncio.gather(*going, return_exceptions=True)


class CallCache(CallCacheProtocol):
    """The call cache in the project's database."""

    def __init__(self, store: Store, *, sealed: bool = False) -> None:
        """`sealed`: kept in the table that a run's store is refused (see `database.SEALED`)."""
        self._store = store
        self._get, self._put = (
            ("get_sealed_effect", "put_sealed_effect") if sealed else ("get_effect", "put_effect")
        )
        self._flights = _Flights()
        self.paid: Counter[str] = Counter()
        """Number of calls that this process made, by kind."""
        self.saved: Counter[str] = Counter()
        """Number of calls answered from the cache or by a call in flight, by kind."""

    @property
    def store(self) -> Store:
        """The database that keeps the results."""
        return self._store

    async def answer(self, wanted: CachedCall) -> Json:
        """See `CallCacheProtocol.run`."""
        if wanted.key in self._flights:
            self.saved[wanted.kind] += 1
        return await self._flights.join(wanted.key, lambda: self._obtain(wanted))

    async def close(self) -> None:
        """Cancel the calls in flight. Call it before the database is closed."""
        await self._flights.close()

    async def _obtain(self, wanted: CachedCall) -> Json:
        kind = wanted.kind
        row = await self._store.row(self._get, key=wanted.key)
        if row is not None:
            stored: Json = json.loads(row["result"])
            if wanted.accepts(stored):
                self.saved[kind] += 1
                return stored
        self.paid[kind] += 1
        payment = await self._open_payment(kind)
        start = time.monotonic()
        with watching() as watch:
            try:
                result = await wanted.make()
            except Exception as error:
                usage = error.usage if isinstance(error, LlmError) else LlmUsage()
                seconds = time.monotonic() - start
                await self._store.write([_settled(payment, "failed", usage, seconds)])
                raise
        seconds = time.monotonic() - start
        record = {
            "key": wanted.key,
            "kind": kind,
            "request": canonical_json(wanted.request),
            "result": canonical_json(result),
            "ms": 1000 * seconds,
            "ts": time.time(),
        }
        usage = LlmUsage.model_validate(result.get("usage", {}))
        worked = seconds if watch.seconds is None else watch.seconds
        await self._store.write([(self._put, record), _settled(payment, "answered", usage, worked)])
        return result

    async def _open_payment(self, kind: str) -> str:
        """Record the call before it is made, so that it is recorded even if the process dies."""
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


class InMemoryCallCache(CallCacheProtocol):
    """A bounded call cache in memory; the least recently used result is dropped first."""

    def __init__(self, limit: int = 10_000) -> None:
        self._kept: LRUCache[str, Json] = LRUCache(limit)
        self._flights = _Flights()

    async def answer(self, wanted: CachedCall) -> Json:
        """See `CallCacheProtocol.run`."""
        kept = self._kept.get(wanted.key)
        if kept is not None and wanted.accepts(kept):
            return kept

        async def obtain() -> Json:
            self._kept[wanted.key] = result = await wanted.make()
            return result

        return await self._flights.join(wanted.key, obtain)


def _settled(payment: str, outcome: str, usage: LlmUsage, seconds: float) -> Statement:
    record = {
        "id": payment,
        "outcome": outcome,
        **usage.model_dump(exclude={"calls"}),
        "ms": 1000 * seconds,
    }
    return ("settle_payment", record)
