"""All errors that bigpe raises on purpose. A message gives the cause, the place and the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from bigpe.services.core.values import ONE_CALL, Json, LlmUsage

Trouble = Literal["call", "service", "overload"]
"""What a transient failure says: the call itself may be its cause, the service does not answer, or
the service takes no more calls now."""


class BigpeError(Exception):
    """Base of all errors of bigpe. The message says what happened, where, and what to do.

    The command line prints the message without a traceback.
    """

    exit_code = 1
    """Exit code of the command line."""
    transient = False
    """Whether a retry of the same call may succeed."""


class ConfigError(BigpeError):
    """The configuration or the command's arguments are wrong."""

    exit_code = 2


class DataError(BigpeError):
    """A prompt file or another input file cannot be used."""

    exit_code = 2


class StoreError(BigpeError):
    """The project's database or image folder cannot be used."""


class ForeignDatabaseError(StoreError):
    """The project's database was written by bigpe 0.1.0 or by another program."""

    exit_code = 2


class HeldOutError(BigpeError):
    """A run requested results on a held-out prompt."""


class RunLockedError(StoreError):
    """Another process is writing the same run."""


class AlarmError(BigpeError):
    """Most of the first rewrites cannot be used, all for one reason: more would be wasted."""


class PluginError(BigpeError):
    """Code of another package failed."""


class ServiceError(BigpeError):
    """A call of a model failed, and a retry does not help."""


class TransientError(ServiceError):
    """Base of the failures of a call after which a retry may help."""

    transient = True

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, trouble: Trouble = "call"
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """Seconds until a retry, as the server asks for; None if it does not."""
        self.trouble: Trouble = trouble
        """See `trouble_of` for the one of an HTTP status."""


class TransientServiceError(TransientError):
    """A call of a model failed, and a retry may help (time-out, busy, lost worker)."""


class LostWorkerError(TransientServiceError):
    """A model's process died, hung or lost its device during a call.

    The call may be the cause: it is retried once, alone.
    """


class GivenUpError(ServiceError):
    """A model's process died too often in a row. The run stops and can be resumed."""


class QuotaError(ServiceError):
    """The account of a paid service has no quota left. The run pauses and can be resumed."""

    exit_code = 130


class OutageError(ServiceError):
    """A service has not answered for too long. The run pauses and can be resumed."""

    exit_code = 130


class LlmError(ServiceError):
    """A language model call failed."""

    usage: LlmUsage = ONE_CALL
    """Usage of the failed call."""


class TransientLlmError(LlmError, TransientError):
    """A language model call failed, and a retry may help."""


class UnusableAnswerError(LlmError):
    """The model answered, but the answer cannot be used; another seed may do better."""

    transient = True

    def __init__(self, message: str, raw: str, usage: LlmUsage = ONE_CALL) -> None:
        super().__init__(message)
        self.raw = raw
        """The model's whole answer, kept for the transcript."""
        self.usage = usage


class RenderError(ServiceError):
    """An image could not be rendered."""


class ModerationError(RenderError):
    """A painter refuses the content: missing data, which may depend on the instruction."""


class ScoreError(ServiceError):
    """An image could not be scored."""


PAUSES_RUN = (OutageError, QuotaError)
"""Errors that pause the run: what it waits for may come back."""
STOPS_RUN = (StoreError, ConfigError, GivenUpError, *PAUSES_RUN)
"""Errors that stop or pause the run. Open deliveries stay open, and a resume handles them."""


def trouble_of(status: int) -> Trouble:
    """What the HTTP status of a transient failure says of the service."""
    if status in (429, 529):
        return "overload"
    return "service" if status in (502, 503, 504) else "call"


def error_to_json(error: BigpeError) -> Json:
    """The error as JSON for another process; `error_from_json` reads it."""
    return {"error": str(error), "kind": type(error).__name__}


def error_from_json(
    item: Mapping[str, Any],
    default: type[BigpeError],
    *,
    family: type[BigpeError] = BigpeError,
) -> BigpeError:
    """The error that another process reports in `item`.

    Its class is the class that "kind" names if that is one of `family`, else `default`. "raw" is
    the language model's answer, which only UnusableAnswerError has.
    """
    message = str(item["error"])
    named: Any = globals().get(str(item.get("kind")))
    if named is UnusableAnswerError:
        return UnusableAnswerError(message, str(item["raw"])) if "raw" in item else default(message)
    usable = isinstance(named, type) and issubclass(named, family)
    error: BigpeError = named(message) if usable else default(message)
    return error
