"""What a refusal teaches, in the many wordings of servers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bigpe.services.llm.learned import Learned
from bigpe.services.llm.openai_chat.refusals import OwnSetting, lesson_of
from bigpe.services.llm.openai_chat.server_words import HttpFailure, server_words

BODY: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}],
    "max_tokens": 500,
    "temperature": 0.3,
    "seed": 5,
    "stop": ["x"],
    "response_format": {
        "type": "json_schema",
        "json_schema": {
            "name": "answer",
            "strict": True,
            "schema": {
                "type": "object",
                "properties": {"word": {"type": "string", "maxLength": 9, "pattern": "^a"}},
                "required": ["word"],
                "additionalProperties": False,
            },
        },
    },
}


def dropped(*names: str) -> Learned:
    return Learned(dropped=frozenset(names))


RENAMED = Learned(renamed={"max_tokens": "max_completion_tokens"})
OBJECT = Learned(schema_kind="json_object")
SYSTEM = Learned(system_as_user=True)
STREAM = Learned(stream=True)
WORDINGS: list[tuple[str, Learned | None]] = [
    ("Unrecognized request argument supplied: seed", dropped("seed")),
    ("property 'seed' is unsupported", dropped("seed")),
    ("Extra inputs are not permitted, field: 'seed', value: 5", dropped("seed")),
    ('json: unknown field "seed"', dropped("seed")),
    ("Completions.create() got an unexpected keyword argument 'seed'", dropped("seed")),
    ("The following parameters are not supported: seed", dropped("seed")),
    ("不支持的参数: seed", dropped("seed")),
    ("参数temperature非法", dropped("temperature")),
    ("invalid temperature: only 0.6 is allowed for this model", dropped("temperature")),
    ("temperature may only be set to 1 when thinking is enabled", dropped("temperature")),
    ("This model has beta-limitations: temperature is fixed at 1", dropped("temperature")),
    ("`temperature` and `top_p` cannot both be specified", dropped("temperature")),
    ("Parameter 'stop' not supported by this model", dropped("stop")),
    ("Argument not supported on this model: stop", dropped("stop")),
    ("Failed to deserialize: stop: data did not match any variant", dropped("stop")),
    ("stopSequences is not supported", dropped("stop")),
    ("max_tokens is not supported. Please use max_completion_tokens", RENAMED),
    ("Unknown parameter: 'max_tokens'.", RENAMED),
    ("max_tokens must be at most 256", Learned(limit_at_most=256)),
    ("max_tokens: 500 > 400, which is the maximum for m", Learned(limit_at_most=400)),
    ("This response_format type is unavailable now", OBJECT),
    ("Invalid value: 'json_schema'. Supported values are: 'json_object' and 'text'.", OBJECT),
    ("Structured outputs are not supported by this model", OBJECT),
    ("Failed to compile the grammar", OBJECT),
    ("'required' must include every key in properties in the schema", OBJECT),
    ('Unimplemented keys: ["maxLength"]', Learned(schema_keywords=frozenset({"maxLength"}))),
    ("The keyword 'pattern' is not supported", Learned(schema_keywords=frozenset({"pattern"}))),
    ("System role not supported", SYSTEM),
    ("System messages are not supported", SYSTEM),
    ("Only user, assistant and tool roles are supported!", SYSTEM),
    ("Conversation roles must alternate user/assistant/user/assistant/...", SYSTEM),
    ("Invalid role: system", SYSTEM),
    ("This model only support stream mode, please enable the stream parameter", STREAM),
    ("This endpoint only accepts streaming requests", STREAM),
    ("stream=false is not supported", STREAM),
    ("parameter.enable_thinking must be set to false for non-streaming calls", STREAM),
    ("Invalid model: m", None),
    ("Your request was malformed", None),
    ("Please reduce the length of the messages.", None),
]


@pytest.mark.parametrize(("words", "lesson"), WORDINGS, ids=[words for words, _ in WORDINGS])
@pytest.mark.parametrize("shape", ["plain", "openai", "text", "mistral", "gemini", "problem"])
def test_a_wording_teaches_the_same_in_every_shape(
    words: str, lesson: Learned | None, shape: str
) -> None:
    bodies: dict[str, Any] = {
        "openai": {"error": {"message": words, "type": "invalid_request_error", "param": None}},
        "text": {"error": words, "code": "x"},
        "mistral": {"object": "error", "message": {"detail": words}},
        "gemini": [{"error": {"code": 400, "message": words, "status": "INVALID_ARGUMENT"}}],
        "problem": {"title": "Bad request", "errorMessage": words, "status": 400},
    }
    text = words if shape == "plain" else json.dumps(bodies[shape])
    assert words in server_words(text)
    assert lesson_of(HttpFailure(400, text), BODY, frozenset(), Learned()) == lesson


@pytest.mark.parametrize("status", [401, 402, 403, 429, 503])
def test_a_refusal_for_another_cause_teaches_nothing(status: int) -> None:
    failure = HttpFailure(status, "seed is not supported")
    assert lesson_of(failure, BODY, frozenset(), Learned()) is None


def test_a_setting_of_the_users_own_is_never_left_out() -> None:
    failure = HttpFailure(400, "temperature is not supported")
    with pytest.raises(OwnSetting, match="temperature"):
        lesson_of(failure, BODY, frozenset({"temperature"}), Learned())


def test_ours_gives_way_to_a_setting_of_the_users_own() -> None:
    failure = HttpFailure(400, "`top_p` and `temperature` cannot both be specified")
    body = BODY | {"top_p": 0.9}
    assert lesson_of(failure, body, frozenset({"top_p"}), Learned()) == dropped("temperature")
