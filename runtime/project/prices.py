"""The prices of a project's models: the user's own `[prices]`, else those of a public list.

A model without a price is named wherever costs are shown. Its calls never count as free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bigpe.agents.messages.usage import FREE, LlmPrice, Prices
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.project.price_list import is_own, listed_picture, listed_price
from bigpe.services.core.errors import ConfigError

OWN = "[prices]"
HERE = "runs on this machine"
OWN_RENDERERS = ("diffusers", "a1111", "comfyui", "bigpe")
"""Renderers that people run themselves. Others are services, or unknown."""
OWN_SCORERS = ("clip", "hpsv2-package", "bigpe")


class PricedModel(NamedTuple):
    """A configured model with its price."""

    name: str
    """Its section: "llm.default", "render" or "score"."""
    model: str
    price: LlmPrice | float | None
    """USD per million tokens, per image or per score; None: no price is known."""
    source: str
    """Where the price comes from; empty if there is none."""

    @property
    def costs(self) -> bool:
        """Whether a call is known to cost money."""
        return self.price not in (None, FREE, 0.0)

    @property
    def text(self) -> str:
        """The price in words."""
        if self.price is None:
            return "no price"
        if isinstance(self.price, LlmPrice):
            return "free" if self.price == FREE else _tokens_text(self.price)
        unit = "image" if self.name == "render" else "score"
        return f"{self.price:g} USD per {unit}" if self.price else "free"

    @property
    def remedy(self) -> str:
        """How to set the price."""
        if self.name.startswith("llm."):
            return f"set [prices.{self.name}] prompt and completion, USD per million tokens"
        return f"set [prices] {self.name}, USD for each"

    def as_json(self) -> dict[str, Any]:
        """The row as JSON; prices in USD."""
        price = self.price.model_dump() if isinstance(self.price, LlmPrice) else self.price
        return {"section": self.name, "model": self.model, "usd": price, "source": self.source}


def _tokens_text(price: LlmPrice) -> str:
    cached = "" if price.cached is None else f", {price.cached:g} cached"
    return f"{price.prompt:g} in{cached}, {price.completion:g} out (USD per million tokens)"


class PriceTable:
    """The prices of all models of a configuration."""

    def __init__(self, rows: Sequence[PricedModel]) -> None:
        self.rows = tuple(rows)
        self._by_name = {row.name: row for row in rows}

    def llm(self, role: str) -> LlmPrice | None:
        """The price of the model that serves `role`; None if it is not known."""
        price = self.llm_row(role).price
        assert price is None or isinstance(price, LlmPrice)
        return price

    def llm_row(self, role: str) -> PricedModel:
        """The model that serves `role`."""
        return self._by_name.get(f"llm.{role}") or self._by_name["llm.default"]

    def row(self, name: str) -> PricedModel:
        """The renderer ("render") or the scorer ("score")."""
        return self._by_name[name]

    def each(self, name: str) -> float | None:
        """The price of a picture ("render") or of a score ("score"); None if it is not known."""
        price = self.row(name).price
        assert not isinstance(price, LlmPrice)
        return price

    @property
    def missing(self) -> tuple[PricedModel, ...]:
        """The models without a price."""
        return tuple(row for row in self.rows if row.price is None)

    @property
    def plan_prices(self) -> Prices:
        """The prices for a run's plan. A model without a price counts as free there."""
        default = self.llm("default") or FREE
        llm = {} if default == FREE else {"default": default}
        for row in self.rows:
            role = row.name.removeprefix("llm.")
            if row.name.startswith("llm.") and role != "default":
                own = self.llm(role) or FREE
                llm |= {} if own == default else {role: own}
        return Prices(llm=llm, render=self.each("render") or 0.0, score=self.each("score") or 0.0)

    def require_all(self) -> None:
        """ConfigError if a model has no price: a budget in USD would not count it."""
        if self.missing:
            rows = "; ".join(f"{row.model}: {row.remedy}" for row in self.missing)
            raise ConfigError(
                f"[budget] usd needs the price of every model, and some are not known. {rows}"
            )


def price_table(config: BigpeConfig) -> PriceTable:
    """The prices of the models that `config` names."""
    own = config.prices
    names = dict.fromkeys(("default", *config.llm, *own.llm))
    rows = [_llm_row(config, name, own.llm) for name in names]
    painter = _picture_row(
        "render", config.render.backend, config.render.model, own.render, OWN_RENDERERS
    )
    if painter.price is None and (listed := listed_picture(config.render)):
        painter = painter._replace(price=listed[0], source=listed[1])
    rows.append(painter)
    rows.append(
        _picture_row("score", config.score.backend, config.score.model, own.score, OWN_SCORERS)
    )
    return PriceTable(rows)


def run_prices(config: BigpeConfig) -> Prices:
    """The prices for the plan of a run. ConfigError if a budget in USD would miss a model."""
    table = price_table(config)
    if config.budget.usd:
        table.require_all()
    return table.plan_prices


def _llm_row(config: BigpeConfig, name: str, own: Mapping[str, LlmPrice]) -> PricedModel:
    model = config.llm_for(name)
    section = f"llm.{name}"
    if name in own:
        return PricedModel(section, model.model_name, own[name], OWN)
    if is_own(model):
        return PricedModel(section, model.model_name, FREE, HERE)
    found = listed_price(model)
    if found is None:
        return PricedModel(section, model.model_name, None, "")
    return PricedModel(section, model.model_name, found.price, found.source)


def _picture_row(
    name: str, backend: str, model: str, own: float | None, free: Sequence[str]
) -> PricedModel:
    if own is not None:
        return PricedModel(name, model, own, OWN)
    if backend in free:
        return PricedModel(name, model, 0.0, HERE)
    return PricedModel(name, model or backend, None, "")
