"""People judge pairs blind; every vote is kept once; the report says what they say."""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from benchmarks.browser import Served, pages_of, serving, tab
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape
from support.hostile_run import EVIL

from bigpe.agents.statistics.agreement import cohen_kappa, share_interval
from bigpe.runtime.cli.results.rate import rate
from bigpe.runtime.evaluation.measure import EvaluationRow, under
from bigpe.runtime.evaluation.rating import (
    Question,
    Vote,
    in_order,
    question_of,
    report_of,
    votes_of,
)
from bigpe.runtime.project.paths import Project
from bigpe.runtime.transcript.reader import RunReader
from bigpe.runtime.viewer.pages.rate import RatePages, Rater
from bigpe.runtime.viewer.server import LocalServer
from bigpe.services.core.errors import ConfigError
from bigpe.services.store.database import Store
from bigpe.testing.runs import run_fake


@pytest.fixture
def project(tmp_path: Path) -> Path:
    asyncio.run(run_fake(tmp_path, {"run": {"rounds": 4, "batch_size": 12, "pilot_prompts": 3}}))
    return tmp_path


async def question(store: Store, first: str = "naive", second: str = "") -> Question:
    reader = RunReader(store, "main")
    await reader.catch_up()
    return await question_of(store, reader.facts, "main", first, second or reader.facts.best)


@asynccontextmanager
async def rating(
    folder: Path, name: str = "anna", limit: int = 50
) -> AsyncGenerator[tuple[Served, Question, Store]]:
    async with Store(folder / "bigpe.db") as store:
        requests = await question(store)
        pages = RatePages(Project(folder), store, Rater("main", name, requests, limit))
        async with serving(LocalServer(pages.app(), writable=True)) as served:
            yield served, requests, store


async def test_a_person_votes_by_keys_takes_one_back_and_comes_back(project: Path) -> None:
    async with rating(project) as (served, pages, store), tab() as opened:
        order = in_order(pages.pairs, "main", "anna", 50)
        await opened.open(served)
        assert await opened.faults_of_access() == ""
        output = await opened.page.inner_text("body")
        for hint in ("naive", "rewrit", pages.second[:8], f"{order[0].first.score:.2f}"):
            assert hint not in output.replace(order[0].prompt, "")
        for key in ("1", "2", "0", "z", "2"):
            before = await opened.page.content()
            await opened.press(key)
            assert await opened.page.content() != before
        votes = await votes_of(store, "main", pages.first, pages.second)
        left = [("first" if p.first_is_left("main", "anna") else "second") for p in order]
        other = {"first": "second", "second": "first"}
        assert [v.prompt for v in votes] == [p.prompt for p in order[:3]]
        assert [v.choice for v in votes] == [left[0], other[left[1]], other[left[2]]]
        assert [v.left_side for v in votes] == left[:3]
        assert all(vote.rater == "anna" and vote.ms > 0 for vote in votes)
        assert (votes[0].first_image, votes[0].second_score) == (
            order[0].first.image,
            order[0].second.score,
        )
    assert opened.wrongs == []
    async with rating(project) as (served, _, _), tab() as again:
        await again.open(served)
        assert f"4 of {len(order)}" in await again.page.inner_text(".status")


async def test_all_pairs_lead_to_an_end_and_others_have_their_own(project: Path) -> None:
    async with rating(project, limit=2) as (served, _, _), tab() as opened:
        await opened.open(served)
        for _ in range(2):
            await opened.press("1")
        assert "That is all: 2 of 2" in await opened.page.inner_text("h1")
    async with rating(project, "bert", limit=2) as (served, _, _):
        assert "1</b> of 2" in (await served.get()).text


async def test_its_pages_are_accessible_in_light_and_dark_and_narrow(project: Path) -> None:
    """The question, and the end after the last vote."""
    async with rating(project, limit=1) as (served, pages, _):
        async with tab() as light, tab(dark=True, width=390) as dark:
            for end in (False, True):
                if end:
                    pair = in_order(pages.pairs, "main", "anna", 1)[0]
                    vote = f"pair={pair.key}&choice=left"
                    await served.send("POST", "vote", body=vote, Origin=served.origin)
                for item in (light, dark):
                    await item.open(served)
                    heading = await item.page.inner_text("body")
                    assert ("That is all" in heading) == end
                    assert await item.faults_of_access() == ""
                wide = await dark.page.evaluate("document.documentElement.scrollWidth")
                assert wide <= 390, "wider than a narrow screen"
            assert light.wrongs == dark.wrongs == []


async def test_a_vote_must_be_one_of_this_page(project: Path) -> None:
    async with rating(project) as (served, pages, store):
        good = f"pair={pages.pairs[0].key}&choice=left"
        for body in ("", "pair=x&choice=left", f"pair={pages.pairs[0].key}&choice=best", EVIL):
            assert (
                await served.send("POST", "vote", body=body, Origin=served.origin)
            ).status == 400
        for origin in ("http://evil.example", "null", "", served.origin + "0"):
            assert (await served.send("POST", "vote", body=good, Origin=origin)).status == 403
        assert (await served.send("POST", "/x/vote", body=good, Origin=served.origin)).status == 404
        huge = good + "&x=" + "y" * 10_000
        assert (await served.send("POST", "vote", body=huge, Origin=served.origin)).status == 413
        assert await votes_of(store, "main", pages.first, pages.second) == []
        for _ in range(2):
            assert (
                await served.send("POST", "vote", body=good, Origin=served.origin)
            ).status == 303
        assert len(await votes_of(store, "main", pages.first, pages.second)) == 1


async def test_held_out_pictures_go_before_the_runs_own(project: Path) -> None:
    async with Store(project / "bigpe.db") as store:
        reader = RunReader(store, "main")
        await reader.catch_up()
        best = reader.facts.arms[reader.facts.best].instruction
        train = await question(store)
        assert train.source == "train" and len(train.pairs) > 2
        treatment = under(best, "best").id
        for index, prompt in enumerate(("a held-out cat", "a held-out dog", "one kept")):
            row = EvaluationRow(
                treatment=treatment,
                prompt=prompt,
                seed=index,
                naive_score=0.1,
                score=0.2,
                gain=0.1,
                naive_image="1" * 64,
                image="1" * 64 if index == 2 else "2" * 64,
            )
            stored = {"run": "main", "split": "test", "treatment": treatment, "name": "best"}
            stored |= {"prompt": prompt, "seed": index, "naive_score": 0.1, "score": 0.2}
            body = row.model_dump_json()
            await store.write([("put_evaluation", stored | {"body": body, "ts": 0.0})])
        held_out = await question(store)
        assert held_out.source == "test"
        assert [pair.prompt for pair in held_out.pairs] == ["a held-out cat", "a held-out dog"]
        assert held_out.equal == 1
        with pytest.raises(ConfigError, match="both sides are the same"):
            await question(store, reader.facts.best)


def test_sides_and_order_differ_between_people(project: Path) -> None:
    async def pairs() -> Question:
        async with Store(project / "bigpe.db", read_only=True) as store:
            return await question(store)

    requests = asyncio.run(pairs())
    raters = [f"rater {i}" for i in range(200)]
    shares = [
        sum(pair.first_is_left("main", name) for name in raters) / len(raters)
        for pair in requests.pairs
    ]
    assert all(0.3 < share < 0.7 for share in shares)
    orders = {tuple(p.key for p in in_order(requests.pairs, "main", name, 99)) for name in raters}
    assert len(orders) > 150


# -- what votes say -------------------------------------------------------------------------------

choices = st.sampled_from(["first", "second", "tie"])


def vote(place: int, rater: str, choice: str, gain: float = 0.1, left: str = "first") -> Vote:
    fields = dict.fromkeys(("run", "first", "second", "source", "first_image", "second_image"), "x")
    return Vote.model_validate(
        fields
        | {"rater": rater, "prompt": f"p{place}", "seed": 1, "first_score": 0.2}
        | {"second_score": 0.2 + gain, "left_side": left, "choice": choice, "ms": 1, "ts": 2}
    )


def test_a_report_counts_pairs_by_the_majority() -> None:
    votes = [vote(0, "a", "second"), vote(0, "b", "second"), vote(0, "c", "first")]
    votes += [vote(1, "a", "first", gain=-0.1), vote(1, "b", "tie", gain=-0.1)]
    votes += [vote(2, "a", "first"), vote(3, "a", "tie"), vote(4, "a", "second", gain=0.0)]
    report = report_of(votes)
    assert (report.votes, report.raters, report.pairs) == (8, ("a", "b", "c"), 5)
    assert (report.wins, report.losses, report.ties) == (2, 1, 2)
    assert report.win_rate == pytest.approx(2 / 3)
    ties = share_interval(2, 5)
    assert ties is not None and report.tie_share == 0.4
    assert report.tie_share_interval == (ties.lo, ties.hi)
    # Pair 1 is a tie of one against one; pair 4 has equal scores: two are left, one agreed on.
    assert (report.judged_by_scorer, report.agreement) == (2, 0.5)
    assert report.kappa == 0.0


def test_no_votes_say_nothing() -> None:
    report = report_of([])
    assert report.win_rate is None and report.agreement is None and report.kappa is None
    assert report.tie_share is None and report.tie_share_interval is None


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abc"), choices), max_size=40))
def test_a_report_is_consistent(messages: list[tuple[int, str, str]]) -> None:
    unique = {(place, rater): choice for place, rater, choice in messages}
    votes = [vote(place, rater, choice) for (place, rater), choice in unique.items()]
    report = report_of(votes)
    assert report.wins + report.losses + report.ties == report.pairs == len({p for p, _ in unique})
    mirrored = {"first": "second", "second": "first", "tie": "tie"}
    turned = report_of([v.model_copy(update={"choice": mirrored[v.choice]}) for v in votes])
    assert (turned.wins, turned.losses, turned.ties) == (report.losses, report.wins, report.ties)
    if report.win_rate is not None and report.win_rate_interval is not None:
        lo, hi = report.win_rate_interval
        assert 0 <= lo <= report.win_rate <= hi <= 1


@given(k=st.integers(0, 60), more=st.integers(0, 60))
def test_the_share_interval_is_wilsons(k: int, more: int) -> None:
    n, z = k + more, 1.959963984540054
    found = share_interval(k, n)
    if not n:
        assert found is None
        return
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
    assert found is not None and found.mean == k / n
    assert (found.lo, found.hi) == pytest.approx((max(0, centre - half), centre + half), abs=1e-9)


@pytest.mark.parametrize(
    ("both", "only_a", "only_b", "neither", "kappa"),
    [(20, 5, 10, 15, 0.4), (45, 15, 25, 15, 0.1304347826), (10, 0, 0, 10, 1.0), (0, 5, 5, 0, -1.0)],
)
def test_kappa_of_known_tables(
    both: int, only_a: int, only_b: int, neither: int, kappa: float
) -> None:
    """The first two are the textbook's (Cohen 1960, as in Wikipedia's worked examples)."""
    table = [("y", "y")] * both + [("y", "n")] * only_a + [("n", "y")] * only_b
    assert cohen_kappa(table + [("n", "n")] * neither) == pytest.approx(kappa)
    assert cohen_kappa([]) is None and cohen_kappa([("y", "y")] * 3) is None


# -- the command ----------------------------------------------------------------------------------


def test_the_report_command(project: Path) -> None:
    def report_of(*more: str) -> str:
        result = CliRunner().invoke(rate, ["main", "-p", str(project), "--report", *more])
        assert result.exit_code == 0, result.output
        return result.output

    assert "no votes yet on naive against" in report_of()

    async def say() -> None:
        async with Store(project / "bigpe.db") as store:
            requests = await question(store)
            pages = RatePages(Project(project), store, Rater("main", "anna", requests, 50))
            rows = [pages.vote_on(pair, "left").model_dump() for pair in requests.pairs]
            await store.write([("put_vote", row) for row in rows])

    asyncio.run(say())
    found = json.loads(report_of("--json"))
    assert found["votes"] == found["pairs"] > 4 and found["left_share"] == 1.0
    assert found["wins"] + found["losses"] == found["pairs"] and found["tie_share"] == 0.0
    assert "ties: 0% [0%, " in report_of() and "of all pairs" in report_of()
    assert "Cohen's kappa" in report_of() and "votes for the left picture: 100%" in report_of()
    page = asyncio.run(evaluation_page(project))
    assert "What people say" in page and all(
        escape(line) in page for line in report_of().splitlines()
    )
    none = CliRunner().invoke(rate, ["main", "-p", str(project), "--report", "--b", "zz"])
    assert isinstance(none.exception, ConfigError)


async def evaluation_page(project: Path) -> str:
    async with pages_of(project) as served:
        return (await served.get("evaluation")).text


def test_a_run_cannot_read_votes(project: Path) -> None:
    """They may be of held-out prompts."""

    async def look() -> None:
        async with Store(project / "bigpe.db", sealed=True) as store:
            await votes_of(store, "main", "naive", "x")

    with pytest.raises(Exception, match=r"held-out|prohibited|authorized"):
        asyncio.run(look())
    connection = sqlite3.connect(project / "bigpe.db")
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(
            "INSERT INTO vote VALUES ('main','a','x','y','s','p',1,'i','j',0,0,'left','first',0,0)"
        )
    connection.close()
