"""A call cache that pays for each call again: a stored answer is no check."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

from bigpe.services.core.values import Json, digest
from bigpe.services.store.call_cache import CallCache
from bigpe.services.store.database import Store


class FreshCalls(CallCache):
    """Makes each call, and stores it under a key of its own that no run asks for."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._nonce = uuid.uuid4().hex
        self._count = 0

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
        self._count += 1
        own = digest([key, self._nonce, self._count])
        return await super().run(own, kind, request, call, valid=valid)
