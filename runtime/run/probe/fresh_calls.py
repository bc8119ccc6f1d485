"""A call cache that pays for each call again: a stored answer is no check."""

from __future__ import annotations

import uuid

from bigpe.services.core.values import Json, digest
from bigpe.services.store.call_cache import CachedCall, CallCache
from bigpe.services.store.database import Store


class FreshCalls(CallCache):
    """Makes each call, and stores it under a key of its own that no run asks for."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._nonce = uuid.uuid4().hex
        self._count = 0

    async def answer(self, wanted: CachedCall) -> Json:
        """See `CallCacheProtocol.run`."""
        self._count += 1
        own = digest([wanted.key, self._nonce, self._count])
        return await super().answer(wanted._replace(key=own))
