"""The campaign: the same run whatever the order in which results arrive, live or replayed."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples

from bigpe.agents.campaign.campaign import Campaign
from bigpe.agents.messages.core import (
    ArmPulled,
    CritiqueRequested,
    Message,
    PoolChanged,
    PromptsRewritten,
    RenderRequested,
    RewriteRequested,
    RunStopped,
    StepFailed,
    StopRequested,
    parse_message,
    start_run,
)
from bigpe.testing.campaigns import answer, answer_anew, bodies, drive, plan


@examples(25)
@given(order=st.integers(0, 10**6), concurrency=st.integers(1, 4))
def test_a_run_does_not_depend_on_the_order_of_arrival(order: int, concurrency: int) -> None:
    wanted = plan(concurrency=concurrency)
    _, messages, _ = drive(wanted, random.Random(0))
    _, other, _ = drive(wanted, random.Random(order))
    assert bodies(messages) == bodies(other)
    assert len(bodies(messages)) == len(messages), "no message id is used twice"


@examples(10)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 5), each=st.integers(1, 2))
def test_every_instruction_meets_the_prompts_in_one_order(seed: int, batch: int, each: int) -> None:
    wanted = plan(seed=seed, batch_size=batch, seeds_per_prompt=each, rounds=20)
    _, messages, _ = drive(wanted, random.Random(0))
    met: dict[str, list[tuple[str, int]]] = {}
    for request in sorted(
        (m for m in messages if isinstance(m, RewriteRequested)), key=lambda m: m.round
    ):
        requests = [(task.naive, task.image_seed) for task in request.tasks]
        met.setdefault(request.instruction.id, []).extend(requests)
    longest = max(met.values(), key=len)
    assert all(longest[: len(requested)] == requested for requested in met.values())
    assert len(set(longest)) == len(longest), "a picture is compared once"
    first = [naive for naive, _ in longest[: len(wanted.train) * each]]
    assert all(first.count(naive) == each for naive in first), "all prompts before one again"


def test_gradients_are_asked_for_where_a_newcomer_is_due() -> None:
    _, messages, _ = drive(plan(rounds=120), random.Random(0), answer_anew)
    pulled = {m.round: m.wants_gradient for m in messages if isinstance(m, ArmPulled) and m.gains}
    requests = {m.round for m in messages if isinstance(m, CritiqueRequested)}
    admitted = {m.round for m in messages if isinstance(m, PoolChanged) and m.admitted}
    assert len(pulled) == 120 and requests == {
        index for index, wants_gradient in pulled.items() if wants_gradient
    }
    assert len(requests) < 120
    assert len(admitted) > 45, "and newcomers come in as often as they may"


def test_the_papers_policy_asks_for_gradients_in_every_round() -> None:
    _, messages, _ = drive(plan(rounds=60, policy={"name": "paper"}), random.Random(0))
    assert sum(isinstance(m, CritiqueRequested) for m in messages) == 60


@examples(25)
@given(order=st.integers(0, 10**6), cut=st.floats(0, 1))
def test_replaying_what_was_heard_rebuilds_the_state(order: int, cut: float) -> None:
    wanted = plan(concurrency=2)
    _, messages, heard = drive(wanted, random.Random(order))
    upto = int(cut * len(heard))
    campaign = Campaign()
    again: list[Message] = []
    for message in heard[:upto]:
        again += campaign.apply(parse_message(message.model_dump_json()))
    resumed = list(again)
    for message in heard[upto:]:
        resumed += campaign.apply(message)
    assert bodies(resumed) == bodies(messages)


@examples(30)
@given(order=st.integers(0, 10**6), cut=st.floats(0, 1), concurrency=st.integers(1, 4))
def test_a_run_goes_on_from_a_snapshot_as_from_a_replay(
    order: int, cut: float, concurrency: int
) -> None:
    wanted = plan(concurrency=concurrency, rounds=14)
    kinds = {"RenderRequested", "CritiqueRequested"}
    _, messages, heard = drive(wanted, random.Random(order), failing(kinds, 0.03))
    upto = int(cut * len(heard))
    campaign, silent = Campaign(), Campaign()
    before: list[Message] = []
    for message in heard[:upto]:
        before += campaign.apply(message)
        silent.replay(message)
    restored = Campaign.restore(campaign.snapshot())
    assert restored == campaign, "a snapshot holds all of the state"
    for message in heard[upto:]:
        parsed = parse_message(message.model_dump_json())
        result = restored.apply(parsed)
        assert result == campaign.apply(parsed)
        assert [m for m in result if m.round] == [m for m in silent.apply(parsed) if m.round]
        before += result
    assert bodies(before) == bodies(messages)
    assert Campaign.restore(restored.snapshot()) == restored


def test_a_long_run_looks_back_on_its_newest_comparisons_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bigpe.agents.evidence.comparison_window.WINDOW", 12)
    campaign, messages, _ = drive(plan(rounds=20, concurrency=3), random.Random(3))
    assert campaign.applied == 20 and 12 <= len(campaign.pairs) <= 12 + 3 * 4
    _, other, _ = drive(plan(rounds=20, concurrency=3), random.Random(4))
    assert bodies(messages) == bodies(other), "the order of arrival decides nothing"
    rows = [row for m in messages if isinstance(m, CritiqueRequested) for row in m.rows]
    assert rows and max(row.n for row in rows) <= 12 + 3 + 1


EARLY, LATE = range(181, 201), range(781, 801)
"""Twenty rounds each: a round in flight that asks for gradients is told at greater length."""


RETIRED_BYTES = 1_200
"""Of a retired instruction in a snapshot; its text and exemplars are most of it."""


@pytest.mark.parametrize("policy", ["ucb1", "paper"])
def test_a_snapshot_grows_by_the_records_of_admitted_instructions_alone(
    monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    monkeypatch.setattr("bigpe.agents.evidence.comparison_window.WINDOW", 30)
    monkeypatch.setattr("bigpe.agents.campaign.budget.REMEMBERED", 100)
    monkeypatch.setattr("bigpe.agents.campaign.round.fit_evidence_table", lambda *_, **__: ())
    campaign, sizes, admitted = Campaign(), dict[int, int](), 0
    wanted = plan(rounds=800, concurrency=2, policy={"name": policy})
    waiting: list[Message] = [start_run("r", wanted)]
    order = random.Random(8)
    while waiting:
        for message in campaign.apply(waiting.pop(order.randrange(len(waiting)))):
            waiting += [a] if (a := answer_anew(message)) is not None else []
            if isinstance(message, PoolChanged):
                admitted += len(message.admitted)
                if message.round in EARLY or message.round in LATE:
                    sizes[message.round] = len(campaign.snapshot())
                    assert Campaign.restore(campaign.snapshot()) == campaign
    assert admitted > 50 and len(campaign.pool.rows()) == admitted + len(wanted.instructions)
    early, late = (max(sizes[n] for n in rounds) for rounds in (EARLY, LATE))
    assert late < 1.1 * early + RETIRED_BYTES * admitted


def test_a_run_ends_with_a_reason_and_every_round_settled() -> None:
    campaign, messages, _ = drive(plan(concurrency=3), random.Random(1))
    rounds = [m.round for m in messages if isinstance(m, PoolChanged)]
    assert rounds == list(range(1, 9))
    assert isinstance(messages[-1], RunStopped) and "8 rounds" in messages[-1].reason
    assert campaign.stopped is messages[-1]


def test_the_better_instruction_wins() -> None:
    campaign, _, _ = drive(plan(rounds=30), random.Random(2))
    assert "golden" in campaign.pool.best().instruction.text


def test_naive_pictures_are_shared_by_all_arms() -> None:
    _, messages, _ = drive(plan(rounds=20), random.Random(3))
    naive = [m for m in messages if isinstance(m, RenderRequested) and m.purpose == "naive"]
    seeds = {(m.naive, m.seed) for m in naive}
    assert len(seeds) < len(naive)


def test_a_comparison_is_never_repeated() -> None:
    _, messages, _ = drive(plan(rounds=30, train=("a x", "a y", "a z")), random.Random(4))
    pulls = [
        (m.instruction.id, t.naive, t.image_seed, t.llm_seed)
        for m in messages
        if isinstance(m, RewriteRequested)
        for t in m.tasks
    ]
    assert len(set(pulls)) == len(pulls)


def test_professional_prompts_join_the_contrast_at_the_same_seed() -> None:
    campaign, _, _ = drive(plan(rounds=12), random.Random(5))
    professional = [pair for pair in campaign.pairs if pair.arm == "professional"]
    assert professional and all(pair.naive == "a thing3" for pair in professional)


def failing(kinds: set[str], share: float) -> Callable[[Message], Message | None]:
    """Like `answer`, but some steps of these kinds fail."""

    def reply(message: Message) -> Message | None:
        unlucky = random.Random(message.mid).random() < share
        if message.kind not in kinds or not unlucky:
            return answer(message)
        return StepFailed.make(
            message,
            message.mid,
            step=message.mid,
            step_kind=message.kind,
            actor="x",
            error="ServiceError",
            cause="it broke",
            attempt=1,
            will_retry=False,
            scope=message.failure_scope(),
        )

    return reply


@pytest.mark.parametrize(
    "kind", ["RewriteRequested", "RenderRequested", "CritiqueRequested", "ProposalRequested"]
)
def test_a_failed_step_is_missing_data_and_the_run_goes_on(kind: str) -> None:
    campaign, messages, _ = drive(plan(), random.Random(6), failing({kind}, 0.3))
    assert campaign.stopped is not None and campaign.applied == 8
    for pulled in (m for m in messages if isinstance(m, ArmPulled)):
        assert len(pulled.gains) + pulled.missing == 3
        assert all(gain.gain != 0 for gain in pulled.gains), "a failure is never a gain of 0"


def test_a_run_without_any_result_stops_and_says_why() -> None:
    def only_pilot(message: Message) -> Message | None:
        if message.round == 0:
            return answer(message)
        return failing({"RenderRequested"}, 1.1)(message)

    campaign, _, _ = drive(plan(), random.Random(7), only_pilot)
    assert campaign.stopped is not None
    assert "no result" in campaign.stopped.reason and "it broke" in campaign.stopped.reason


def test_a_failed_pilot_stops_the_run() -> None:
    campaign, _, _ = drive(plan(), random.Random(8), failing({"RenderRequested"}, 1.1))
    assert campaign.stopped is not None and "pilot" in campaign.stopped.reason
    assert campaign.failed


def test_a_stop_that_comes_before_the_run_has_begun_holds() -> None:
    begun = start_run("r", plan())
    stop = StopRequested.make(begun, reason="no time is left")
    campaign = Campaign()
    assert campaign.apply(stop) == []
    (stopped,) = campaign.apply(begun)
    assert isinstance(stopped, RunStopped) and stopped.reason == "no time is left"
    assert not campaign.failed


def test_fallbacks_count_as_no_gain() -> None:
    def reply(message: Message) -> Message | None:
        messages = answer(message)
        if isinstance(messages, PromptsRewritten):
            kept = tuple(
                r.model_copy(update={"text": r.naive, "fallback": "refused"})
                for r in messages.rewrites
            )
            return messages.model_copy(update={"rewrites": kept})
        return messages

    _, sent, _ = drive(plan(), random.Random(9), reply)
    pulls = [m for m in sent if isinstance(m, ArmPulled)]
    assert pulls and all(g.gain == 0 and g.fallback for m in pulls for g in m.gains)
    assert not [m for m in sent if isinstance(m, RenderRequested) and m.purpose == "rewrite"]


def test_patience_ends_a_run_that_no_longer_improves() -> None:
    campaign, _, _ = drive(plan(rounds=500, patience=6), random.Random(11))
    assert campaign.applied < 500
    assert campaign.stopped is not None and "has not risen" in campaign.stopped.reason
