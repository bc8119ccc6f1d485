"""Rows of servers whose answers, or failures, have another shape. See `llm_oddities`."""

# ruff: noqa: E501 -- a row is easier to read on few lines
from __future__ import annotations

import json
from typing import Any

from bigpe.services.core.errors import (
    ConfigError,
    LlmError,
    QuotaError,
    TransientLlmError,
)
from support.llm_oddities import (
    TEXT,
    Oddity,
    answer,
    bare,
    completed,
    piece,
    refused,
    streamed,
    whole,
)


def says(content: Any, finish: str | None = "stop", **beside: Any) -> Any:
    return lambda body: whole(body, content, finish, **beside)


def uses(**usage: Any) -> Any:
    message = {"role": "assistant", "content": TEXT}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return lambda body: completed(body, choice, usage=usage or None)


def fails(status: int, body: Any, kind: str = "application/json", **headers: str) -> Any:
    return lambda _: bare(status, body, kind, **headers)


PARTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "hmm"}]},
    {"type": "text", "text": "a red fox"},
    {"type": "text", "text": ", snow"},
]
FILTER = {
    "error": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content "
        "management policy.",
        "code": "content_filter", "param": "prompt", "status": 400,
    }
}  # fmt: skip
ANSWERS = (
    Oddity("parts", "Mistral: content as parts, thoughts among them", says(PARTS),
           {"text": TEXT, "reasoning": "hmm"}),
    Oddity("parts-of-text", "content as a list of texts", says(["a red fox", ", snow"]), {"text": TEXT}),
    Oddity("null", "null content at the limit", says(None, "length"), {"text": "", "finish": "length"}),
    Oddity("reasoning-content", "vLLM, DeepSeek: thoughts in `reasoning_content`",
           says(TEXT, reasoning_content="hmm"), {"text": TEXT, "reasoning": "hmm"}),
    Oddity("reasoning", "OpenRouter, Ollama: thoughts in `reasoning`", says(TEXT, reasoning="hmm"),
           {"text": TEXT, "reasoning": "hmm"}),
    Oddity("reasoning-details", "thoughts in `reasoning_details`",
           says(TEXT, reasoning_details=[{"type": "reasoning.text", "text": "hmm"}]),
           {"text": TEXT, "reasoning": "hmm"}),
    Oddity("only-thoughts", "thoughts up to the limit, and no text",
           says("", "length", reasoning_content="hmm"),
           {"text": "", "finish": "length", "reasoning": "hmm"}),
    Oddity("refusal", "OpenAI: a refusal in a field of its own", says(None, refusal="I can't."),
           {"text": "", "refusal": "I can't."}),
    Oddity("refusal-part", "a refusal as a part", says([{"type": "refusal", "refusal": "I can't."}]),
           {"text": "", "refusal": "I can't."}),
    Oddity("filter", "a content filter ends the answer", says("", "content_filter"),
           {"text": "", "finish": "content_filter"}),
    Oddity("filter-gemini", "Gemini: a finish reason of its own", says(None, "PROHIBITED_CONTENT"),
           {"text": "", "finish": "content_filter"}),
    Oddity("filter-azure", "Azure: a content filter refuses the request", fails(400, FILTER),
           {"text": "", "finish": "content_filter", "calls": 1}),
    Oddity("filter-qwen", "Qwen: the input is inappropriate",
           fails(400, {"error": {"code": "data_inspection_failed", "message": "Input data may contain "
                                 "inappropriate content."}}),
           {"text": "", "finish": "content_filter", "calls": 1}),
    Oddity("length-mistral", "Mistral: `model_length`", says("a red", "model_length"),
           {"text": "a red", "finish": "length"}),
    Oddity("length-gemini", "`MAX_TOKENS`", says("a red", "MAX_TOKENS"),
           {"text": "a red", "finish": "length"}),
    Oddity("no-reason", "no finish reason", says(TEXT, None), {"text": TEXT, "finish": "stop"}),
    Oddity("stream-always", "streams although it was not asked to",
           lambda _: streamed(piece(role="assistant", content="a red "), piece(content="fox"),
                              piece(reasoning_content="hmm"), piece(content=", snow")),
           {"text": TEXT, "reasoning": "hmm"}),
    Oddity("stream-usage", "a stream whose last event counts the tokens",
           lambda _: streamed(piece("length", content=TEXT), {"choices": [], "usage":
                              {"prompt_tokens": 9, "completion_tokens": 4}}),
           {"text": TEXT, "finish": "length", "usage": (9, 4, 0, 0)}),
    Oddity("stream-broken", "a stream that breaks off",
           lambda _: streamed(piece(content="a red"), end=""), {"error": TransientLlmError}),
    Oddity("stream-error", "an error in a stream",
           lambda _: streamed(piece(content="a"), {"error": {"message": "overloaded", "code": 503}}),
           {"error": TransientLlmError, "says": "overloaded"}),
    Oddity("no-usage", "no counts of tokens", lambda body: completed(
           body, {"index": 0, "message": {"content": TEXT}}, usage=None),
           {"text": TEXT, "usage": (0, 0, 0, 0)}),
    Oddity("thoughts-counted", "OpenAI: thoughts and cached tokens counted",
           uses(prompt_tokens=70, completion_tokens=30, total_tokens=100,
                completion_tokens_details={"reasoning_tokens": 20},
                prompt_tokens_details={"cached_tokens": 64}),
           {"text": TEXT, "usage": (70, 30, 20, 64)}),
    Oddity("thoughts-apart", "xAI, Gemini: thoughts only in the total",
           uses(prompt_tokens=70, completion_tokens=30, total_tokens=150),
           {"text": TEXT, "usage": (70, 80, 50, 0)}),
    Oddity("cache-deepseek", "DeepSeek: `prompt_cache_hit_tokens`",
           uses(prompt_tokens=70, completion_tokens=30, prompt_cache_hit_tokens=64),
           {"text": TEXT, "usage": (70, 30, 0, 64)}),
    Oddity("other-model", "names another model in its answer",
           lambda body: completed(body | {"model": "provider/other-2026"},
                                  {"index": 0, "message": {"content": TEXT}}), {"text": TEXT}),
    Oddity("legacy-text", "`text` in place of a message",
           lambda body: completed(body, {"index": 0, "text": TEXT}), {"text": TEXT}),
    Oddity("error-200", "OpenRouter: status 200 with an error object",
           fails(200, {"error": {"message": "Provider returned error", "code": 502}, "user_id": "u"}),
           {"error": TransientLlmError, "says": "Provider returned error"}),
    Oddity("error-200-key", "status 200 with an error that stays",
           fails(200, {"error": {"message": "User not found.", "code": 401}}),
           {"error": LlmError, "says": "User not found.*check the key"}),
    Oddity("error-200-plain", "status 200 with a sentence", fails(200, {"msg": "No such app"}),
           {"error": LlmError, "says": "No such app"}),
    Oddity("error-choice", "an error in the choice",
           lambda body: completed(body, {"error": {"code": 429, "message": "slow down"}, "index": 0}),
           {"error": TransientLlmError, "says": "slow down"}),
    Oddity("no-resources", "DeepSeek: `insufficient_system_resource`",
           says("", "insufficient_system_resource"), {"error": TransientLlmError}),
    Oddity("no-choices", "no choices", lambda body: completed(body),
           {"error": LlmError, "says": "no chat completion"}),
    Oddity("a-page", "a web page with status 200",
           fails(200, "<html><title>Welcome</title><body>Log in</body></html>", "text/html"),
           {"error": LlmError, "says": "Welcome.*check base_url"}),
)  # fmt: skip

GEMINI_WAIT = [{"error": {
    "code": 429, "status": "RESOURCE_EXHAUSTED",
    "message": "You exceeded your current quota, please check your plan and billing details.",
    "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}],
}}]  # fmt: skip
FAILURES = (
    Oddity("key-openai", "OpenAI: a wrong key",
           lambda _: refused("Incorrect API key provided: none.", 401, code="invalid_api_key"),
           {"error": LlmError, "says": "Incorrect API key.*check the key"}),
    Oddity("key-xai", "xAI: `error` is a text", fails(403, {"code": "x", "error": "Key is disabled"}),
           {"error": LlmError, "says": "Key is disabled.*check the key"}),
    Oddity("model-ollama", "Ollama: the model is not there",
           fails(404, {"error": {"message": "model 'qwen3:8b' not found"}}),
           {"error": LlmError, "says": "not found.*ollama pull"}, {}, {"provider": "ollama"}),
    Oddity("not-found", "an address without /v1", fails(404, {"detail": "Not Found"}),
           {"error": LlmError, "says": "Not Found.*check base_url"}),
    Oddity("not-allowed", "405", fails(405, {"detail": "Method Not Allowed"}),
           {"error": LlmError, "says": "check base_url"}),
    Oddity("mistral-detail", "Mistral: `message` and `detail`",
           fails(400, {"object": "error", "message": "Invalid model: x", "type": "invalid_model"}),
           {"error": LlmError, "says": "Invalid model: x"}),
    Oddity("context", "the request is longer than the context",
           lambda _: refused("This model's maximum context length is 512 tokens. However, you "
                             "requested 700 tokens", code="context_length_exceeded"),
           {"error": LlmError, "says": "longer than the model's context", "calls": 1}),
    Oddity("gateway", "OpenRouter: the upstream's words inside the error",
           fails(400, {"error": {"message": "Provider returned error", "code": 400, "metadata":
                       {"raw": json.dumps({"error": {"message": "the image is broken"}})}}}),
           {"error": LlmError, "says": "the image is broken"}),
    Oddity("busy-page", "503 with a web page",
           fails(503, "<html><head><title>503 Service Temporarily Unavailable</title></head></html>",
                 "text/html"),
           {"error": TransientLlmError, "says": "503 Service Temporarily Unavailable"}),
    Oddity("wait-header", "429 with Retry-After", fails(429, {"error": {"message": "slow"}},
           Retry_After="7"), {"error": TransientLlmError, "wait": 7.0}),
    Oddity("wait-openai", "OpenAI: x-ratelimit-reset headers",
           fails(429, {"error": {"message": "Rate limit reached"}}, x_ratelimit_remaining_requests="0",
                 x_ratelimit_reset_requests="6m0s", x_ratelimit_reset_tokens="120ms"),
           {"error": TransientLlmError, "wait": 360.0}),
    Oddity("wait-body", "OpenAI: the delay in a sentence",
           lambda _: refused("Rate limit reached for gpt. Please try again in 20s.", 429),
           {"error": TransientLlmError, "wait": 20.0}),
    Oddity("wait-gemini", "Gemini: `retryDelay`, though it speaks of a quota", fails(429, GEMINI_WAIT),
           {"error": TransientLlmError, "wait": 17.0}),
    Oddity("wait-past", "OpenRouter: the reset as a time since 1970, milliseconds",
           fails(429, {"error": {"message": "Rate limit exceeded: free-models-per-min"}},
                 X_RateLimit_Reset="1700000000000"), {"error": TransientLlmError, "wait": 0.0}),
    Oddity("quota-openai", "OpenAI: the quota is spent",
           lambda _: refused("You exceeded your current quota, please check your plan and billing "
                             "details.", 429, code="insufficient_quota"),
           {"error": QuotaError, "says": "exceeded your current quota"}),
    Oddity("quota-402", "402", fails(402, {"error": {"message": "Insufficient credits"}}),
           {"error": QuotaError}),
    Oddity("quota-anthropic", "Anthropic: 400, the credit is too low",
           fails(400, {"error": {"type": "invalid_request_error", "message": "Your credit balance is "
                       "too low to access the Anthropic API."}}), {"error": QuotaError}),
    Oddity("own-temperature", "refuses a temperature that the user set",
           lambda body: refused("'temperature' is not supported", param="temperature")
           if "temperature" in body else answer(body),
           {"error": ConfigError, "says": "temperature = 0.7.*\\[llm\\]", "calls": 1}, {},
           {"temperature": 0.7}),
    Oddity("own-body", "refuses a parameter of `extra_body`",
           lambda body: refused("Unknown parameter: 'top_k'.", param="top_k")
           if "top_k" in body else answer(body),
           {"error": ConfigError, "says": "top_k = 20"}, {}, {"extra_body": {"top_k": 20}}),
    Oddity("own-limit", "refuses the name of the user's output limit",
           lambda body: refused("Unsupported parameter: 'max_tokens' is not supported with this "
                                "model. Use 'max_completion_tokens' instead.", param="max_tokens")
           if "max_tokens" in body else answer(body),
           {"text": TEXT, "calls": 2, "sent": {"max_completion_tokens": 900}}, {},
           {"max_tokens": 900}),
    Oddity("own-wins", "the user's settings are sent as they are", answer,
           {"text": TEXT, "calls": 1, "sent": {"temperature": 1.3, "max_tokens": 900, "top_k": 20,
            "reasoning_effort": "low", "seed": 5}}, {},
           {"temperature": 1.3, "max_tokens": 900, "reasoning_effort": "low",
            "extra_body": {"top_k": 20}}),
)  # fmt: skip
