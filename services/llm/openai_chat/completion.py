"""Reads the body of a chat completion, of any shape that servers give it, as one result.

Content may be a text, a list of parts or null; thoughts may be parts or fields; the body may be an
event stream although none was requested, or an error although the status is 200.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, cast

from autogen_core.models import RequestUsage

from bigpe.services.core.values import Json, LlmUsage
from bigpe.services.llm.base_client import LlmResult
from bigpe.services.llm.openai_chat.server_words import HttpFailure, has_words, server_words

FinishReason = Literal["stop", "length", "content_filter"]
FINISH_WORDS: tuple[tuple[tuple[str, ...], FinishReason], ...] = (
    (("length", "max_tokens", "max_output", "token_limit"), "length"),
    (("filter", "safety", "refusal", "prohibited", "sensitive", "recitation", "blocklist", "spii"),
     "content_filter"),
)  # fmt: skip
"""Parts of a server's finish reason, and what they mean; another reason is a stop."""
FAILED = ("error", "insufficient_system_resource", "malformed")
"""Parts of finish reasons of an answer that failed at the server."""
UNWELL = ("server_error", "overloaded", "unavailable", "internal", "timeout", "deadline")
"""Parts of codes of a server that cannot answer now."""
TEXT_PARTS = ("text", "output_text", "input_text")
THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
LINE_END = re.compile(r"\r\n|\n|\r")
"""What ends a line of an event stream; `str.splitlines` would also divide texts."""
BAD_GATEWAY = 502
"""Status of a failure that the server reports without one, where another try may help."""
NO_STATUS = 400
"""Status of an error object that names none: the request is to blame as far as is known."""


class NoCompletion(Exception):
    """The body is no chat completion. The message says what it is instead."""


def read_completion(text: str, kind: str, headers: Mapping[str, str]) -> LlmResult:
    """The result of an answer with status 200.

    Args:
        text: The body.
        kind: Its content type.
        headers: The answer's headers, for the delay that an error asks for.

    Raises:
        HttpFailure: the body is an error.
        NoCompletion: it is anything else.
    """
    text = text.lstrip("\ufeff \r\n\t")
    if "event-stream" in kind or text.startswith(("data:", "event:", ":")):
        body: Any = _joined_stream(_events(text), headers)
    else:
        try:
            body = json.loads(text)
        except (ValueError, RecursionError) as error:
            lines = [line for line in LINE_END.split(text) if line.strip()]
            if len(lines) < 2 or not all(line.lstrip().startswith("{") for line in lines):
                raise NoCompletion(server_words(text) or "an empty body") from error
            body = _joined_stream(lines, headers)  # a stream of bare JSON lines
    if not isinstance(body, dict):
        raise NoCompletion(text[:100])
    table = cast(Json, body)
    _refuse_error(table, text, headers)
    choices = table.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise NoCompletion("it has no choices")
    choice = cast(Json, choices[0])
    _refuse_error(choice, json.dumps(choice), headers)
    return _result(choice, _usage(table.get("usage")), headers)


def filtered(words: str) -> LlmResult:
    """The result of a request that a content filter refused: `words` are the server's."""
    return LlmResult(
        finish_reason="content_filter",
        content="",
        usage=RequestUsage(prompt_tokens=0, completion_tokens=0),
        cached=False,
        refusal=words,
        used=LlmUsage(calls=1),
    )


def _result(choice: Json, used: LlmUsage, headers: Mapping[str, str]) -> LlmResult:
    reason = str(choice.get("finish_reason") or "stop").lower()
    message = choice.get("message") or choice.get("delta")
    if message is None and isinstance(choice.get("text"), str):
        message = {"content": choice["text"]}
    if not isinstance(message, dict):
        raise NoCompletion("its choice has no message")
    table = cast(Json, message)
    text, thoughts, refusal = _content(table.get("content"))
    if not text and any(word in reason for word in FAILED):
        failure = {"error": {"message": f"the answer ended with {reason!r}"}}
        raise HttpFailure(BAD_GATEWAY, json.dumps(failure), headers)
    beside = next((found for key in THOUGHT_FIELDS if (found := _flat(table.get(key)))), "")
    own_refusal = table.get("refusal")
    return LlmResult(
        finish_reason=_finish(reason),
        content=text,
        usage=RequestUsage(
            prompt_tokens=used.prompt_tokens, completion_tokens=used.completion_tokens
        ),
        cached=False,
        thought=thoughts or beside or None,
        reasoning=thoughts or beside,
        refusal=own_refusal if isinstance(own_refusal, str) and own_refusal else refusal,
        used=used,
    )


def _finish(reason: str) -> FinishReason:
    for parts, mine in FINISH_WORDS:
        if any(part in reason for part in parts):
            return mine
    return "stop"


def _refuse_error(body: Json, text: str, headers: Mapping[str, str]) -> None:
    """HttpFailure if the body or the choice is an error object."""
    error = body.get("error")
    answered = any(body.get(key) for key in ("choices", "delta", "text")) or isinstance(
        body.get("message"), dict
    )
    if error or (not answered and has_words(body)):
        raise HttpFailure(_code(error) or _code(body) or NO_STATUS, text, headers)


def _code(value: Any) -> int | None:
    """The HTTP status that an error object holds."""
    if not isinstance(value, dict):
        return None
    table = cast(Json, value)
    for key in ("code", "status", "status_code", "http_code"):
        text = str(table.get(key) or "")
        if text.isdecimal() and 400 <= int(text) < 600:
            return int(text)
    words = f"{table.get('type')} {table.get('code')} {table.get('status')}".lower()
    if any(part in words for part in ("rate_limit", "too_many", "exhausted")):
        return 429
    return BAD_GATEWAY if any(part in words for part in UNWELL) else None


def _content(value: Any) -> tuple[str, str, str | None]:
    """Text, thoughts and refusal of a message's content."""
    if value is None or isinstance(value, str):
        return value or "", "", None
    text: list[str] = []
    thoughts: list[str] = []
    refusals: list[str] = []
    for part in cast(list[Any], value) if isinstance(value, list) else [value]:
        if isinstance(part, str):
            text.append(part)
        elif isinstance(part, dict):
            table = cast(Json, part)
            kind = str(table.get("type") or "text")
            if kind in TEXT_PARTS:
                text.append(_flat(table.get("text")))
            elif kind == "refusal":
                refusals.append(_flat(table.get("refusal")))
            elif "think" in kind or "reason" in kind:
                thoughts.append(_flat(table))
    return "".join(text), "\n".join(thoughts), "".join(refusals) or None


def _flat(value: Any) -> str:
    """All text inside a value of thoughts: a text, or parts that hold one."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(filter(None, map(_flat, cast(list[Any], value))))
    if isinstance(value, dict):
        table = cast(Json, value)
        keys = ("thinking", "reasoning", "reasoning_content", "text", "summary", "content", "value")
        return next((found for key in keys if (found := _flat(table.get(key)))), "")
    return ""


def _usage(value: Any) -> LlmUsage:
    """All counts; a missing one is 0. Thoughts that a server counts apart belong to the answer."""
    table = cast(Json, value) if isinstance(value, dict) else {}
    prompt = _count(table, "prompt_tokens", "input_tokens")
    completion = _count(table, "completion_tokens", "output_tokens")
    apart = max(0, _count(table, "total_tokens") - prompt - completion) if completion else 0
    details = _details(table, "completion_tokens_details", "output_tokens_details")
    reasoning = _count(details, "reasoning_tokens") or _count(table, "reasoning_tokens") or apart
    read = _details(table, "prompt_tokens_details", "input_tokens_details")
    cached = _count(read, "cached_tokens") or _count(
        table, "prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens"
    )
    return LlmUsage(
        calls=1,
        prompt_tokens=prompt,
        completion_tokens=completion + apart,
        reasoning_tokens=min(reasoning, completion + apart),
        cached_tokens=min(cached, prompt),
    )


def _details(table: Json, *keys: str) -> Json:
    found = next((table[key] for key in keys if isinstance(table.get(key), dict)), {})
    return cast(Json, found)


def _count(table: Json, *keys: str) -> int:
    values = (table.get(key) for key in keys)
    numbers = (int(v) for v in values if isinstance(v, int | float) and 0 < v < 1e15)
    return next(numbers, 0)


# Streams


def _joined_stream(events: Iterable[str], headers: Mapping[str, str]) -> Json:
    """The events of a stream as the completion that they add up to.

    HttpFailure if the stream broke off; NoCompletion if an event is no JSON.
    """
    message: dict[str, list[str]] = {"content": [], "reasoning_content": [], "refusal": []}
    reason: str | None = None
    usage: Any = None
    ended = False
    for event in events:
        if event == "[DONE]":
            ended = True
            continue
        try:
            chunk = json.loads(event)
        except (ValueError, RecursionError) as error:
            raise NoCompletion(f"a stream with {event[:60]!r}") from error
        if not isinstance(chunk, dict):
            continue
        table = cast(Json, chunk)
        if table.get("error"):
            _refuse_error(table, event, headers)
        usage = table.get("usage") or usage
        choices = table.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            choice = cast(Json, choices[0])
            reason = choice.get("finish_reason") or reason
            _append(message, choice.get("delta") or choice.get("message"))
    if not ended and reason is None:
        failure = {"error": {"message": "the stream broke off before its end"}}
        raise HttpFailure(BAD_GATEWAY, json.dumps(failure), headers)
    whole = {key: "".join(parts) or None for key, parts in message.items()}
    return {"choices": [{"message": whole, "finish_reason": reason}], "usage": usage}


def _append(message: dict[str, list[str]], delta: Any) -> None:
    if not isinstance(delta, dict):
        return
    table = cast(Json, delta)
    text, thoughts, refusal = _content(table.get("content"))
    beside = next((found for key in THOUGHT_FIELDS if (found := _flat(table.get(key)))), "")
    message["content"].append(text)
    message["reasoning_content"].append(thoughts or beside)
    own = table.get("refusal")
    message["refusal"].append(own if isinstance(own, str) else refusal or "")


def _events(text: str) -> Iterator[str]:
    """The data of each event."""
    data: list[str] = []
    for line in [*LINE_END.split(text), ""]:
        if line.startswith("data:"):
            data.append(line[5:].strip())
        elif not line.strip() and data:
            yield "\n".join(data)
            data = []
