"""The benchmarks' long transcripts: unique message ids, and rounds left to resume."""

from __future__ import annotations

import json

import pytest
from benchmarks.bench_store import RESUMES, no_evidence
from benchmarks.bench_viewer import later
from benchmarks.long_history import RUN, fold_of

from bigpe.agents.campaign.campaign import Campaign


def test_a_long_history_has_rounds_left_for_every_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigpe.agents.campaign.round.fit_evidence_table", no_evidence)
    fold = fold_of(RUN["rounds"])
    campaign = Campaign.restore(fold.snapshot)
    for message in fold.heard:
        campaign.apply(message)
    # A resume that is paused at once still finishes the rounds in flight.
    assert campaign.plan.rounds - campaign.applied > RESUMES * campaign.plan.concurrency
    assert fold.pending


def test_copies_of_a_message_have_ids_of_their_own() -> None:
    mid = f"{257:06x}{'a' * 26}"  # a copy's number replaced these digits once
    body = json.dumps({"mid": mid, "round": 1})
    row = (mid, "main", "ImageScored", "scorer", "f" * 32, 1, body, 0.0, 0, 0.0)
    copies = [row, *(later(row, copy, copy * 40) for copy in range(1, 600))]
    assert len({copy[0] for copy in copies}) == len(copies)
    assert all(json.loads(copy[6])["mid"] == copy[0] for copy in copies)
