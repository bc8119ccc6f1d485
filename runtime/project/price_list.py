"""Prices of models from the list of the package genai-prices, without network access.

A newer list comes with a newer version: `pip install -U genai-prices`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from bigpe.agents.messages.usage import LlmPrice
from bigpe.services.core.values import Value
from bigpe.services.llm.config import EMBEDDED, LlmConfig
from bigpe.services.render.config import RenderConfig
from bigpe.services.render.hosted.openai_images import OPENAI

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


IMAGE_TOKENS: dict[str, dict[str, dict[str, int]]] = {
    "gpt-image-1": {
        "low": {"1024x1024": 272, "1024x1536": 408, "1536x1024": 400},
        "medium": {"1024x1024": 1056, "1024x1536": 1584, "1536x1024": 1568},
        "high": {"1024x1024": 4160, "1024x1536": 6240, "1536x1024": 6208},
    },
}
"""Output tokens of a picture, by model, quality and size (OpenAI's guide to image generation)."""
GEMINI_TOKENS = {"gemini-2.5-flash-image": 1290}
"""Output tokens of a picture of a Gemini model, whatever its size (Google's price list)."""


def listed_picture(painter: RenderConfig) -> tuple[float, str] | None:
    """USD of a picture, and where that comes from; None if it is not known.

    The few tokens of the prompt are left out. Without a quality and a size of your own, a service
    decides itself, and the price is not known.
    """
    tokens = _image_tokens(painter)
    if tokens is None:
        return None
    from genai_prices.data_snapshot import get_snapshot

    provider = "google" if painter.backend == "gemini-images" else "openai"
    try:
        _, model = get_snapshot().find_provider_model(painter.model, None, provider, None)
    except LookupError:
        return None
    prices: Any = model.prices
    each = getattr(prices, "output_image_mtok", None) or getattr(prices, "output_mtok", None)
    if not isinstance(each, int | float | Decimal):
        return None
    return float(each) * tokens / 1e6, f"{PACKAGE}, {tokens:,} tokens of {model.id}"


def _image_tokens(painter: RenderConfig) -> int | None:
    if painter.backend == "gemini-images":
        return GEMINI_TOKENS.get(painter.model)
    if painter.backend != "openai-images" or painter.http.urls not in ((), (OPENAI,)):
        return None
    quality = str(painter.http.extra.get("quality", "auto"))
    width, height = painter.dimensions or (0, 0)
    return IMAGE_TOKENS.get(painter.model, {}).get(quality, {}).get(f"{width}x{height}")


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
