"""The base of all messages, and hashes that stand for texts."""

from __future__ import annotations

import hashlib
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BeforeValidator, PlainSerializer

from bigpe.agents.messages.failure_scope import FailureScope, Purpose, StepLost
from bigpe.services.core.values import NegativePrompt, Value, digest

Other = TypeVar("Other", bound="ImageMessage")
COORDINATOR = "coordinator"
"""Name of the actor that decides. It receives every result."""


class Message(Value):
    """Base of all messages; `kind` is the tag of the union."""

    delivered_to: ClassVar[tuple[str, ...]] = ()
    """Names of the actors that receive this kind of message. Empty: it only goes to the transcript
    and to plugins that subscribe to it."""
    lost: ClassVar[FailureScope] = StepLost()
    """What is lost if the step that handles this kind fails for good; see `failure_scope`."""

    kind: str
    mid: str
    """The id of the message, 32 hex characters."""
    run: str
    parent: str
    """The id of the message that caused this one; for a join, the request that opened it."""
    round: int
    """The index of the pull, from 1; 0 is before the first pull."""

    def failure_scope(self) -> FailureScope:
        """What is lost if the step that handles this message fails for good."""
        return self.lost

    @classmethod
    def make(
        cls, cause: Message, place: str = "", /, *, round: int | None = None, **body: Any
    ) -> Self:
        """A message caused by `cause`. `place` is unique among its kind and round."""
        index = cause.round if round is None else round
        kind = cls.model_fields["kind"].default
        mid = digest([cause.run, kind, index, place])[:32]
        return cls(mid=mid, run=cause.run, parent=cause.mid, round=index, **body)


class ImageMessage(Message):
    """Base of the messages about one image."""

    purpose: Purpose
    naive: str
    prompt: str
    seed: int
    negative: NegativePrompt = ""
    """What the image shall not show, for a rewrite with a negative prompt."""

    def followed_by(self, kind: type[Other], **fields: Any) -> Other:
        """The message of that kind about the same image, caused by this one."""
        image = self.model_dump(include={"purpose", "naive", "prompt", "seed", "negative"})
        return kind.make(self, f"{self.purpose}/{self.seed}/{self.naive}", **image, **fields)


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
