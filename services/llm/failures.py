"""Translates errors of language model clients into LlmError, with place, cause and remedy."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import openai
from pydantic import ValidationError

from bigpe.services.core.errors import (
    BigpeError,
    GivenUpError,
    LlmError,
    LostWorkerError,
    QuotaError,
    ServiceError,
    TransientLlmError,
    trouble_of,
)
from bigpe.services.core.outages.retry_delay import is_quota_spent, retry_delay_s
from bigpe.services.llm.openai_chat.completion import NoCompletion
from bigpe.services.llm.openai_chat.server_words import HttpFailure
from bigpe.services.llm.providers import PROVIDERS

NOT_A_COMPLETION = (
    NoCompletion,
    openai.APIResponseValidationError,
    json.JSONDecodeError,
    AttributeError,
    IndexError,
    TypeError,
)
"""Exceptions of a client for an answer that is no chat completion."""
BUSY = frozenset({408, 409, 425, 429})
"""Statuses after which a retry may succeed, besides every 5xx."""
TOO_LONG = re.compile(
    r"context[_ ](?:length|window|size)|maximum context|prompt is too long|too many input tokens"
    r"|input (?:is )?too long|exceeds? the (?:available )?context|reduce the length",
    re.IGNORECASE,
)
"""Words of a server whose model cannot hold the request."""
DEEPEST = 12
"""Causes of an exception that are read."""


@dataclass(frozen=True)
class CallPlace:
    """Where a call went."""

    address: str
    """The server's address, or the client's class."""
    model: str
    provider: str
    key_env: str | None
    """The environment variable of the key; None: no key is sent."""
    limit_s: float
    """The seconds that the call had."""


def refusal(error: Exception) -> str | None:
    """Why a client refuses its configuration; None if the error has another cause."""
    if isinstance(error, ValidationError):
        # pydantic's message contains its input, which contains the key.
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
    refusals = (ValueError, TypeError, KeyError, openai.OpenAIError)
    return str(error) if isinstance(error, refusals) else None


def to_bigpe_error(error: Exception, place: CallPlace, clean: Callable[[str], str]) -> ServiceError:
    """The error of a failed call as a ServiceError; transient if a retry may help.

    `clean` takes the key out of a text.
    """
    where = f"{place.model} at {place.address}"
    if isinstance(error, LlmError | GivenUpError | LostWorkerError | QuotaError):
        return error
    if isinstance(error, openai.APITimeoutError | TimeoutError):
        return TransientLlmError(
            f"{where}: no answer in {place.limit_s:g} s; if it is slow, raise timeout_s"
        )
    if isinstance(error, openai.APIStatusError):
        error = HttpFailure(error.status_code, error.response.text, error.response.headers)
    if isinstance(error, HttpFailure):
        return _explain_status(where, error, place, clean)
    if isinstance(error, NOT_A_COMPLETION):
        return LlmError(
            f"{where}: its answer is no chat completion ({type(error).__name__}: "
            f"{clean(str(error))[:300]}); check base_url"
        )
    if isinstance(error, openai.APIConnectionError):
        return _explain_connection(where, error, place, clean)
    text = clean(str(error))
    if isinstance(error, BigpeError):
        kind = TransientLlmError if error.transient else LlmError
        return kind(text)
    return LlmError(f"{where}: {type(error).__name__}: {text}")


def _explain_status(
    where: str, failure: HttpFailure, place: CallPlace, clean: Callable[[str], str]
) -> ServiceError:
    code, words = failure.status, clean(failure.words)
    description = f"{where}: HTTP {code}: {words}"
    delay_s = retry_delay_s(failure.headers, failure.text, datetime.now(UTC))
    if is_quota_spent(code, failure.text, delay_s):
        return QuotaError(f"{description}; add to the account, then go on with `bigpe resume`")
    if TOO_LONG.search(words) and code < 500:
        return LlmError(
            f"{description}; the request is longer than the model's context: choose a model with "
            "a longer one, or start your server with a longer one"
        )
    if code in BUSY or code >= 500:
        remedy = "lower [run] concurrency" if code == 429 else "look at the server's log"
        return TransientLlmError(
            f"{description}; if it stays so, {remedy}",
            retry_after_s=delay_s,
            trouble=trouble_of(code),
        )
    return LlmError(f"{description}; {_remedy(code, words, place)}")


def _remedy(code: int, words: str, place: CallPlace) -> str:
    """What to do about a status that no retry mends."""
    if code in (401, 403):
        return (
            f"check the key in the environment variable {place.key_env}"
            if place.key_env
            else "check the key: name its environment variable in api_key_env"
        )
    if code == 404:
        pull = f"; fetch the model with `ollama pull {place.model}`" * (place.provider == "ollama")
        return f"check base_url and model{pull}"
    if code == 405:
        return "check base_url: mostly it ends in /v1"
    if code == 413:
        return "the request is too large for the server; check its limits"
    return "check the model and its settings"


def _explain_connection(
    where: str, error: Exception, place: CallPlace, clean: Callable[[str], str]
) -> ServiceError:
    """The cause of a failed connection. Only what the network may mend is transient."""
    causes = list(_causes(error))
    text = clean(str(causes[1] if len(causes) > 1 else error)) or "it broke off"
    names = {type(cause).__name__ for cause in causes}
    certificate = next((c for c in causes if isinstance(c, ssl.SSLCertVerificationError)), None)
    if certificate is not None or "CERTIFICATE_VERIFY_FAILED" in text:
        reason = getattr(certificate, "verify_message", "") or text
        return LlmError(
            f"{where}: its certificate is not trusted ({reason}); set SSL_CERT_FILE to the file of "
            "your authority's certificate, or correct base_url"
        )
    if any(isinstance(cause, ssl.SSLError) for cause in causes) or "[SSL" in text:
        return LlmError(
            f"{where}: no TLS connection ({text}); if the server speaks plain HTTP, write "
            "http:// in base_url"
        )
    if "UnsupportedProtocol" in names:
        return LlmError(f"{where}: {text} Begin base_url with http:// or https://")
    if "InvalidURL" in names or "LocalProtocolError" in names:
        return LlmError(f"{where}: {text}; check base_url and the headers")
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return TransientLlmError(
            f"{where}: no connection: the host is unknown ({text}); check base_url and the network",
            trouble="service",
        )
    refused = next((cause for cause in causes if isinstance(cause, ConnectionRefusedError)), None)
    if refused is not None or "ConnectError" in names:
        hint = PROVIDERS[place.provider].hint if place.provider in PROVIDERS else ""
        return TransientLlmError(
            f"{where}: no connection ({clean(str(refused or text))}); is the server running?"
            f"{f' {hint[:1].upper()}{hint[1:]}' if hint else ''}",
            trouble="service",
        )
    return TransientLlmError(f"{where}: no connection ({text}); is the server running?")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and what caused it, outermost first; groups are opened."""
    waiting: list[BaseException] = [error]
    for _ in range(DEEPEST):
        if not waiting:
            return
        found = waiting.pop(0)
        yield found
        if isinstance(found, BaseExceptionGroup):
            waiting += found.exceptions  # pyright: ignore[reportUnknownMemberType]
        cause = found.__cause__ or found.__context__
        if cause is not None:
            waiting.append(cause)
