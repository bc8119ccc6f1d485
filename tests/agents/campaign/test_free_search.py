"""The search of a style that reasons: fresh batches, several proposals, no idle gradient."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples

from bigpe.agents.campaign.campaign import Campaign
from bigpe.agents.messages.core import (
    ArmPulled,
    CritiqueRequested,
    InstructionsProposed,
    Message,
    ProposalRequested,
    RewriteRequested,
    parse_message,
    start_run,
)
from bigpe.agents.messages.plan import CampaignPlan
from bigpe.testing.campaigns import answer_anew, bodies, change, drive, go_on, plan


def free(**changes: Any) -> CampaignPlan:
    usual: dict[str, Any] = {
        "style": "free-form",
        "policy": {"name": "lineage"},
        "batches": "fresh",
        "proposals": 2,
        "batch_size": 4,
        "pool_size": 4,
    }
    return plan(**usual | changes)


def several(message: Message) -> Message | None:
    """`answer_anew` with an instruction for each operator of the round."""
    found = answer_anew(message)
    if not isinstance(found, InstructionsProposed) or not isinstance(message, ProposalRequested):
        return found
    if message.search is None:
        return found
    (usual,) = found.proposals
    proposals = tuple(
        usual.model_copy(
            update={
                "operator": operator,
                "instruction": usual.instruction.model_copy(
                    update={"text": f"{usual.instruction.text} By {operator}, {index}."}
                ),
            }
        )
        for index, operator in enumerate(message.search.operators)
    )
    return found.model_copy(update={"proposals": proposals})


def batches(messages: list[Message]) -> dict[int, list[tuple[str, int]]]:
    requests = (m for m in messages if isinstance(m, RewriteRequested))
    return {m.round: [(t.naive, t.image_seed) for t in m.tasks] for m in requests}


@pytest.mark.parametrize("concurrency", [1, 3])
def test_the_order_of_arrival_decides_nothing(concurrency: int) -> None:
    wanted = free(concurrency=concurrency, rounds=10)
    _, messages, _ = drive(wanted, random.Random(0), several)
    for order in (1, 2):
        _, other, _ = drive(wanted, random.Random(order), several)
        assert bodies(messages) == bodies(other)


@examples(6)
@given(cut=st.floats(0, 1), concurrency=st.sampled_from([1, 3]))
def test_a_run_goes_on_from_a_snapshot(cut: float, concurrency: int) -> None:
    _, messages, heard = drive(free(concurrency=concurrency), random.Random(1), several)
    upto = int(cut * len(heard))
    campaign, sent = Campaign(), list[Message]()
    for message in heard[:upto]:
        sent += campaign.apply(message)
    restored = Campaign.restore(campaign.snapshot())
    assert restored == campaign
    for message in heard[upto:]:
        sent += restored.apply(parse_message(message.model_dump_json()))
    assert bodies(sent) == bodies(messages)


@examples(8)
@given(
    concurrency=st.integers(1, 3), batch=st.integers(1, 6), each=st.integers(1, 2),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_half_of_a_fresh_batch_is_new_until_all_prompts_were_used(
    concurrency: int, batch: int, each: int, seed: int
) -> None:
    wanted = free(
        concurrency=concurrency, batch_size=batch, seeds_per_prompt=each, seed=seed, rounds=9
    )
    _, messages, _ = drive(wanted, random.Random(0), several)
    found = [batches(messages)[index] for index in range(1, 10)]
    places = [[naive for naive, _ in tasks[::each]] for tasks in found]
    used, fresh = set[str](), max(1, batch // 2)
    for index, naive in enumerate(places):
        assert len(set(naive)) == batch
        if index and index % concurrency:
            assert naive == places[index - 1], "overlapping rounds have equal prompts"
        elif index:
            assert naive[:-fresh] == places[index - 1][fresh:]
            new = set(naive) - used
            assert len(new) == min(fresh, len(wanted.train) - len(used))
        used |= set(naive)
    pulls = [(m.instruction.id, t.naive, t.image_seed) for m in messages
             if isinstance(m, RewriteRequested) for t in m.tasks]  # fmt: skip
    assert len(set(pulls)) == len(pulls), "no comparison is repeated"


@pytest.mark.parametrize("concurrency", [1, 2, 3])
def test_no_gradient_is_requested_that_no_round_could_use(concurrency: int) -> None:
    campaign, messages, _ = drive(free(concurrency=concurrency), random.Random(0), several)
    asking = {m.round for m in messages if isinstance(m, ArmPulled) and m.wants_gradient}
    assert asking == set(range(1, 9 - concurrency))
    requests = [m.round for m in messages if isinstance(m, CritiqueRequested)]
    assert set(requests) <= asking
    tallies = campaign.operators.choice.tallies.values()
    assert sum(tally.won + tally.lost for tally in tallies) <= 2 * len(requests)
    more, _ = go_on(campaign, change(campaign, rounds=16), random.Random(0), several)
    again = {m.round for m in more if isinstance(m, ArmPulled) and m.wants_gradient}
    assert campaign.applied == 16 and again == set(range(9, 17 - concurrency))


def test_other_readers_of_gradients_get_those_of_the_last_round() -> None:
    worded = free(style="evidence-worded", proposals=1)
    _, messages, _ = drive(worded, random.Random(0), several)
    assert max(m.round for m in messages if isinstance(m, CritiqueRequested)) == 8
    campaign = Campaign()
    campaign.apply(start_run("r", free(rounds=1, contributors=("critic",))))
    assert campaign.wants_gradient(1)


def test_the_operators_of_a_gradient_differ() -> None:
    _, messages, _ = drive(free(improvements=2, rounds=12), random.Random(0), answer_anew)
    requests = [m for m in messages if isinstance(m, ProposalRequested)]
    assert requests
    for request in requests:
        assert request.search is not None and len(request.search.operators) == 4
        for pair in (request.search.operators[:2], request.search.operators[2:]):
            assert len(set(pair)) == 2
