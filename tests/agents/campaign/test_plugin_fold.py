"""Gates, contributors and observers in the fold: in any order of arrival, and replayed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples

from bigpe.agents.campaign.campaign import Campaign
from bigpe.agents.campaign.plugin_state import items_of
from bigpe.agents.messages.core import (
    CritiqueRequested,
    Gradient,
    GradientsComputed,
    InstructionsProposed,
    Message,
    PoolChanged,
    PromptsRewritten,
    ProposalRequested,
    RunStopped,
    StepFailed,
    parse_message,
    start_run,
)
from bigpe.agents.messages.plan import CampaignPlan
from bigpe.agents.messages.plugin import (
    GateDecided,
    GateRule,
    Judgement,
    ReviewRequested,
    RoleReported,
    RolesChanged,
)
from bigpe.services.core.values import LlmUsage
from bigpe.testing.campaigns import answer, bodies, drive, plan

ONE_CALL = LlmUsage(calls=1, prompt_tokens=10, completion_tokens=5)
Reply = Callable[[Message], list[Message]]
quick = examples(25, derandomize=True)


def failed(cause: Message, actor: str) -> StepFailed:
    return StepFailed.make(
        cause, f"{actor}/{cause.mid}", step=cause.mid, step_kind=cause.kind, actor=actor,
        error="RoleError", cause="it broke", attempt=1, will_retry=False,
        scope=cause.failure_scope(),
    )  # fmt: skip


def gradients_of(author: str, request: CritiqueRequested) -> GradientsComputed:
    wish = f"add {author} things {request.seed % 5}"
    gradient = Gradient(
        inference="i", improvement=wish, evidence=(), composed=False, author=author
    )  # fmt: skip
    place = "" if author == "gradient" else author
    return GradientsComputed.make(
        request, place, author=author, gradients=(gradient,), usage=ONE_CALL
    )


def decided(request: Message, *judgements: Judgement) -> GateDecided:
    assert isinstance(request, ReviewRequested)
    return GateDecided.make(
        request, f"{request.role}/{request.mid}", role=request.role, judgements=judgements,
        usage=ONE_CALL,
    )  # fmt: skip


def play(
    wanted: CampaignPlan, order: random.Random, extra: Reply = lambda message: []
) -> tuple[Campaign, list[Message], list[Message]]:
    """As `drive`, with every configured role answering; `extra` may answer instead."""
    campaign, messages, heard = Campaign(), list[Message](), list[Message]()
    waiting: list[Message] = [start_run("r", wanted)]
    while waiting:
        incoming = waiting.pop(order.randrange(len(waiting)))
        heard.append(incoming)
        for message in campaign.apply(incoming):
            messages.append(message)
            waiting += extra(message) or usual(message, wanted)
    return campaign, messages, heard


def usual(message: Message, wanted: CampaignPlan) -> list[Message]:
    match message:
        case CritiqueRequested():
            return [gradients_of(author, message) for author in wanted.authors]
        case ReviewRequested():
            texts = items_of(parse_message(json.dumps(message.subject)))
            return [decided(message, *(vote(i, text) for i, text in enumerate(texts)))]
        case PoolChanged():
            return [
                RoleReported.make(message, name, role=name, usage=ONE_CALL)
                for name in wanted.observers
            ]
        case _:
            made = answer(message)
            return [made] if made else []


def vote(index: int, text: str) -> Judgement:
    if "blue" in text:
        return Judgement(item=index, verdict="veto", reason="no blue")
    if "odd" in text:
        return Judgement(item=index, verdict="amend", text=f"{text} Twice.", reason="more of it")
    return Judgement(item=index, verdict="keep")


FULL = {
    "gates": (
        GateRule(name="censor", before="InstructionsProposed"),
        GateRule(name="auditor", before="InstructionsProposed"),
        GateRule(name="proofreader", before="PromptsRewritten"),
        GateRule(name="sceptic", before="GradientsComputed"),
    ),
    "contributors": ("painter", "critic"),
    "observers": ("historian", "archivist"),
}


@quick
@given(order=st.integers(0, 10**6), concurrency=st.integers(1, 4))
def test_with_all_shapes_of_roles_the_order_of_arrival_means_nothing(
    order: int, concurrency: int
) -> None:
    wanted = plan(concurrency=concurrency, **FULL)
    first, messages, _ = play(wanted, random.Random(0))
    second, other, _ = play(wanted, random.Random(order))
    assert bodies(messages) == bodies(other)
    assert len(bodies(messages)) == len(messages), "no message id is used twice"
    assert first.used == second.used
    assert first.stopped is not None and "rounds are done" in first.stopped.reason


@quick
@given(order=st.integers(0, 10**6), cut=st.floats(0, 1))
def test_replaying_rebuilds_what_waits_for_a_gate_an_author_or_an_observer(
    order: int, cut: float
) -> None:
    _, messages, heard = play(plan(concurrency=2, **FULL), random.Random(order))
    campaign, again = Campaign(), list[Message]()
    for index, message in enumerate(heard):
        if index == int(cut * len(heard)):
            campaign = Campaign.restore(campaign.snapshot())
        stored = index < cut * len(heard)
        again += campaign.apply(parse_message(message.model_dump_json()) if stored else message)
    assert bodies(again) == bodies(messages)


@quick
@given(order=st.integers(0, 10**6))
def test_gates_are_asked_in_the_order_of_names_each_about_what_the_one_before_left(
    order: int,
) -> None:
    campaign, messages, _ = play(plan(**FULL), random.Random(order))
    requests = [m for m in messages if isinstance(m, ReviewRequested) and "proposals" in m.subject]
    assert {m.role for m in requests} == {"auditor", "censor"}
    for first, second in zip(requests, requests[1:], strict=False):
        if first.round == second.round:
            assert (first.role, second.role) == ("auditor", "censor")
            texts = [p["instruction"]["text"] for p in second.subject["proposals"]]
            assert not any("blue" in text for text in texts)
    admitted = [i.text for m in messages if isinstance(m, PoolChanged) for i in m.admitted]
    assert not any("blue" in text for text in admitted)
    assert all("Twice" in text for text in admitted if "odd" in text)
    assert all(bool(row.author) == bool(row.parent) for row in campaign.pool.rows())


def test_every_author_comes_first_in_turn_and_is_kept_in_the_lineage() -> None:
    campaign, messages, _ = play(plan(**FULL), random.Random(3))
    requests = [m for m in messages if isinstance(m, ProposalRequested)]
    assert all(
        {g.author for g in m.gradients} == {"gradient", "critic", "painter"} for m in requests
    )
    first = {m.gradients[0].author for m in requests}
    assert first == {"gradient", "critic", "painter"}
    # The stub of the modifier copies no author; the pool keeps what it is given.
    assert {row.author for row in campaign.pool.rows() if row.parent} == {"gradient"}


@pytest.mark.parametrize("broken", ["gradient", "critic"])
def test_an_author_that_fails_is_left_out_and_the_others_go_on(broken: str) -> None:
    wanted = plan(contributors=("critic",))

    def reply(message: Message) -> list[Message]:
        if not isinstance(message, CritiqueRequested):
            return []
        return [
            failed(message, name) if name == broken else gradients_of(name, message)
            for name in wanted.authors
        ]

    campaign, messages, _ = play(wanted, random.Random(0), reply)
    requests = [m for m in messages if isinstance(m, ProposalRequested)]
    assert requests and all(broken not in {g.author for g in m.gradients} for m in requests)
    assert campaign.applied == wanted.rounds


@pytest.mark.parametrize(
    "before", ["PromptsRewritten", "GradientsComputed", "InstructionsProposed"]
)
@pytest.mark.parametrize("required", [False, True])
def test_a_gate_that_fails_is_passed_by_or_stops_the_run_if_it_is_required(
    before: str, required: bool
) -> None:
    wanted = plan(
        concurrency=2, gates=({"name": "censor", "before": before, "required": required},)
    )

    def reply(message: Message) -> list[Message]:
        return [failed(message, "censor")] if isinstance(message, ReviewRequested) else []

    campaign, messages, _ = play(wanted, random.Random(1), reply)
    assert isinstance(messages[-1], RunStopped)
    if required:
        assert campaign.applied == 2, "those in flight end, none follows"
        assert "required gate 'censor' failed: it broke" in messages[-1].reason
        assert not any(m.admitted for m in messages if isinstance(m, PoolChanged))
    else:
        plain = drive(plan(concurrency=2), random.Random(1))[0]
        assert campaign.applied == wanted.rounds
        assert campaign.pool.rows() == plain.pool.rows()


@quick
@given(order=st.integers(0, 10**6), lost=st.sets(st.integers(1, 8), min_size=1, max_size=4))
def test_a_required_gates_failure_stops_the_run_at_the_same_round_in_any_order(
    order: int, lost: set[int]
) -> None:
    gates = ({"name": "censor", "before": "InstructionsProposed", "required": True},)
    wanted = plan(concurrency=3, gates=gates)

    def reply(message: Message) -> list[Message]:
        broken = isinstance(message, ReviewRequested) and message.round in lost
        return [failed(message, "censor")] if broken else []

    first, messages, _ = play(wanted, random.Random(0), reply)
    _, other, _ = play(wanted, random.Random(order), reply)
    assert bodies(messages) == bodies(other)
    # Those that began beside the first one that failed are settled, none after them begins.
    assert first.applied == min(min(lost) + 2, wanted.rounds)


def test_a_vetoed_rewrite_is_a_fallback_that_names_the_gate() -> None:
    wanted = plan(gates=({"name": "censor", "before": "PromptsRewritten"},), rounds=1)

    def reply(message: Message) -> list[Message]:
        if not isinstance(message, ReviewRequested):
            return []
        veto = Judgement(item=0, verdict="veto", reason="too gaudy")
        return [decided(message, veto, Judgement(item=1, verdict="amend", text="a thing, calm"))]

    _, messages, _ = play(wanted, random.Random(0), reply)
    pulled = next(m for m in messages if m.kind == "ArmPulled")
    gains = {g["fallback"]: g for g in pulled.model_dump()["gains"]}
    assert gains["vetoed by censor: too gaudy"]["gain"] == 0
    assert any(g["rewrite"] == "a thing, calm" for g in pulled.model_dump()["gains"])


@quick
@given(order=st.integers(0, 10**6))
def test_observers_are_counted_a_round_late_wherever_their_reports_arrive(order: int) -> None:
    limited = plan(
        observers=("historian",), limits={"llm_calls": 15}, prices={"llm": {"historian": {}}}
    )
    campaign, messages, _ = play(limited, random.Random(order))
    # A round is one call of the author and one of the historian, who is counted a round later:
    # 1, 3 and the next may make 13 calls and one more of the historian, together more than 15.
    assert campaign.applied == 2
    assert campaign.used.llm_calls == 3
    assert isinstance(messages[-1], RunStopped) and "llm calls" in messages[-1].reason


def test_a_round_is_settled_only_when_observers_have_reported_the_one_before() -> None:
    wanted = plan(observers=("historian",), concurrency=1)
    reports: list[Message] = []

    def late(message: Message) -> list[Message]:
        if isinstance(message, PoolChanged):
            reports.append(RoleReported.make(message, "h", role="historian"))
            return [StepFailed.model_validate(failed(message, "historian"))]
        return []

    campaign, _, _ = play(wanted, random.Random(0), late)
    assert campaign.applied == 1 and campaign.stopped is None
    messages = campaign.apply(reports.pop(0))
    assert [m.kind for m in messages][0] == "PoolChanged"
    assert campaign.applied == 2


def test_an_observer_may_leave_and_another_join_in_the_middle() -> None:
    wanted = plan(observers=("historian",), concurrency=1)

    def silent(message: Message) -> list[Message]:
        return [failed(message, "historian")] if isinstance(message, PoolChanged) else []

    campaign, _, heard = play(wanted, random.Random(0), silent)
    assert campaign.applied == 1
    start = heard[0]
    changed = RolesChanged.make(start, "1", observers=("late",))
    assert [m.kind for m in campaign.apply(changed)][0] == "PoolChanged"
    assert campaign.applied == 2, "nobody waits for who has left"
    before = campaign.used.llm_calls
    old = RoleReported.make(start, "late", round=1, role="late", usage=ONE_CALL)
    assert campaign.apply(old) == []
    assert campaign.used.llm_calls == before + 1, "what it reads of the past is counted, too"


def test_what_a_gate_judges_are_the_texts() -> None:
    made = answer_of_kind(InstructionsProposed), answer_of_kind(PromptsRewritten)
    for message in made:
        assert all(items_of(message))
    with pytest.raises(TypeError):
        items_of(start_run("r", plan()))


def answer_of_kind(kind: type[Message]) -> Message:
    _, _, heard = drive(plan(rounds=1), random.Random(0))
    return next(m for m in heard if isinstance(m, kind))
