"""`[llm.NAME]`: which language model, where it is, and the user's own settings of its requests."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from autogen_core.models import ChatCompletionClient
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from bigpe.services.core.after_start import AfterStart
from bigpe.services.core.errors import BigpeError, ConfigError
from bigpe.services.core.values import Json, digest
from bigpe.services.llm.providers import PROVIDERS, names, provider_at

TRUSTED_PROVIDERS = ("autogen_ext.models.", "bigpe.services.")
"""Trusted provider prefixes. Loading a component imports code, so others need `allow_providers`."""
EMBEDDED = "bigpe.services.llm.embedded_client.EmbeddedLlmClient"
OPENAI_CHAT = "bigpe.services.llm.openai_chat.client.OpenAiChatClient"
AUTOGEN_OPENAI = "autogen_ext.models.openai.OpenAIChatCompletionClient"
AUTOGEN_AZURE = "autogen_ext.models.openai.AzureOpenAIChatCompletionClient"
COMPATIBLE = (AUTOGEN_OPENAI, AUTOGEN_AZURE)
"""Clients of AutoGen in whose place bigpe's own client answers; it honours all that they take."""

REQUEST_KEYS = (
    "temperature", "max_tokens", "max_completion_tokens", "reasoning_effort", "top_p", "stop",
    "frequency_penalty", "presence_penalty", "logit_bias", "user",
)  # fmt: skip
"""Settings of AutoGen's configuration that are sent with each request."""
CONFIG_KEYS = (
    "model", "base_url", "model_info", "model_capabilities", "default_headers", "organization",
    "extra_body", "azure_endpoint", "azure_deployment", "api_version", "api_key",
    "timeout", "max_retries", "add_name_prefixes", "include_name_in_message", *REQUEST_KEYS,
)  # fmt: skip
BIGPES_OWN = {
    "seed": "bigpe derives the seed of each request from [run] seed",
    "response_format": "bigpe asks for a schema where it needs one",
    "n": "bigpe reads the first choice",
    "stream_options": "bigpe streams only where a server answers streams only",
    "parallel_tool_calls": "bigpe calls no tools",
    "azure_ad_token": "keys do not belong in a file; use api_key_env",
}
"""Keys of AutoGen's configuration that would have no effect, and why."""
AZURE_V1 = "/openai/v1"
"""The path of Azure's API without versions."""
LIMITS = ("max_tokens", "max_completion_tokens")
SECRET_HEADERS = ("authorization", "api-key", "x-api-key", "cookie", "proxy-authorization")
Needs = AfterStart.NEEDS_FORK


class LlmConfig(BaseModel):
    """`[llm.NAME]`: a language model by its provider's name, or an AutoGen client component."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: Annotated[str, Needs] = EMBEDDED
    """A short name (docs/own-llm.md lists them), or the dotted path of an AutoGen client."""
    model: Annotated[str | None, Needs] = None
    """The model's name at its provider."""
    base_url: Annotated[str | None, Needs] = None
    """The address, mostly with /v1 at its end; None: the provider's own."""
    api_version: Annotated[str | None, Needs] = None
    """Azure's version of the API; None: the unversioned API under /openai/v1."""
    temperature: Annotated[float | None, Needs] = Field(default=None, ge=0, le=2)
    """Replaces the temperature of every request; None: bigpe chooses by role."""
    max_tokens: Annotated[int | None, Needs] = Field(default=None, ge=1)
    """Replaces the output limit of every request, thoughts included; None: bigpe chooses."""
    reasoning_effort: Annotated[str | None, Needs] = None
    """How long the model thinks, for example "low"; None: not sent."""
    extra_body: Annotated[dict[str, Any], Needs] = Field(default_factory=dict[str, Any])
    """Further parameters of each request, as the server names them. They win over bigpe's."""
    headers: Annotated[dict[str, str], Needs] = Field(default_factory=dict[str, str])
    """Further headers of each request. They win over bigpe's; a key does not belong here."""
    vision: Annotated[bool | None, Needs] = None
    """Whether the model sees pictures; None: by its name, and as `bigpe doctor --probe` found."""
    config: Annotated[dict[str, Any], Needs] = Field(default_factory=dict[str, Any])
    """The configuration of a dotted provider."""
    api_key_env: Annotated[str | None, AfterStart.CHANGES_NO_RESULT] = None
    """Name of the environment variable with the API key; None: the provider's usual one."""
    allow_providers: Annotated[tuple[str, ...], AfterStart.CHANGES_NO_RESULT] = ()
    """Further provider prefixes whose code may be loaded."""
    concurrency: Annotated[int, AfterStart.CHANGES_NO_RESULT] = Field(default=16, ge=1, le=1000)
    """Requests in flight; older rounds go first. The embedded model takes one per process."""
    timeout_s: Annotated[float, AfterStart.CHANGES_NO_RESULT] = Field(default=120.0, gt=0)
    """Time limit of one request, seconds."""

    @field_validator("provider")
    @classmethod
    def _named_provider(cls, provider: str) -> str:
        if provider == "embedded":
            return EMBEDDED
        if not provider or "." in provider or provider in PROVIDERS:
            return provider
        raise ValueError(
            f"there is no provider {provider!r}{did_you_mean(provider, names())}; use one of "
            f"{', '.join(names())}, or the dotted path of an AutoGen client"
        )

    @field_validator("base_url")
    @classmethod
    def _address(cls, url: str | None) -> str | None:
        return None if url is None else checked_address(url)

    @field_validator("headers")
    @classmethod
    def _no_keys(cls, headers: dict[str, str]) -> dict[str, str]:
        _refuse_secret_headers(headers)
        return headers

    @model_validator(mode="after")
    def _no_key_without_effect(self) -> Self:
        if self.is_short:
            self._check_short()
            return self
        unused = [name for name in SHORT_ONLY if getattr(self, name) not in (None, {})]
        if unused:
            instead = "put it into its config" if self.provider != EMBEDDED else "take it out"
            raise ValueError(f"{unused[0]} has no effect with provider {self.provider}; {instead}")
        if self.provider in COMPATIBLE:
            check_component(self.config)
        return self

    def _check_short(self) -> None:
        if self.config:
            raise ValueError(
                f"config belongs to a dotted provider; with provider = {self.provider!r}, write "
                f"{next(iter(self.config))} and the other keys beside provider"
            )
        if not self.model:
            raise ValueError(f"model is missing: name the model of {self.provider!r}")
        if PROVIDERS[self.provider].base_url is None and self.base_url is None:
            raise ValueError(
                f"base_url is missing: name the address of your {self.provider} server"
            )
        if self.api_version is not None and self.provider != "azure":
            raise ValueError(f"api_version has no effect with provider {self.provider!r}")
        if "model" in self.extra_body or "messages" in self.extra_body:
            raise ValueError("extra_body holds model or messages: set model, and take it out there")

    @property
    def is_short(self) -> bool:
        """Whether the provider is a short name."""
        return self.provider in PROVIDERS

    @property
    def is_ours(self) -> bool:
        """Whether bigpe's own client of chat completions answers."""
        by_token = "azure_ad_token_provider" in self.config  # which only AutoGen's client takes
        return self.is_short or (self.provider in COMPATIBLE and not by_token)

    @property
    def model_name(self) -> str:
        """The name of the model; for another client the name of its class."""
        own = self.model or self.config.get("model") or self.config.get("path")
        if own:
            return str(own)
        return "smollm2-135m" if self.provider == EMBEDDED else self.provider.rpartition(".")[2]

    @property
    def provider_name(self) -> str:
        """The short name of the provider: "embedded", one of `PROVIDERS`, or a dotted path."""
        if self.provider == EMBEDDED:
            return "embedded"
        if self.provider == AUTOGEN_AZURE:
            return "azure"
        return provider_at(self.address) if self.provider == AUTOGEN_OPENAI else self.provider

    @property
    def address(self) -> str | None:
        """The address of the server, where it is configured or the provider's own."""
        if self.is_short:
            url = self.base_url or PROVIDERS[self.provider].base_url
            if self.provider == "azure" and self.api_version is None and url is not None:
                return url if urlsplit(url).path.strip("/") else url.rstrip("/") + AZURE_V1
            return url
        return self.config.get("base_url") or self.config.get("azure_endpoint")

    @property
    def key_env(self) -> str | None:
        """The environment variable that the key is read from; None: no key is needed."""
        if self.api_key_env is not None:
            return self.api_key_env
        if not self.is_ours:
            return None
        if not self.is_short:
            return PROVIDERS[self.provider_name].key_env or "OPENAI_API_KEY"
        usual = PROVIDERS[self.provider]
        # The usual key must not go to an address that is not the provider's own.
        return usual.key_env if self.base_url is None or self.provider == "azure" else None

    @property
    def request_settings(self) -> dict[str, Any]:
        """The user's own parameters of each request, by their names at the server."""
        if not self.is_short:
            named = {key: self.config[key] for key in REQUEST_KEYS if key in self.config}
            extra: dict[str, Any] = self.config.get("extra_body") or {}
        else:
            named = {key: getattr(self, key) for key in ("temperature", "max_tokens")}
            named["reasoning_effort"] = self.reasoning_effort
            extra = self.extra_body
        return {key: value for key, value in named.items() if value is not None} | extra

    @property
    def own_limit(self) -> int | None:
        """The user's output limit, which every request has; None: bigpe chooses."""
        if not self.is_ours:
            return None
        found = (self.request_settings.get(name) for name in LIMITS)
        return next((value for value in found if isinstance(value, int)), None)


SHORT_ONLY = (
    "model", "base_url", "api_version", "temperature", "max_tokens", "reasoning_effort",
    "extra_body", "headers", "vision",
)  # fmt: skip
"""Keys that only short names have."""


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """ "; did you mean 'x'?" for the most similar of the words; empty if none is similar."""
    found = difflib.get_close_matches(word, list(words), n=1, cutoff=0.7)
    return f"; did you mean {found[0]!r}?" if found else ""


def checked_address(url: str) -> str:
    """`url` if it is an address of http or https without a password; else ValueError."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is not an address: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"{url!r} is not an address; write https://HOST/v1 or http://HOST:PORT/v1")
    if parts.username or parts.password:
        raise ValueError("an address must not hold a password; name its variable in api_key_env")
    return url


def check_component(config: dict[str, Any]) -> None:
    """ValueError for a key of an OpenAI-compatible `config` that is unknown or has no effect."""
    for key in config:
        if reason := BIGPES_OWN.get(key):
            raise ValueError(f"config.{key} has no effect ({reason}); take it out")
        if key not in (*CONFIG_KEYS, "azure_ad_token_provider"):
            raise ValueError(f"unknown key config.{key}{did_you_mean(key, CONFIG_KEYS)}")
    for key in ("base_url", "azure_endpoint"):
        if isinstance(config.get(key), str):
            checked_address(config[key])
    _refuse_secret_headers(config.get("default_headers") or {})


def _refuse_secret_headers(headers: dict[str, str]) -> None:
    for name in headers:
        if name.lower() in SECRET_HEADERS:
            raise ValueError(
                f"headers.{name}: keys do not belong in a file; put the key in an environment "
                "variable and name that variable in api_key_env"
            )


def component_of(config: LlmConfig) -> Json:
    """Provider and configuration of the component that answers."""
    if config.is_ours:
        return {"provider": OPENAI_CHAT, "config": _chat_config(config)}
    require_key(config)
    secrets = {} if config.api_key_env is None else {"api_key": _key(config)}
    return {
        "provider": config.provider,
        "config": {**config.config, **secrets, **_limits(config)},
    }


def _chat_config(config: LlmConfig) -> Json:
    """The configuration of bigpe's own client for a short name or a client of AutoGen."""
    made: Json = {
        "model": config.model if config.is_short else config.config.get("model"),
        "provider": config.provider_name,
        "base_url": config.address,
        "api_key": _key(config),
        "timeout": config.timeout_s,
        "settings": config.request_settings,
    }
    if config.is_short:
        made |= {"default_headers": config.headers, "vision": config.vision}
        if config.api_version is not None:
            made |= {"azure_endpoint": config.base_url, "api_version": config.api_version}
        return made
    taken = ("azure_endpoint", "azure_deployment", "api_version", "organization")
    given = config.config
    return (
        made
        | {key: given[key] for key in taken if given.get(key) is not None}
        | {"default_headers": given.get("default_headers") or {}}
        | {"model_info": given.get("model_info") or given.get("model_capabilities") or {}}
    )


def _key(config: LlmConfig) -> str:
    """The key from the environment; "none" without it, which servers of one's own ignore."""
    return os.environ.get(config.key_env or "") or "none"


def require_key(config: LlmConfig) -> None:
    """ConfigError if the environment lacks the key that `config` names or its provider needs."""
    name = config.key_env
    if name is None or os.environ.get(name):
        return
    if config.api_key_env is not None:
        raise ConfigError(f"[llm] api_key_env = {name!r}, but that environment variable is not set")
    usual = (None, PROVIDERS[config.provider_name].base_url)
    if config.address in usual or config.provider_name == "azure":
        raise ConfigError(
            f"[llm] {config.provider_name} needs an api_key: set the environment variable {name}, "
            "or name yours in api_key_env"
        )


def _limits(config: LlmConfig) -> dict[str, Any]:
    if config.provider == EMBEDDED:
        return {"timeout_s": config.timeout_s}
    # bigpe retries by itself, and records each attempt.
    return {"timeout": config.timeout_s, "max_retries": 0}


def load_client(config: LlmConfig) -> ChatCompletionClient:
    """The model client of the configuration. Raises ConfigError with cause and remedy."""
    allowed = (*TRUSTED_PROVIDERS, *config.allow_providers)
    if not config.is_short and not config.provider.startswith(allowed):
        raise ConfigError(
            f"[llm] provider {config.provider!r} is not trusted: loading it would run its code. "
            f"Trusted prefixes: {', '.join(allowed)}; add yours to allow_providers if you trust it"
        )
    if "api_key" in config.config:
        raise ConfigError(
            "[llm] config.api_key: keys do not belong in a file; put the key in an environment "
            "variable and name that variable in api_key_env"
        )
    component = {"component_type": "model", **component_of(config)}
    try:
        client = ChatCompletionClient.load_component(component)
    except BigpeError:
        raise
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"[llm] provider {config.provider!r} cannot be loaded: {error}"
        ) from error
    except Exception as error:
        from bigpe.services.llm.failures import refusal  # here: see LlmService._explain

        if (text := refusal(error)) is None:
            raise
        raise ConfigError(f"[llm] {config.provider} refuses its config: {text}") from error
    require_key(config)
    return client


def class_name(client: ChatCompletionClient) -> str:
    """The name of the client's class in fingerprints.

    A wrapper has an attribute `fingerprint_class`, the name of the class that it wraps.
    """
    return getattr(client, "fingerprint_class", type(client).__qualname__)


def client_fingerprint(client: ChatCompletionClient, config: LlmConfig) -> str:
    """A digest of what an answer depends on besides the request: the model, never the key.

    A client with weights of its own has an attribute `fingerprint`, their digest.
    """
    own = getattr(client, "fingerprint", None)
    public = config.model_dump(
        mode="json", exclude={"api_key_env", "concurrency", "timeout_s", "allow_providers"}
    )
    for name in SHORT_ONLY:  # so that what was paid before these keys were there stays paid
        if public[name] in (None, {}):
            del public[name]
    return digest({"client": class_name(client), "config": public, "model": own})
