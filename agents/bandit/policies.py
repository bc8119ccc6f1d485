"""The bandit policies: which instruction to pull next, as pure functions of the pull history.

Rewards are gains divided by the noise of one gain, and n counts gains, not pulls. So exploration
depends neither on the scorer's units nor on the batch size.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from pydantic import Field, field_validator

from bigpe.agents.bandit.arm_view import Arm
from bigpe.agents.bandit.lineage import Lineage
from bigpe.services.core import plugins
from bigpe.services.core.errors import PluginError
from bigpe.services.core.values import Value, derive_seed

POLICIES = {
    "ucb1": "mean + sqrt(2 ln t / n)",
    "ucb-tuned": "ucb1 with the arm's own variance where it is small",
    "kl-ucb": "the highest probability of a win that the wins and losses allow",
    "thompson": "a draw from each arm's posterior (normal-inverse-gamma)",
    "epsilon-greedy": "the highest mean, or any arm with probability epsilon",
    "greedy": "the highest mean",
    "random": "any arm",
    "lineage": "the highest bound, where a child is expected to beat its parent",
    "paper": "mean + 0.8 sqrt(ln t / n) on scores x 100, as in arXiv 2406.08713",
}
"""The built-in policies with one-line descriptions."""
AUTO = "auto"
"""The policy that the reasoning style of a run prefers."""
DISPLAY = 100.0
"""Factor of displayed scores; the constants of the paper are on that scale."""
PAPER_EXPLORATION = 0.8


class PolicyConfig(Value):
    """`[policy]`: how the next instruction is chosen."""

    name: str = AUTO
    """One of `bigpe policies list`; "auto" is ucb1 in the evidence-worded style, else lineage."""
    exploration: float | None = Field(default=None, ge=0.0, le=100.0)
    """Multiplies the bonus of ucb1, ucb-tuned, lineage, paper (0.8), and kl-ucb's ln t; else 1."""
    epsilon: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of random pulls of epsilon-greedy."""
    options: dict[str, Any] = Field(default_factory=dict[str, Any])
    """`[policy.options]`: the options of a policy from another package."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return name if name == AUTO else plugins.require_known("policies", name, POLICIES)


class Policy(Protocol):
    """The rule that chooses the next arm. It has no state; all randomness comes from `rng`."""

    def select(self, arms: Sequence[Arm], scale: float, rng: random.Random) -> str:
        """Choose an arm.

        Args:
            arms: The active arms, at least one.
            scale: sigma, the standard deviation of one gain, score units; > 0.
            rng: The only source of randomness.

        Returns:
            The id of the arm to pull.
        """
        ...

    def upper_bound(self, arm: Arm, arms: Sequence[Arm], scale: float) -> float:
        """Upper bound of the arm's reward, in reward units of the policy.

        It is infinite for an arm without gains, had or expected, so that an arm whose pulls were
        lost is pulled again. The other arguments are those of `select`.
        """
        ...

    def reward(self, arm: Arm, scale: float) -> float:
        """Mean reward of an arm with gains, in the units of `upper_bound`."""
        ...


def selection_rng(run_seed: int, index: int) -> random.Random:
    """The random generator of selection number `index` of the run."""
    return random.Random(derive_seed(run_seed, "selection", index))


def _best(arms: Sequence[Arm], value: Callable[[Arm], float], rng: random.Random) -> str:
    """The arm with the highest value. Ties are broken at random, independent of the order."""
    top = max(value(arm) for arm in arms)
    return rng.choice(sorted(arm.id for arm in arms if value(arm) == top))


def _untried(arms: Sequence[Arm]) -> str | None:
    return next((arm.id for arm in arms if not arm.tried), None)


class _ByBound:
    """Pulls the arm with the highest upper bound; untried arms first, in order.

    A policy defines `_bound`, for an arm with gains, had or expected. The mean of such an arm is 0
    while no pull is finished.
    """

    def select(self, arms: Sequence[Arm], scale: float, rng: random.Random) -> str:
        """The highest bound; untried arms first, in order."""
        return _untried(arms) or _best(arms, lambda a: self.upper_bound(a, arms, scale), rng)

    def upper_bound(self, arm: Arm, arms: Sequence[Arm], scale: float) -> float:
        """See `Policy.upper_bound`."""
        return self._bound(arm, arms, scale) if arm.count else math.inf

    def _bound(self, arm: Arm, arms: Sequence[Arm], scale: float) -> float:
        return self.reward(arm, scale)

    def reward(self, arm: Arm, scale: float) -> float:
        """The mean gain in units of the noise of one gain."""
        return arm.mean / scale


def _gains(arms: Sequence[Arm]) -> int:
    """The t of the formulas: finished and expected gains of all arms; at least 2."""
    return max(sum(arm.count for arm in arms), 2)


@dataclass(frozen=True)
class Ucb1(_ByBound):
    """Mean reward + c sqrt(2 ln t / n) (Auer, Cesa-Bianchi & Fischer 2002, UCB1)."""

    exploration: float = 1.0

    def _bound(self, arm: Arm, arms: Sequence[Arm], scale: float) -> float:
        bonus = math.sqrt(2 * math.log(_gains(arms)) / arm.count)
        return arm.mean / scale + self.exploration * bonus


@dataclass(frozen=True)
class UcbTuned(_ByBound):
    """Mean + c sqrt(ln t / n min(1, V)), V = variance + 4 sqrt(2 ln t / n), of rewards.

    UCB1-Tuned (Auer, Cesa-Bianchi & Fischer 2002, section 4) is for rewards in [0, 1], whose
    variance is at most 1/4. Here the noise of one gain replaces that maximum: the result is their
    formula for rewards / 2, times 2.
    """

    exploration: float = 1.0

    def _bound(self, arm: Arm, arms: Sequence[Arm], scale: float) -> float:
        ease = math.log(_gains(arms)) / arm.count
        gains = arm.gains
        variance = gains.squares / scale**2 / gains.n if gains.n else 1.0
        allowed = min(1.0, variance + 4 * math.sqrt(2 * ease))
        return arm.mean / scale + self.exploration * math.sqrt(ease * allowed)


@dataclass(frozen=True)
class KlUcb(_ByBound):
    """The largest probability q of a win with n kl(share of wins, q) <= c ln t.

    KL-UCB for Bernoulli rewards (Garivier & Cappe 2011, without the ln ln t term, as they advise in
    practice). A gain above 0 is a win; a gain of 0 is half a win. The size of a gain has no effect.
    """

    exploration: float = 1.0

    def _bound(self, arm: Arm, arms: Sequence[Arm], scale: float) -> float:
        """A probability; 1 while no pull is finished."""
        if not arm.gains.n:
            return 1.0
        allowed = self.exploration * math.log(_gains(arms)) / arm.count
        share = self.reward(arm, scale)
        low, high = share, 1.0
        while high - low > 1e-9:
            middle = (low + high) / 2
            if _divergence(share, middle) <= allowed:
                low = middle
            else:
                high = middle
        return high

    def reward(self, arm: Arm, scale: float) -> float:
        """The share of wins; `scale` has no effect."""
        return arm.gains.wins / arm.gains.n


def _divergence(p: float, q: float) -> float:
    """Kullback-Leibler divergence of Bernoulli(q) from Bernoulli(p) for 0 < q < 1, nats."""
    won = p * math.log(p / q) if p > 0 else 0.0
    return won + ((1 - p) * math.log((1 - p) / (1 - q)) if p < 1 else 0.0)


@dataclass(frozen=True)
class Thompson(_ByBound):
    """The arm with the highest mean, each drawn from its posterior (Thompson 1933).

    Rewards are normal with unknown mean and variance. The conjugate prior is normal-inverse-gamma
    (Murphy 2007, "Conjugate Bayesian analysis of the Gaussian distribution", section 6). It weighs
    as much as one gain of 0 with the variance of the noise. Pending gains narrow the posterior as
    if they equalled the mean.
    """

    def select(self, arms: Sequence[Arm], scale: float, rng: random.Random) -> str:
        """The highest draw; before it untried arms in order, then arms whose pulls were lost."""
        if untried := _untried(arms):
            return untried
        if unknown := sorted(arm.id for arm in arms if not arm.count):
            return rng.choice(unknown)
        drawn: dict[str, float] = {}
        for arm in sorted(arms, key=lambda arm: arm.id):  # draws must not depend on the order
            posterior = _posterior(arm, scale)
            variance = posterior.rate / rng.gammavariate(posterior.shape, 1.0)
            drawn[arm.id] = rng.gauss(posterior.mean, math.sqrt(variance / posterior.weight))
        return max(drawn, key=lambda id: drawn[id])

    def _bound(self, arm: Arm, arms: Sequence[Arm], scale: float) -> float:
        """Posterior mean + 2 posterior standard deviations, in units of the noise of one gain."""
        posterior = _posterior(arm, scale)
        return posterior.mean + 2 * math.sqrt(
            posterior.rate / (posterior.shape - 1) / posterior.weight
        )


class _Posterior(NamedTuple):
    """Posterior of the mean: normal(mean, variance / weight), variance ~ IG(shape, rate)."""

    mean: float
    weight: float
    shape: float
    rate: float


def _posterior(arm: Arm, scale: float) -> _Posterior:
    n, centre, spread = arm.gains.n, arm.gains.mean / scale, arm.gains.squares / scale**2
    # Prior: mean 0, count 1, shape 2, rate 1. Its expected variance equals that of the noise.
    return _Posterior(
        mean=n * centre / (1 + n),
        weight=1 + n + arm.pending_gains,
        shape=2 + n / 2,
        rate=1 + spread / 2 + n * centre**2 / (2 * (1 + n)),
    )


@dataclass(frozen=True)
class Paper(_ByBound):
    """Mean + c sqrt(ln t / n) on scores x 100; n and t count pulls at selection (arXiv 2406.08713).

    Unlike the paper's code, it does not count arms that were only considered.
    """

    exploration: float = PAPER_EXPLORATION

    def _bound(self, arm: Arm, arms: Sequence[Arm], scale: float) -> float:
        """The bound in score x 100; `scale` has no effect."""
        n = arm.finished_pulls + arm.pending_pulls
        t = max(sum(a.finished_pulls + a.pending_pulls for a in arms), 2)
        return DISPLAY * arm.mean + self.exploration * math.sqrt(math.log(t) / n)

    def reward(self, arm: Arm, scale: float) -> float:
        """The mean gain, score x 100."""
        return DISPLAY * arm.mean


@dataclass(frozen=True)
class Greedy(_ByBound):
    """The highest mean; untried arms first."""


@dataclass(frozen=True)
class EpsilonGreedy(_ByBound):
    """Greedy, but a uniformly random arm with probability epsilon."""

    epsilon: float = 0.1

    def select(self, arms: Sequence[Arm], scale: float, rng: random.Random) -> str:
        """See the class."""
        if rng.random() < self.epsilon:
            return rng.choice(sorted(arm.id for arm in arms))
        return super().select(arms, scale, rng)


@dataclass(frozen=True)
class Random(_ByBound):
    """A uniformly random arm."""

    def select(self, arms: Sequence[Arm], scale: float, rng: random.Random) -> str:
        """See the class."""
        return rng.choice(sorted(arm.id for arm in arms))


def make_policy(config: PolicyConfig) -> Policy:
    """The policy of the configuration, built in or from an installed package.

    "auto" is ucb1 here: the plan of a run names the policy that its style prefers.

    Raises ConfigError if the policy of a package cannot be made.
    """
    exploring = {} if config.exploration is None else {"exploration": config.exploration}
    match config.name:
        case "ucb1" | "auto":
            return Ucb1(**exploring)
        case "ucb-tuned":
            return UcbTuned(**exploring)
        case "kl-ucb":
            return KlUcb(**exploring)
        case "thompson":
            return Thompson()
        case "paper":
            return Paper(**exploring)
        case "epsilon-greedy":
            return EpsilonGreedy(config.epsilon)
        case "greedy":
            return Greedy()
        case "lineage":
            return Lineage(**exploring)
        case "random":
            return Random()
        case name:
            return _Foreign(name, plugins.make("policies", name, config))


class _Foreign:
    """A policy of another package; its exceptions and invalid results become PluginErrors."""

    def __init__(self, name: str, policy: Any) -> None:
        self._name = name
        self._policy = policy

    def select(self, arms: Sequence[Arm], scale: float, rng: random.Random) -> str:
        chosen = self._ask("select", arms, scale, rng)
        if chosen not in {arm.id for arm in arms}:
            raise self._error(f"it chose {chosen!r}, which is no arm")
        return chosen

    def upper_bound(self, arm: Arm, arms: Sequence[Arm], scale: float) -> float:
        return self._number("upper_bound", arm, arms, scale)

    def reward(self, arm: Arm, scale: float) -> float:
        return self._number("reward", arm, scale)

    def _number(self, method: str, *given: Any) -> float:
        found = self._ask(method, *given)
        if not isinstance(found, float | int) or math.isnan(found):
            raise self._error(f"its {method} returned {found!r}, which is no number")
        return float(found)

    def _ask(self, method: str, *given: Any) -> Any:
        try:
            return getattr(self._policy, method)(*given)
        except Exception as error:
            raise self._error(f"{type(error).__name__}: {error}") from error

    def _error(self, cause: str) -> PluginError:
        return PluginError(
            f"the policy {self._name!r} of another package failed: {cause}; fix it, then run "
            "`bigpe resume`: nothing is lost"
        )
