"""Providers of language models: addresses, and the rules of their chat completions by model.

Rules only save refused requests. What a server refuses beyond them is learned (see `refusals`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from bigpe.services.llm.learned import SchemaKind

STRICT_REFUSES = frozenset(
    {
        "minLength", "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum",
        "exclusiveMaximum", "multipleOf", "minItems", "maxItems", "uniqueItems", "contains",
        "minContains", "maxContains", "patternProperties", "propertyNames", "minProperties",
        "maxProperties", "unevaluatedProperties", "unevaluatedItems", "default",
    }
)  # fmt: skip
"""Keywords that OpenAI's strict mode has refused, or still does. They bound values, and
actors check each answer themselves."""


class Provider(NamedTuple):
    """Where a provider is, and where its key comes from."""

    base_url: str | None
    """Its address; None: the user names it."""
    key_env: str | None = None
    """The usual environment variable with its key; None: it needs no key."""
    hint: str = ""
    """What to do when nothing answers at the address."""


@dataclass(frozen=True)
class ProviderRules:
    """What the servers of a provider take for a model."""

    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The name of the output limit."""
    temperature: bool = True
    """Whether a temperature of bigpe's own is taken."""
    seed: Literal["seed", "random_seed"] | None = "seed"
    """The name of the seed; None: there is none."""
    stop: bool = True
    """Whether stop texts are taken."""
    schema_kind: SchemaKind = "json_schema"
    """The strictest kind that is taken."""
    refused_keywords: frozenset[str] = STRICT_REFUSES
    """Keywords that are left out of JSON schemas."""
    system_role: Literal["system", "user"] = "system"
    """Where the system's text goes; "user": before the first user turn."""
    vision: bool = False
    """Whether the model sees pictures."""
    thinks: bool = False
    """Whether the model thinks before it answers, and so needs room for thoughts."""


PROVIDERS: dict[str, Provider] = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "anthropic": Provider("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    "gemini": Provider("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "openrouter": Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "azure": Provider(None, "AZURE_OPENAI_API_KEY"),
    "mistral": Provider("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "deepseek": Provider("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "groq": Provider("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "together": Provider("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    "xai": Provider("https://api.x.ai/v1", "XAI_API_KEY"),
    "fireworks": Provider("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "cerebras": Provider("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "nvidia": Provider("https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY"),
    "huggingface": Provider("https://router.huggingface.co/v1", "HF_TOKEN"),
    "moonshot": Provider("https://api.moonshot.ai/v1", "MOONSHOT_API_KEY"),
    "qwen": Provider("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "DASHSCOPE_API_KEY"),
    "zai": Provider("https://api.z.ai/api/paas/v4", "ZAI_API_KEY"),
    "deepinfra": Provider("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    "cohere": Provider("https://api.cohere.ai/compatibility/v1", "COHERE_API_KEY"),
    "perplexity": Provider("https://api.perplexity.ai", "PERPLEXITY_API_KEY"),
    "ollama": Provider("http://127.0.0.1:11434/v1", hint="start it: `ollama serve`"),
    "vllm": Provider("http://127.0.0.1:8000/v1", hint="start it: `vllm serve MODEL`"),
    "llamacpp": Provider("http://127.0.0.1:8080/v1", hint="start it: `llama-server -m FILE`"),
    "lmstudio": Provider("http://127.0.0.1:1234/v1", hint="start it: `lms server start`"),
    "openai-compatible": Provider(None),
}
"""The short names of `[llm.NAME] provider`."""

LOCAL = "ollama|vllm|llamacpp|lmstudio"
SEES = (
    r"gpt-4o|gpt-4\.1|gpt-4-turbo|gpt-5|(^|/)o[134](?!-mini)|o4-mini|claude|gemini|gemma-?3|gemma-?4"
    r"|pixtral|mistral-(small|medium|large)-?(3|2[5-9]|latest)|magistral|ministral-3"
    r"|llava|bakllava|moondream|minicpm-?v|llama-?3\.2-?(11b|90b|vision)|llama-?4|vision"
    r"|(?<![a-z])vlm?(?![a-z])|qwen[\d.]*-?vl|qwen3\.[5-9]|internvl|glm-[\d.]+v|grok-(2-vision|4)"
    r"|kimi-k2\.[5-9]|kimi-vl|phi-?[34][\w.-]*vision|nova-(lite|pro|premier)|smolvlm"
)
"""Names of models that see pictures."""
THINKS = (
    r"(^|/)o[134](-|$|:)|gpt-5(?!-chat|[\w.]*-chat)|gpt-oss|deepseek-(r\d|reasoner|v3\.[1-9]|v4)"
    r"|qwq|qwen-?3(?!.*instruct)|magistral|gemini-(2\.5|[3-9])|grok-(3-mini|4)|think|reason"
    r"|claude-(fable|mythos)|glm-(4\.[5-9]|[5-9])|kimi-k2(\.[5-9]|-thinking)|minimax-m\d|phi-4-r"
    r"|nemotron|smollm3|seed-oss|-r1(-|:|$)"
)
"""Names of models that think before they answer."""

DEFAULT = ProviderRules()
OPENAI_THINKS = ProviderRules(
    limit="max_completion_tokens", temperature=False, stop=False, seed="seed"
)
ANTHROPIC = ProviderRules(seed=None, schema_kind="text")
"""Its compatible endpoint ignores `seed` and `response_format` without a word."""

RULES: tuple[tuple[str, str, ProviderRules], ...] = (
    ("openai|azure", r"^o\d|^gpt-5(?!.*-chat)|codex", OPENAI_THINKS),
    (
        "openai|azure",
        r"^gpt-3\.5|^gpt-4(-turbo|-\d|$)",
        replace(DEFAULT, schema_kind="json_object"),
    ),
    ("openai|azure", r"", DEFAULT),
    ("mistral", r"", replace(DEFAULT, seed="random_seed")),
    ("deepseek", r"", replace(DEFAULT, schema_kind="json_object")),
    ("anthropic", r"", ANTHROPIC),
    ("groq", r"gpt-oss|kimi|llama-4", DEFAULT),
    ("groq", r"", replace(DEFAULT, schema_kind="json_object")),
    ("xai", r"grok-(3-mini|4)", replace(DEFAULT, stop=False)),
    ("moonshot|zai", r"", replace(DEFAULT, schema_kind="json_object")),
    (
        LOCAL,
        r"gemma-?[12](?!\d)",
        replace(DEFAULT, system_role="user", refused_keywords=frozenset()),
    ),
    (LOCAL, r"", replace(DEFAULT, refused_keywords=frozenset())),
)
"""Provider, pattern of the model's name, rules: the first row that fits holds."""

HOSTS: tuple[tuple[str, str], ...] = (
    (
        r"\.openai\.azure\.com$|\.cognitiveservices\.azure\.com$|\.services\.ai\.azure\.com$",
        "azure",
    ),
    (r"(^|\.)(googleapis\.com)$", "gemini"),
    (r"^(127\.0\.0\.1|localhost):11434$", "ollama"),
)
"""Hosts beside those of `PROVIDERS`."""


def rules_for(provider: str, model: str) -> ProviderRules:
    """The rules of a model: the first row of `RULES` that fits, and what its name says."""
    name = model.lower()
    found = next(
        (
            rules
            for providers, pattern, rules in RULES
            if re.fullmatch(providers, provider) and re.search(pattern, name)
        ),
        DEFAULT,
    )
    sees, thinks = re.search(SEES, name), re.search(THINKS, name)
    return replace(found, vision=bool(sees), thinks=bool(thinks))


def provider_at(base_url: str | None) -> str:
    """The provider at an address; "openai-compatible" if it is none of the table."""
    if base_url is None:
        return "openai"
    there = urlsplit(base_url)
    for name, provider in PROVIDERS.items():
        if provider.base_url and urlsplit(provider.base_url).netloc == there.netloc:
            return name
    host = there.netloc if there.hostname in ("127.0.0.1", "localhost") else there.hostname or ""
    return next((name for hosts, name in HOSTS if re.search(hosts, host)), "openai-compatible")


def names() -> Sequence[str]:
    """All short names, with "embedded"."""
    return ("embedded", *PROVIDERS)
