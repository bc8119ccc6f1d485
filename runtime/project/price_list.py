"""Prices of language models from the list of the package genai-prices, without network access.

A newer list comes with a newer version: `pip install -U genai-prices`.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from bigpe.agents.messages.usage import LlmPrice
from bigpe.services.core.values import Value
from bigpe.services.llm.service import LlmConfig

PACKAGE = "genai-prices"
SAMPLE_TOKENS = 1_000
"""Tokens of the call that is priced. It is short, because some models cost more past 128,000."""
CLASSES = (
    ("azure", "azure"),
    ("bedrock", "aws"),
    ("anthropic", "anthropic"),
    ("openai", "openai"),
)
"""A word in the name of an AutoGen client class, and the provider in the list. The first word that
occurs decides: `AzureOpenAIChatCompletionClient` has two."""
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1", "0.0.0.0")


class ListedPrice(Value):
    """The price of a model in the list."""

    price: LlmPrice
    source: str
    """The list, its version, and the model's name there."""


def model_name(config: LlmConfig) -> str:
    """The name of the model that `config` asks for; its provider if it names none."""
    return config.model_name


def listed_price(config: LlmConfig) -> ListedPrice | None:
    """The list's price of the configured model; None if the list has none.

    A model behind a `base_url` that is no listed provider's has no price, whatever its name.
    """
    address = config.address or ""
    if urlsplit(address).hostname in LOCAL_HOSTS:
        return None
    provider = None if address else _provider(config.provider)
    if not address and provider is None:
        return None
    return _look_up(model_name(config), provider, address or None)


def _provider(name: str) -> str | None:
    """The list's name of a provider, or of the provider of an AutoGen client class."""
    if "." not in name:
        return name
    name = name.rpartition(".")[2].lower()
    return next((provider for word, provider in CLASSES if word in name), None)


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
