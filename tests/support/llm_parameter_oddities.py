"""Rows of servers that refuse a part of the request. See `llm_oddities`."""

# ruff: noqa: E501 -- a row is easier to read on few lines
from __future__ import annotations

from typing import Any

from support.llm_oddities import (
    TEXT,
    WORDED,
    Json,
    Oddity,
    Reply,
    answer,
    bare,
    kind_of,
    piece,
    refused,
    streamed,
    text_of,
)

GPT5_LIMIT = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
    "'max_completion_tokens' instead."
)
ONLY_1 = (
    "Unsupported value: 'temperature' does not support 0.3 with this model. Only the default (1) "
    "value is supported."
)
SCHEMA = {
    "type": "object",
    "properties": {"word": {"type": "string", "maxLength": 40}},
    "required": ["word"],
    "additionalProperties": False,
}


def fastapi(*fields: str) -> Reply:
    """FastAPI's refusal of fields that its model does not have."""
    faults = [
        {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}
        for name in fields
    ]
    return bare(422, {"detail": faults})


def refuses(name: str, reply: Reply) -> Any:
    """A server that refuses requests with the parameter."""
    return lambda body: reply if name in body else answer(body)


def gpt5(body: Json) -> Reply:
    if "max_tokens" in body:
        return refused(GPT5_LIMIT, code="unsupported_parameter", param="max_tokens")
    if body.get("temperature", 1) != 1:
        return refused(ONLY_1, code="unsupported_value", param="temperature")
    if "stop" in body:
        text = "Unsupported parameter: 'stop' is not supported with this model."
        return refused(text, code="unsupported_parameter", param="stop")
    return answer(body)


def litellm(body: Json) -> Reply:
    bad = [name for name in ("seed", "temperature") if name in body]
    text = f"litellm.UnsupportedParamsError: x does not support parameters: {bad}, for model=m."
    return refused(text) if bad else answer(body)


def at_most(body: Json) -> Reply:
    if body.get("max_tokens", 0) > 4096:
        return refused(
            "max_tokens is too large: 9000. This model supports at most 4096 completion tokens, "
            "whereas you provided 9000.",
            param="max_tokens",
        )
    return answer(body)


def small_context(body: Json) -> Reply:
    if body.get("max_tokens", 0) > 4000:
        return bare(400, {
            "object": "error", "type": "BadRequestError", "code": 400,
            "message": "'max_tokens' or 'max_completion_tokens' is too large: 9000. This model's "
            "maximum context length is 4096 tokens and your request has 70 input tokens",
        })  # fmt: skip
    return answer(body)


def without_system(reply: Reply) -> Any:
    return lambda body: (
        reply if any(turn["role"] == "system" for turn in body["messages"]) else answer(body)
    )


def kinds(*taken: str, reply: Reply) -> Any:
    """A server that takes only these kinds of response_format."""
    return lambda body: answer(body) if kind_of(body) in (*taken, "none") else reply


def json_word(body: Json) -> Reply:
    if kind_of(body) == "json_schema":
        return refused("This response_format type is unavailable now")
    if kind_of(body) == "json_object" and "json" not in text_of(body):
        return refused(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of "
            "type 'json_object'.",
            param="messages",
        )
    return answer(body)


def keyword(word: str, text: str) -> Any:
    return lambda body: refused(text) if word in str(body.get("response_format")) else answer(body)


def stream_only(body: Json) -> Reply:
    if not body.get("stream"):
        return refused(
            "This model only support stream mode, please enable the stream parameter to access "
            "the model."
        )
    if "stream_options" in body:
        return fastapi("stream_options")
    return streamed(piece(content="a red fox"), piece("stop", content=", snow"))


def sees_nothing(text: str, status: int = 400) -> Any:
    return lambda body: refused(text, status) if "image_url" in text_of(body) else answer(body)


GONE: Json = {"temperature": None}
PARAMETERS = (
    Oddity("gpt5", "GPT-5, o-series: refuses `max_tokens`, then `temperature`, then `stop`", gpt5,
           {"text": TEXT, "calls": 4, "sent": {"max_tokens": None, "max_completion_tokens": 64,
            "temperature": None, "stop": None, "seed": 5}}, {"stop": ("\n",)}),
    Oddity("gpt5-named", "the same model, named in the configuration", gpt5,
           {"text": TEXT, "calls": 1, "sent": {"max_completion_tokens": 64, "temperature": None}},
           {"stop": ("\n",)}, {"provider": "openai", "model": "gpt-5-mini"}),
    Oddity("old-azure", "an older server refuses `max_completion_tokens`",
           refuses("max_completion_tokens",
                   refused("Unrecognized request argument supplied: max_completion_tokens")),
           {"text": TEXT, "calls": 2, "sent": {"max_tokens": 64, "max_completion_tokens": None}},
           {}, {"provider": "openai", "model": "gpt-5-mini"}),
    Oddity("no-limit", "refuses both names of the output limit",
           lambda body: fastapi(*({"max_tokens", "max_completion_tokens"} & body.keys()))
           if {"max_tokens", "max_completion_tokens"} & body.keys() else answer(body),
           {"text": TEXT, "calls": 3, "sent": {"max_tokens": None, "max_completion_tokens": None}}),
    Oddity("limit-at-most", "refuses a limit above 4096", at_most,
           {"text": TEXT, "calls": 2, "sent": {"max_tokens": 4096}}, {"max_tokens": 9000}),
    Oddity("small-context", "vLLM: the limit does not fit into the context", small_context,
           {"text": TEXT, "calls": 2, "sent": {"max_tokens": 2048}}, {"max_tokens": 9000}),
    Oddity("temperature-1", "takes the default temperature only", 
           refuses("temperature", refused(ONLY_1, param="temperature")),
           {"text": TEXT, "calls": 2, "sent": GONE}),
    Oddity("temperature-deprecated", "a bare sentence names `temperature`",
           refuses("temperature", refused("temperature is deprecated for this model.")),
           {"text": TEXT, "calls": 2, "sent": GONE}),
    Oddity("stop-unsupported", "xAI: `stop` in a plain error text",
           refuses("stop", bare(400, {"code": "Client specified an invalid argument",
                   "error": "Argument not supported on this model: stop"})),
           {"text": TEXT, "calls": 2, "sent": {"stop": None}}, {"stop": ("\n",)}),
    Oddity("stop-blank", "Anthropic: a stop text of blanks",
           refuses("stop", refused("stop_sequences: each stop sequence must contain non-whitespace")),
           {"text": TEXT, "calls": 2, "sent": {"stop": None}}, {"stop": ("\n",)}),
    Oddity("seed-extra", "FastAPI, Mistral: `seed` is an extra input", refuses("seed", fastapi("seed")),
           {"text": TEXT, "calls": 2, "sent": {"seed": None}}),
    Oddity("seed-renamed", "a server that names `random_seed`",
           refuses("seed", refused("Unknown parameter 'seed'. Did you mean 'random_seed'?")),
           {"text": TEXT, "calls": 2, "sent": {"seed": None, "random_seed": 5}}),
    Oddity("seed-mistral", "Mistral, named in the configuration", refuses("seed", fastapi("seed")),
           {"text": TEXT, "calls": 1, "sent": {"random_seed": 5}}, {},
           {"provider": "mistral", "model": "mistral-small-latest"}),
    Oddity("seed-int32", "Gemini: a seed of 32 bits at most",
           lambda body: refused("Invalid value at 'generation_config.seed' (TYPE_INT32)")
           if body.get("seed", 0) > 2**31 - 1 else answer(body),
           {"text": TEXT, "calls": 1}, {"seed": 2**40 + 5}),
    Oddity("seed-gemini", "Gemini: a list with the error in it",
           refuses("seed", bare(400, [{"error": {"code": 400, "status": "INVALID_ARGUMENT",
                   "message": "Invalid JSON payload received. Unknown name \"seed\": Cannot find "
                   "field."}}])),
           {"text": TEXT, "calls": 2, "sent": {"seed": None}}),
    Oddity("several", "a gateway refuses several parameters at once", litellm,
           {"text": TEXT, "calls": 3, "sent": {"seed": None, "temperature": None}}),
    Oddity("tgi", "TGI: `error` and `error_type`",
           refuses("seed", bare(422, {"error": "Input validation error: `seed` must be strictly "
                   "positive", "error_type": "validation"})),
           {"text": TEXT, "calls": 2, "sent": {"seed": None}}),
    Oddity("names", "refuses names of messages",
           lambda body: fastapi("messages.1.user.name") if "\"name\"" in text_of(body) else answer(body),
           {"text": TEXT, "calls": 1}),
    Oddity("system-vllm", "vLLM with Gemma: no system role",
           without_system(bare(400, {"object": "error", "message": "System role not supported",
                                     "type": "BadRequestError", "code": 400})),
           {"text": TEXT, "calls": 2}),
    Oddity("system-o1", "o1-mini: no system role",
           without_system(refused("Unsupported value: 'messages[0].role' does not support 'system' "
                                  "with this model.", param="messages[0].role")),
           {"text": TEXT, "calls": 2}),
    Oddity("system-gemma", "Gemini with Gemma: no developer instruction",
           without_system(bare(400, [{"error": {"code": 400, "message":
                "Developer instruction is not enabled for models/gemma-3-27b-it"}}])),
           {"text": TEXT, "calls": 2}),
    Oddity("system-alternate", "a chat template whose roles must alternate",
           without_system(bare(500, {"error": {"message": "Jinja Exception: Conversation roles must "
                "alternate user/assistant/user/assistant/..."}})),
           {"text": TEXT, "calls": 2}),
    Oddity("stream-only", "answers streams only, and refuses `stream_options`", stream_only,
           {"text": TEXT, "calls": 3, "sent": {"stream": True, "stream_options": None}}),
    Oddity("pictures", "DeepSeek: no pictures",
           sees_nothing("Failed to deserialize the JSON body: messages[0]: unknown variant "
                        "`image_url`, expected `text`"),
           {"text": TEXT, "calls": 2}, {"picture": True}, {"vision": True}),
    Oddity("pictures-openrouter", "OpenRouter: no endpoint that takes pictures",
           sees_nothing("No endpoints found that support image input", 404),
           {"text": TEXT, "calls": 2}, {"picture": True}, {"vision": True}),
)  # fmt: skip

SCHEMAS = (
    Oddity("schema-deepseek", "DeepSeek: no `json_schema`; `json_object` wants the word json",
           json_word, {"text": WORDED, "calls": 2, "sent": {"response_format": {"type": "json_object"}}},
           {"schema": SCHEMA}),
    Oddity("schema-deepseek-named", "the same, named in the configuration", json_word,
           {"text": WORDED, "calls": 1}, {"schema": SCHEMA},
           {"provider": "deepseek", "model": "deepseek-chat"}),
    Oddity("schema-keyword", "strict mode: `maxLength` is not permitted",
           keyword("maxLength", "Invalid schema for response_format 'answer': In "
                   "context=('properties', 'word'), 'maxLength' is not permitted."),
           {"text": WORDED, "calls": 1}, {"schema": SCHEMA}),
    Oddity("schema-keyword-local", "a server of one's own refuses a keyword that vLLM takes",
           keyword("maxLength", "Invalid schema: 'maxLength' is not permitted."),
           {"text": WORDED, "calls": 2}, {"schema": SCHEMA}, {"provider": "vllm"}),
    Oddity("schema-additional", "Gemini: `additionalProperties` is unknown",
           keyword("additionalProperties", "Invalid JSON payload received. Unknown name "
                   "\"additionalProperties\" at 'generation_config.response_schema'"),
           {"text": WORDED, "calls": 2}, {"schema": SCHEMA}),
    Oddity("schema-strict", "FastAPI: `strict` is an extra input",
           lambda body: bare(422, {"detail": [{"type": "extra_forbidden", "msg":
               "Extra inputs are not permitted",
               "loc": ["body", "response_format", "json_schema", "strict"]}]})
           if "strict" in str(body.get("response_format")) else answer(body),
           {"text": WORDED, "calls": 2}, {"schema": SCHEMA}),
    Oddity("schema-groq", "Groq: this model has no `json_schema`",
           kinds("json_object", reply=refused("This model does not support response format "
                 "`json_schema`. See supported models", param="response_format")),
           {"text": WORDED, "calls": 2, "sent": {"response_format": {"type": "json_object"}}},
           {"schema": SCHEMA}),
    Oddity("schema-object-refused", "a server that takes text only",
           kinds(reply=bare(400, {"error": "'response_format.type' must be 'text'"})),
           {"text": WORDED, "calls": 3, "sent": {"response_format": None}}, {"schema": SCHEMA}),
    Oddity("schema-extra", "FastAPI: `response_format` is an extra input",
           refuses("response_format", fastapi("response_format")),
           {"text": WORDED, "calls": 3, "sent": {"response_format": None}}, {"schema": SCHEMA}),
    Oddity("schema-anthropic", "Anthropic ignores `response_format` without a word", answer,
           {"text": WORDED, "calls": 1, "sent": {"response_format": None, "seed": None}},
           {"schema": SCHEMA}, {"provider": "anthropic", "model": "claude-sonnet-4-5"}),
)  # fmt: skip
