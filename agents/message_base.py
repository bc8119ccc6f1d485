"""What every message is."""

from __future__ import annotations

import hashlib
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, PlainSerializer

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


def _packed(keys: Iterable[int]) -> str:
    return b64encode(array("Q", keys).tobytes()).decode("ascii")


def _unpacked(stored: Any) -> Any:
    if not isinstance(stored, str):
        return stored
    keys: array[int] = array("Q")
    keys.frombytes(b64decode(stored))
    return dict.fromkeys(keys)


Keys = Annotated[dict[int, None], PlainSerializer(_packed), BeforeValidator(_unpacked)]
"""An ordered set of 64-bit keys. Its JSON form is one base64 string."""


def key_of(*parts: str | int) -> int:
    """A 64-bit hash of `parts`."""
    text = "\0".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
