"""Budgets: never passed, counted by who answers; a stop that costs nothing when they are raised."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples

from bigpe.agents.campaign.budget import forecast
from bigpe.agents.messages.core import (
    CritiqueRequested,
    GradientsComputed,
    InstructionsProposed,
    Message,
    PlanChanged,
    PromptsRewritten,
    ProposalRequested,
    RenderRequested,
    RewriteRequested,
    RunStopped,
    StepFailed,
)
from bigpe.agents.messages.usage import RESOURCES, Limits, Prices, Resource, Usage, amount
from bigpe.services.core.values import LlmUsage, digest
from bigpe.testing import campaigns
from bigpe.testing.campaigns import bodies, change, drive, go_on, plan

PRICES = {
    "llm": {
        "default": {"prompt": 1.0, "completion": 4.0},
        "generator": {"prompt": 2.0, "completion": 4.0},
    },
    "render": 0.0001,
    "score": 0.00001,
}
MOST = {"renders": 90, "scores": 90, "llm_calls": 90, "tokens": 20_000, "usd": 0.06}
COUNTED = ("renders", "scores", "llm_calls")


class Models:
    """Answers as the models would, and counts the calls of them: each picture is paid once."""

    def __init__(self, fail_share: float = 0.0) -> None:
        self.paid = Usage()
        self.rounds: dict[int, Usage] = {}
        self._fail_share = fail_share
        self._painted: set[tuple[str, int]] = set()

    def __call__(self, message: Message) -> Message | None:
        match message:
            case RenderRequested():
                return self._paint(message)
            case RewriteRequested():
                calls = sum(self._tries(message, t.naive) for t in message.tasks)
                return self._said(message, PromptsRewritten, "generator", calls)
            case CritiqueRequested():
                return self._said(message, GradientsComputed, "gradient", self._tries(message, "c"))
            case ProposalRequested():
                calls = self._tries(message, "p") - 1
                return self._said(message, InstructionsProposed, "modifier", calls)
            case _:
                return None

    def _tries(self, message: Message, place: str) -> int:
        most = 3 if isinstance(message, RewriteRequested) else 2
        return 1 + int(digest([message.mid, place]), 16) % most

    def _said(self, message: Message, kind: type[Message], role: str, calls: int) -> Message:
        used = LlmUsage(calls=calls, prompt_tokens=90 * calls, completion_tokens=20 * calls)
        self._pay(message.round, Usage(llm={role: used}))
        sent = campaigns.answer(message)
        assert isinstance(sent, kind)
        return sent.model_copy(update={"usage": used})

    def _paint(self, message: RenderRequested) -> Message | None:
        lot = random.Random(message.mid).random()
        fails = message.round > 0 and lot < self._fail_share
        scoring_fails = lot > self._fail_share / 2
        key = (message.prompt, message.seed)
        if key not in self._painted:
            # A scorer's failure comes after the picture was made.
            scored = not fails or scoring_fails
            self._pay(message.round, Usage(renders=1, scores=int(scored)))
        if not fails:
            self._painted.add(key)
            return campaigns.answer(message)
        return StepFailed.make(
            message,
            message.mid,
            step=message.mid,
            step_kind="ScoreRequested" if scoring_fails else "RenderRequested",
            actor="x",
            error="ServiceError",
            cause="it broke",
            attempt=1,
            will_retry=False,
            scope=message.failure_scope().model_copy(update={"rendered": scoring_fails}),
        )

    def _pay(self, round: int, used: Usage) -> None:
        self.paid += used
        self.rounds[round] = self.rounds.get(round, Usage()) + used


PRICED = Prices.model_validate(PRICES)


@given(
    resource=st.sampled_from(RESOURCES),
    share=st.floats(0.0, 1.0),
    concurrency=st.integers(1, 4),
    order=st.integers(0, 2**16),
    fail_share=st.sampled_from([0.0, 0.2]),
)
@examples(60)
def test_a_budget_is_never_passed(
    resource: Resource, share: float, concurrency: int, order: int, fail_share: float
) -> None:
    limit = MOST[resource] * share + 1e-6 if resource == "usd" else 1 + int(MOST[resource] * share)
    models = Models(fail_share)
    wanted = plan(rounds=25, concurrency=concurrency, prices=PRICES, limits={resource: limit})
    campaign, _, _ = drive(wanted, random.Random(order), models)
    assert campaign.stopped is not None
    if campaign.applied < 25 and "in a row" not in campaign.stopped.reason:
        assert f"raise [budget] {resource} to go on" in campaign.stopped.reason
    over = amount(models.paid, resource, PRICED) - limit
    if resource in COUNTED:
        assert over <= 0
    else:
        # What a round's tokens are is learnt by trying: the first alone, then by the dearest.
        dear = [amount(used, resource, PRICED) for used in models.rounds.values()]
        assert over <= sum(sorted(dear)[-concurrency:])
        assert campaign.applied > 1 or over <= max(dear, default=0.0)
    for each in RESOURCES:
        counted = amount(campaign.used, each, PRICED)
        assert counted >= amount(models.paid, each, PRICED) * (1 - 1e-9)


@given(order=st.integers(0, 2**16), concurrency=st.integers(1, 4))
@examples(15)
def test_what_is_counted_is_what_the_models_did(order: int, concurrency: int) -> None:
    models = Models()
    wanted = plan(rounds=9, concurrency=concurrency, prices=PRICES)
    campaign, messages, _ = drive(wanted, random.Random(order), models)
    assert campaign.applied == 9
    # Rounds of equal arms are withheld beyond the last one, and cost nothing.
    assert campaign.used == models.paid
    requests = {(m.prompt, m.seed) for m in messages if isinstance(m, RenderRequested)}
    assert campaign.used.renders == len(requests)


@given(
    resource=st.sampled_from([*RESOURCES, "rounds"]),
    share=st.floats(0.0, 0.9),
    concurrency=st.integers(1, 4),
    orders=st.tuples(st.integers(0, 2**16), st.integers(0, 2**16), st.integers(0, 2**16)),
)
@examples(50)
def test_raising_a_limit_gives_the_run_that_had_it_from_the_start(
    resource: str, share: float, concurrency: int, orders: tuple[int, int, int]
) -> None:
    free, request, _ = drive(
        plan(rounds=12, concurrency=concurrency, prices=PRICES), random.Random(orders[0]), Models()
    )
    models = Models()
    if resource == "rounds":
        wanted = plan(rounds=1 + int(11 * share), concurrency=concurrency, prices=PRICES)
    else:
        most = amount(free.used, resource, PRICED)
        limit = most * share + 1e-6 if resource == "usd" else 1 + int(most * share)
        wanted = plan(rounds=12, concurrency=concurrency, prices=PRICES, limits={resource: limit})
    stopped, messages, _ = drive(wanted, random.Random(orders[1]), models)
    assert stopped.stopped is not None
    raised = change(stopped, rounds=12, limits={})
    more, _ = go_on(stopped, raised, random.Random(orders[2]), models)
    kept = [m for m in (*messages, *more) if not isinstance(m, RunStopped)]
    assert bodies(kept) == bodies([m for m in request if not isinstance(m, RunStopped)])
    assert len(bodies([*messages, *more])) == len(messages) + len(more), (
        "no message id is used twice"
    )
    assert stopped.stopped.reason == free.stopped.reason


@given(concurrency=st.integers(1, 4), orders=st.tuples(st.integers(), st.integers()))
@examples(20)
def test_a_budget_ends_a_run_at_the_same_round_in_any_order(
    concurrency: int, orders: tuple[int, int]
) -> None:
    wanted = plan(rounds=40, concurrency=concurrency, prices=PRICES, limits={"usd": 0.03})
    ends = [drive(wanted, random.Random(o), Models())[0].stopped for o in orders]
    assert ends[0] == ends[1] and ends[0] is not None and "usd" in ends[0].reason


def test_a_limit_that_is_raised_too_little_stops_the_run_again() -> None:
    models = Models()
    campaign, _, _ = drive(plan(limits={"renders": 20}), random.Random(1), models)
    first = campaign.stopped
    assert first is not None and "budget of 20 renders" in first.reason
    little = campaign.used.renders + 1
    raised = change(campaign, limits={"renders": little})
    messages, _ = go_on(campaign, raised, random.Random(1), models)
    assert f"budget of {little} renders" in campaign.stopped.reason
    assert [m.kind for m in messages] == ["RunStopped"] and messages[0].mid != first.mid


def test_a_budget_too_small_for_the_pilot_paints_nothing() -> None:
    models = Models()
    campaign, messages, _ = drive(plan(limits={"renders": 5}), random.Random(1), models)
    assert models.paid == Usage() and [m.kind for m in messages] == ["RunStopped"]
    assert campaign.stopped is not None and "allows no pilot" in campaign.stopped.reason
    go_on(campaign, change(campaign, limits={}), random.Random(1), models)
    assert campaign.stopped.reason == "all 8 rounds are done"


def test_a_change_is_a_part_of_what_is_replayed() -> None:
    models = Models()
    campaign, messages, heard = drive(plan(rounds=3), random.Random(1), models)
    more, later = go_on(campaign, change(campaign, rounds=5), random.Random(1), models)
    assert isinstance(later[0], PlanChanged) and campaign.applied == 5
    again = campaigns.Campaign()
    repeated = [m for message in (*heard, *later) for m in again.apply(message)]
    assert bodies(repeated) == bodies([*messages, *more])


def test_failed_calls_count() -> None:
    models = Models()
    lost = LlmUsage(calls=4, prompt_tokens=50)

    def reply(message: Message) -> Message | None:
        if not isinstance(message, CritiqueRequested):
            return models(message)
        return StepFailed.make(
            message,
            message.mid,
            step=message.mid,
            step_kind=message.kind,
            actor="gradient",
            error="LlmError",
            cause="it broke",
            attempt=4,
            will_retry=False,
            scope=message.failure_scope(),
            usage=lost,
        )

    campaign, _, _ = drive(plan(rounds=2), random.Random(3), reply)
    assert campaign.used.llm["gradient"] == lost + lost


def test_prices_that_are_mended_hold_for_what_was_used_before() -> None:
    models = Models()
    campaign, _, _ = drive(plan(rounds=2, prices=PRICES), random.Random(3), models)
    dear = campaign.plan.prices.usd(campaign.used)
    go_on(campaign, change(campaign, prices={"render": 0.5}), random.Random(3), models)
    assert dear == pytest.approx(PRICED.usd(models.paid))
    assert campaign.plan.prices.usd(campaign.used) == 0.5 * models.paid.renders


def test_roles_of_any_name_have_a_price() -> None:
    prices = Prices.model_validate({"llm": {"reviewer": {"prompt": 3.0}, "default": {"prompt": 1}}})
    million = LlmUsage(calls=1, prompt_tokens=1_000_000)
    assert prices.of_llm("reviewer", million) == 3.0
    assert prices.of_llm("historian", million) == 1.0


def test_a_forecast_ends_at_the_first_limit() -> None:
    used = Usage(renders=40, scores=40, llm={"generator": LlmUsage(calls=8, prompt_tokens=800)})
    assert forecast(used, 0, 10, Limits(), Prices()) is None
    free = forecast(used, 4, 10, Limits(), Prices())
    assert free is not None and (free.rounds, free.limit) == (10, None)
    assert free.used["renders"] == 100 and free.used["tokens"] == 2000
    painted_before = forecast(used, 4, 10, Limits(), Prices(), pilot=20)
    assert painted_before is not None and painted_before.used["renders"] == 20 + 5 * 10
    tight = forecast(used, 4, 10, Limits(renders=70, tokens=1000), Prices())
    assert tight is not None and (tight.rounds, tight.limit) == (5, "tokens")
