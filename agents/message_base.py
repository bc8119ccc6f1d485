"""What every message is."""

from __future__ import annotations

from typing import Any, Self

from bigpe.services.values import Value, digest


class Message(Value):
    """Base of all messages; `kind` is the tag of the union."""

    kind: str
    mid: str
    """This message's id, 32 hex characters."""
    run: str
    parent: str
    """The id of the message that caused this one; of a join, the request that opened it."""
    round: int
    """The pull's index, from 1; 0 is before the first pull."""

    @classmethod
    def make(
        cls, cause: Message, place: str = "", /, *, round: int | None = None, **body: Any
    ) -> Self:
        """A message caused by `cause`; `place` tells it from others of its kind in the round."""
        index = cause.round if round is None else round
        kind = cls.model_fields["kind"].default
        mid = digest([cause.run, kind, index, place])[:32]
        return cls(mid=mid, run=cause.run, parent=cause.mid, round=index, **body)
