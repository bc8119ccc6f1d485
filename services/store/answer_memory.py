"""Which stored answers of a language model a reader is given again.

A reader is a run or an evaluation. An answer that a reader judged unusable is given again to that
reader only: so its resume is exact and pays nothing twice, and others ask anew. A reader that
began afresh gets no answer from before. Stored answers are never changed or deleted, because the
transcripts of other runs refer to them by key.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from bigpe.services.core.values import digest
from bigpe.services.store.database import Store


class AnswerMemory:
    """The answers that a reader may be given. Make it with `of_run` or `of_evaluation`."""

    def __init__(self, store: Store | None = None, *, reader: str = "", fresh: str = "") -> None:
        """Use a class method for a project.

        Args:
            store: The project database; None: all is given again, for a cache of one reader.
            reader: The name of the reader; "" is the name of none.
            fresh: A token that sets the reader's answers apart; "" for none.
        """
        self._store = store
        self._reader = reader
        self._fresh = fresh

    @classmethod
    async def of_run(cls, store: Store, run: str, *, fresh: bool = False) -> AnswerMemory:
        """The memory of a run. `fresh`: it forgets all answers from before, also when resumed."""
        return await cls._open(store, run, [run], fresh=fresh)

    @classmethod
    async def of_evaluation(cls, store: Store, run: str, *, fresh: bool = False) -> AnswerMemory:
        """The memory of all evaluations of a run, so that a repeated evaluation is free and equal.

        What a fresh run has forgotten, its evaluations have forgotten, too.
        """
        reader = f"evaluations of {run}"
        return await cls._open(store, reader, [reader, run], fresh=fresh)

    @classmethod
    async def of_session(cls, store: Store, *, fresh: bool = False) -> AnswerMemory:
        """The memory of a process that is no run, for example `bigpe refine`."""
        reader = uuid.uuid4().hex
        return cls(store, reader=reader, fresh=reader if fresh else "")

    @classmethod
    async def _open(
        cls, store: Store, reader: str, names: Sequence[str], *, fresh: bool
    ) -> AnswerMemory:
        """`names`: where the token is stored; the first name that has one decides."""
        if fresh:
            record = {"reader": names[0], "token": uuid.uuid4().hex}
            await store.write([("set_fresh_answers", record)])
        rows = [await store.row("fresh_answers", reader=name) for name in names]
        token = next((row["token"] for row in rows if row is not None), "")
        return cls(store, reader=reader, fresh=token)

    async def key_of(self, key: str) -> str:
        """The key under which the answer to a request is stored for this reader.

        Args:
            key: The digest of all that the answer depends on.
        """
        base = digest([key, self._fresh]) if self._fresh else key
        found, number = base, 0
        while await self._withheld(found):
            number += 1
            found = digest([base, number])
        return found

    async def discard(self, key: str) -> None:
        """Give the answer with this key to no other reader."""
        if self._store is not None:
            await self._store.write([("discard_answer", {"key": key, "reader": self._reader})])

    async def begin_again(self) -> None:
        """Do not give the reader again what it discarded: its results are forgotten, too."""
        if self._store is not None:
            await self._store.write([("disown_discarded", {"reader": self._reader})])

    async def _withheld(self, key: str) -> bool:
        """Whether others have discarded the answer, and this reader has not."""
        if self._store is None:
            return False
        rows = await self._store.rows("discarded_by", key=key)
        readers = {row["reader"] for row in rows}
        return bool(readers) and not (self._reader and self._reader in readers)
