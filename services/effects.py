"""Paid calls are paid once: a durable memo with single flight.

An effect is a call of a model. Its key is the digest of everything its result depends on, so a
resumed run, another arm or a later evaluation that asks for the same thing gets the stored
result. A failed call is never stored.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Protocol

from bigpe.services.store import Store
from bigpe.services.values import Json, canonical_json


class Memo(Protocol):
    """What services need of `Effects`."""

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


class Effects:
    """The memo, kept in the project's database."""

    def __init__(self, store: Store, *, sealed: bool = False) -> None:
        """`sealed`: kept in the table that a run's store is refused (see `store.SEALED`)."""
        self._store = store
        self._get, self._put = (
            ("get_sealed_effect", "put_sealed_effect") if sealed else ("get_effect", "put_effect")
        )
        self._flights: dict[str, asyncio.Task[Json]] = {}
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
        """See `Memo.run`."""
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(self._obtain(key, kind, request, call, valid))
            self._flights[key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        else:
            self.saved[kind] += 1
        # A waiter that is cancelled must not take the call from those who share it.
        return await asyncio.shield(flight)

    async def _obtain(
        self,
        key: str,
        kind: str,
        request: Json,
        call: Callable[[], Awaitable[Json]],
        valid: Callable[[Json], bool] | None,
    ) -> Json:
        row = await self._store.one(self._get, key=key)
        if row is not None:
            stored: Json = json.loads(row["result"])
            if valid is None or valid(stored):
                self.saved[kind] += 1
                return stored
        self.paid[kind] += 1
        start = time.monotonic()
        result = await call()
        record = {
            "key": key,
            "kind": kind,
            "request": canonical_json(request),
            "result": canonical_json(result),
            "ms": 1000 * (time.monotonic() - start),
            "ts": time.time(),
        }
        await self._store.write([(self._put, record)])
        return result
