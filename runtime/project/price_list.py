"""Prices of language models from the list of the package genai-prices, without network access.

A newer list comes with a newer version: `pip install -U genai-prices`.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from bigpe.agents.messages.usage import LlmPrice
from bigpe.services.core.values import Value
from bigpe.services.llm.config import EMBEDDED, LlmConfig

PACKAGE = "genai-prices"
SAMPLE_TOKENS = 1_000
"""Tokens of the call that is priced. It is short, because some models cost more past 128,000."""
CLASSES = (("bedrock", "aws"), ("anthropic", "anthropic"), ("openai", "openai"))
"""A word in the name of an AutoGen client class, and its provider in the list."""
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1", "0.0.0.0")
OWN_SERVERS = ("ollama", "vllm", "llamacpp", "lmstudio")
"""Providers that are programs which people run themselves."""


class ListedPrice(Value):
    """The price of a model in the list."""

    price: LlmPrice
    source: str
    """The list, its version, and the model's name there."""


def is_own(config: LlmConfig) -> bool:
    """Whether the model runs on this machine, so that a call costs nothing."""
    return config.provider == EMBEDDED or (config.provider in OWN_SERVERS and _is_local(config))


def listed_price(config: LlmConfig) -> ListedPrice | None:
    """The list's price of the configured model; None if the list has none.

    A model behind an address that is no listed provider's has no price, whatever its name.
    """
    if _is_local(config):
        return None
    if config.address is not None:
        return _look_up(config.model_name, None, config.address)
    name = config.provider_name.rpartition(".")[2].lower()
    provider = next((provider for word, provider in CLASSES if word in name), name)
    return _look_up(config.model_name, provider, None)


def _is_local(config: LlmConfig) -> bool:
    return urlsplit(config.address or "").hostname in LOCAL_HOSTS


def _look_up(model: str, provider: str | None, address: str | None) -> ListedPrice | None:
    # The list is a module of 1.6 MB.
    from genai_prices import Usage, __version__
    from genai_prices.data_snapshot import get_snapshot

    def usd(**tokens: int) -> float:
        """USD per million tokens of the kind that `tokens` names."""
        cost = snapshot.calc(Usage(**tokens), model, provider, address, None)
        return float(cost.total_price) * 1e6 / SAMPLE_TOKENS

    snapshot = get_snapshot()
    try:
        owner, found = snapshot.find_provider_model(model, None, provider, address)
        return ListedPrice(
            price=LlmPrice(
                prompt=usd(input_tokens=SAMPLE_TOKENS),
                completion=usd(output_tokens=SAMPLE_TOKENS),
                cached=usd(input_tokens=SAMPLE_TOKENS, cache_read_tokens=SAMPLE_TOKENS),
            ),
            source=f"{PACKAGE} {__version__}, {owner.id}/{found.id}",
        )
    except (LookupError, ValueError):  # no such model, or no price for text
        return None
