"""Every error that bigpe raises on purpose; a message says what was wrong, where, what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bigpe.services.core.values import ONE_CALL, Json, LlmUsage


class BigpeError(Exception):
    """Base of all errors of bigpe. The message says what happened, where, and what to do.

    The command line prints the message without a traceback.
    """

    exit_code = 1
    """Exit code of the command line."""
    transient = False
    """Whether the same call may succeed when it is tried again."""


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
    """A run asked for what is known of a prompt that is held out from it."""


class RunLockedError(StoreError):
    """Another process is writing the same run."""


class PluginError(BigpeError):
    """Code of another package failed."""


class ServiceError(BigpeError):
    """A call of a model failed in a way that another try will not mend."""


class TransientServiceError(ServiceError):
    """A call of a model failed in a way that another try may mend (time-out, busy, lost worker)."""

    transient = True


class LostWorkerError(TransientServiceError):
    """A model's process died, hung or lost its device during a call.

    The call may be to blame: it is tried once more, alone, and then given up.
    """


class GivenUpError(ServiceError):
    """A model's process died too often in a row: the run stops, and can be resumed."""


class LlmError(ServiceError):
    """A language model call failed."""

    usage: LlmUsage = ONE_CALL
    """Usage of the failed call."""


class TransientLlmError(LlmError):
    """A language model call failed and may succeed when tried again."""

    transient = True

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """Seconds that the server asked to be left alone; None: it did not say."""


class UnusableAnswerError(LlmError):
    """The model answered, but the answer cannot be used; another seed may do better."""

    transient = True

    def __init__(self, message: str, raw: str, usage: LlmUsage = ONE_CALL) -> None:
        super().__init__(message)
        self.raw = raw
        """The model's whole answer, kept for the transcript."""
        self.usage = usage


class RenderError(ServiceError):
    """A picture could not be made."""


class ScoreError(ServiceError):
    """A picture could not be scored."""


STOPS_RUN = (StoreError, ConfigError, GivenUpError)
"""The run cannot go on as it is: its open steps stay open, and resuming takes them up again."""


def error_to_json(error: BigpeError) -> Json:
    """The error as it travels between processes; `error_from_json` reads it."""
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
