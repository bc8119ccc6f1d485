"""Translates errors of language model clients into LlmError, with place and remedy."""

from __future__ import annotations

import json
from collections.abc import Mapping
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

NOT_A_COMPLETION = (
    openai.APIResponseValidationError,
    json.JSONDecodeError,
    AttributeError,
    IndexError,
    TypeError,
)
"""Exceptions of the OpenAI client for an answer that is no chat completion."""


def refusal(error: Exception) -> str | None:
    """Why a client refuses its configuration; None if the error has another cause."""
    if isinstance(error, ValidationError):
        # pydantic's message contains its input, which contains the key.
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
    refusals = (ValueError, TypeError, KeyError, openai.OpenAIError)
    return str(error) if isinstance(error, refusals) else None


def to_bigpe_error(error: Exception, *, where: str, text: str, limit_s: float) -> ServiceError:
    """The error of a failed call as a ServiceError; transient if a retry may help.

    `where`: the server or the client; `text`: the error's message, without the key; `limit_s`: the
    seconds that the call had.
    """
    if isinstance(error, LlmError | GivenUpError | LostWorkerError | QuotaError):
        return error
    if isinstance(error, openai.APITimeoutError | TimeoutError):
        return TransientLlmError(
            f"{where}: no answer in {limit_s:g} s; if it is slow, raise timeout_s"
        )
    if isinstance(error, openai.APIStatusError):
        return _explain_status(where, error.status_code, text, error.response.headers)
    if isinstance(error, NOT_A_COMPLETION):
        return LlmError(
            f"{where}: its answer is no chat completion ({type(error).__name__}: "
            f"{text[:300]}); check base_url"
        )
    if isinstance(error, openai.APIConnectionError):
        refused = type(error.__cause__).__name__ == "ConnectError"  # of the client's own httpx
        return TransientLlmError(
            f"{where}: no connection ({text}); is the server running?",
            trouble="service" if refused else "call",
        )
    if isinstance(error, BigpeError):
        kind = TransientLlmError if error.transient else LlmError
        return kind(text)
    return LlmError(f"{where}: {type(error).__name__}: {text}")


def _explain_status(where: str, code: int, text: str, headers: Mapping[str, str]) -> ServiceError:
    description = f"{where}: HTTP {code}: {text[:300]}"
    delay_s = retry_delay_s(headers, text, datetime.now(UTC))
    if is_quota_spent(code, text, delay_s):
        return QuotaError(f"{description}; add to the account, then go on")
    if code == 429 or code >= 500:
        remedy = "lower [run] concurrency" if code == 429 else "look at the server's log"
        return TransientLlmError(
            f"{description}; if it stays so, {remedy}",
            retry_after_s=delay_s,
            trouble=trouble_of(code),
        )
    remedy = {401: "check the key", 403: "check the key", 404: "check base_url and model"}
    return LlmError(f"{description}; {remedy.get(code, 'check the model and its settings')}")
