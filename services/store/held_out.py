"""Access control of scores: a run gets scores of its train prompts only.

A picture or a rewrite says nothing of a prompt until it is scored, and every score names its naive
prompt. So scores are where the line is drawn: a run is given the scores of its own train prompts
and no others, and what an evaluation pays for lies in a table that a run's database connections
are refused (`database.SEALED`).
"""

from __future__ import annotations

from collections.abc import Iterable

from bigpe.services.core.errors import HeldOutError
from bigpe.services.core.values import Json
from bigpe.services.store.call_cache import CachedCall, CallCacheProtocol


class TrainOnlyCallCache(CallCacheProtocol):
    """The score cache of a run. It refuses all prompts except train prompts."""

    def __init__(self, memo: CallCacheProtocol) -> None:
        self._memo = memo
        self._train: frozenset[str] = frozenset()

    def admit(self, train: Iterable[str]) -> None:
        """Allow these prompts. Before the first call, no prompt is allowed."""
        self._train = frozenset(train)

    async def answer(self, wanted: CachedCall) -> Json:
        """See `CallCacheProtocol.run`. Raises HeldOutError for a prompt that is not allowed."""
        if (prompt := wanted.request["prompt"]) not in self._train:
            raise HeldOutError(
                f"a run may not score {prompt!r}: it is not one of its train prompts; "
                "held-out prompts are scored by `bigpe evaluate`"
            )
        return await self._memo.answer(wanted)


class SplitCallCache(CallCacheProtocol):
    """The score cache of evaluations. Only train prompts are stored in the open table."""

    def __init__(
        self, open_: CallCacheProtocol, sealed: CallCacheProtocol, train: Iterable[str]
    ) -> None:
        self._open = open_
        self._sealed = sealed
        self._train = frozenset(train)

    async def answer(self, wanted: CachedCall) -> Json:
        """See `CallCacheProtocol.run`."""
        memo = self._open if wanted.request["prompt"] in self._train else self._sealed
        return await memo.answer(wanted)
