"""Claims against known effects, and two people's verdicts against each other."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import evidence_row

from bigpe.agents.evidence.mixed_model import EvidenceRow
from bigpe.agents.messages.core import Gradient
from bigpe.runtime.experiments.gradient_validity import (
    VERDICTS,
    Claim,
    agreement,
    claim_validity,
    judged_terms,
    read_truth,
    read_verdicts,
    row_validity,
    true_effect,
    write_worksheet,
)
from bigpe.services.core.errors import ConfigError

TRUTH = {"golden hour": 0.6, "golden": 0.2, "blurry": -0.9, "noon": 0.05}


def row(term: str, effect: float, *, sure: bool = True) -> EvidenceRow:
    half = abs(effect) / 2 if sure else 2 * abs(effect) + 1
    return evidence_row(term, effect, f"E-{term}", lo=effect - half, hi=effect + half, n=9, arms=2)


def claim(*rows: EvidenceRow, inference: str = "because") -> Claim:
    cited = tuple(row.id for row in rows)
    gradient = Gradient(inference=inference, improvement="add", evidence=cited, composed=False)
    return Claim("run", 1, gradient, rows, "best", "worst")


@pytest.mark.parametrize(
    ("term", "effect"),
    [
        ("golden hour", 0.6),
        ("golden hour light", 0.6),
        ("golden", 0.2),
        ("blurry golden hour", 0.6 - 0.9),
        ("hour", None),
        ("wooden spoon", 0.0),
    ],
)
def test_the_known_effect_of_a_term(term: str, effect: float | None) -> None:
    found = true_effect(term, TRUTH)
    assert found is None if effect is None else found == pytest.approx(effect)


def test_precision_counts_claims_only_and_claims_about_nothing_are_false() -> None:
    rows = [
        row("golden hour", 0.03),
        row("blurry", -0.02),
        row("golden", -0.01),  # wrong sign
        row("wooden spoon", 0.01),  # means nothing
        row("noon", 0.01),  # hardly anything
        row("golden hour light", -0.5, sure=False),  # not claimed
        row("hour", 0.5),  # cannot be judged
    ]
    found = row_validity(rows, TRUTH)
    assert found["evidence rows judged"] == 6
    assert found["evidence rows claimed"] == 5
    assert found["evidence precision"] == pytest.approx(2 / 5)
    perfect = row_validity([row("golden hour", 3), row("golden", 2), row("blurry", -1)], TRUTH)
    assert perfect["evidence rank correlation"] == pytest.approx(1.0)
    assert row_validity([], TRUTH)["evidence precision"] is None


def test_citations_are_judged() -> None:
    claims = [claim(row("golden hour", 0.1), row("blurry", 0.1)), claim(row("blurry", -0.1))]
    assert claim_validity(claims, TRUTH)["citation precision"] == pytest.approx(2 / 3)


def test_named_terms_are_judged_by_what_the_improvement_asks_for() -> None:
    quiet = claim(row("golden", 0.1))
    assert "named term precision" not in claim_validity([quiet], TRUTH)
    gradient = quiet.gradient.model_copy(
        update={"adds": ("golden hour", "wooden spoon", "hour"), "avoids": ("blurry", "golden")}
    )
    found = claim_validity([quiet._replace(gradient=gradient)], TRUTH)
    assert found["named terms judged"] == 4, "the effect of a part of a term is not clear"
    assert found["named term precision"] == pytest.approx(2 / 4)
    assert found["citation precision"] == 0.0, "the improvement asks against the cited term"
    assert [t.right for t in judged_terms([quiet._replace(gradient=gradient)], TRUTH)] == [
        False, True, False, None, True, False,
    ]  # fmt: skip


def test_a_worksheet_goes_out_and_comes_back_filled(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    write_worksheet(path, [claim(row("golden hour", 0.1), inference="=1+1"), claim()])
    assert read_verdicts(path) == {}
    with path.open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines[1][3] == "'=1+1"
    lines[1][-1], lines[2][-1] = "True", "unclear"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    assert read_verdicts(path) == {"C1": "true", "C2": "unclear"}
    lines[2][-1] = "maybe"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    with pytest.raises(ConfigError, match="line 3"):
        read_verdicts(path)


def test_kappa_of_a_textbook_table() -> None:
    # 20 both true, 5 and 10 apart, 15 both false: Cohen's kappa is 0.4.
    item = ["true"] * 25 + ["false"] * 25
    other = ["true"] * 20 + ["false"] * 5 + ["true"] * 10 + ["false"] * 15
    names = [str(i) for i in range(50)]
    found = agreement(dict(zip(names, item, strict=True)), dict(zip(names, other, strict=True)))
    assert (found.n, found.observed) == (50, pytest.approx(0.7))
    assert found.kappa == pytest.approx(0.4)


@given(st.dictionaries(st.text(max_size=3), st.sampled_from(VERDICTS), max_size=12))
def test_whoever_agrees_with_himself_agrees_wholly(verdicts: dict[str, str]) -> None:
    found = agreement(verdicts, verdicts)
    assert found.n == len(verdicts)
    assert found.kappa is None if len(set(verdicts.values())) < 2 else found.kappa == 1.0


def test_a_truth_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    for text in ("[]", '{"terms": {"a": "x"}}', "{", '{"terms": {"a": Infinity}}'):
        path.write_text(text)
        with pytest.raises(ConfigError, match="known effects|finite"):
            read_truth(path)
    path.write_text('{"terms": {"a": 1}}')
    assert read_truth(path) == {"a": 1.0}
