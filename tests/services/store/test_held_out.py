"""A run cannot learn what is known of held-out prompts, whichever way it tries."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from bigpe.agents.messages.plan import CampaignPlan
from bigpe.runtime.evaluation.measure import PLAIN, measure
from bigpe.services.core.errors import ConfigError, HeldOutError, StoreError
from bigpe.services.core.values import ScoreRequest
from bigpe.services.store.database import QUERIES, SEALED, Store
from bigpe.testing.runs import CONFIG, open_fake, open_fake_evaluated, run_fake

SHORT = {"run": {**CONFIG["run"], "rounds": 3}}
REPORT = {"run": "main", "split": "test", "body": "{}", "ts": 0.0}


@pytest.fixture
async def judged(tmp_path: Path) -> Path:
    """A short run, with one test prompt scored."""
    await run_fake(tmp_path, SHORT)
    async with open_fake_evaluated(tmp_path) as run:
        rows = await measure(run.services, PLAIN, run.prompts("test")[:1])
        assert rows[0].gain is not None
        await run.store.write([("put_evaluation_report", REPORT)])
    return tmp_path


def database(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{(folder / 'bigpe.db').as_uri()}?mode=ro", uri=True)


async def test_scores_of_held_out_prompts_lie_apart(judged: Path) -> None:
    async with open_fake_evaluated(judged) as run:
        held_out = {*run.prompts("test"), *run.prompts("validation")}
    scored = {
        table: {
            prompt
            for (prompt,) in database(judged).execute(
                f"SELECT request ->> 'prompt' FROM {table} WHERE kind = 'score'"  # noqa: S608
            )
        }
        for table in ("effect", "sealed_effect")
    }
    assert scored["sealed_effect"] and scored["sealed_effect"] <= held_out
    assert scored["effect"] and not scored["effect"] & held_out


async def test_a_runs_services_refuse_to_score_them(judged: Path) -> None:
    async with open_fake_evaluated(judged) as run:
        prompt = run.prompts("test")[0]
        picture = (await measure(run.services, PLAIN, [prompt]))[0].image
    async with open_fake(judged, SHORT) as session:
        with pytest.raises(HeldOutError, match="not one of its train prompts"):
            await session.services.score.score(ScoreRequest(image=picture, prompt=prompt))
        # Its own prompts it may score.
        train = session.coordinator.campaign.plan.train[0]
        assert await session.services.score.score(ScoreRequest(image=picture, prompt=train))


WAYS_IN = (
    "SELECT * FROM {table}",
    "SELECT (SELECT count(*) FROM {table})",
    "SELECT name FROM run WHERE EXISTS (SELECT 1 FROM main.{table})",
    "CREATE TEMP VIEW spy AS SELECT * FROM {table}",
    "INSERT INTO {table} DEFAULT VALUES",
    "DELETE FROM {table}",
    "ALTER TABLE {table} RENAME TO open",
    "DROP TABLE {table}",
    "ATTACH 'p.db' AS again",
)


@pytest.mark.parametrize("table", sorted(SEALED))
async def test_sqlite_itself_refuses_the_tables(
    tmp_path: Path, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Store(tmp_path / "p.db", sealed=True) as store:
        for sql in WAYS_IN:
            monkeypatch.setitem(QUERIES, "way in", sql.format(table=table))
            # A view is refused when it is read, at the latest.
            monkeypatch.setitem(QUERIES, "view", "SELECT * FROM spy")
            with pytest.raises(StoreError, match="not authorized|prohibited"):
                await store.write([("way in", {}), ("view", {})])
            with pytest.raises(StoreError, match="not authorized|prohibited|readonly"):
                await store.rows("way in")
                await store.rows("view")
    async with Store(tmp_path / "p.db") as store:
        monkeypatch.setitem(QUERIES, "count", f"SELECT count(*) FROM {table}")  # noqa: S608
        assert await store.rows("count")


async def test_named_queries_are_refused_and_the_message_says_why(judged: Path) -> None:
    async with open_fake(judged, SHORT) as session:
        for query, params in (
            ("evaluation_rows", {"run": "main", "split": "test"}),
            ("evaluation_report", {"run": "main"}),
            ("get_sealed_effect", {"key": "k"}),
        ):
            with pytest.raises(StoreError, match="held-out prompts"):
                await session._store.rows(query, **params)
        with pytest.raises(StoreError, match="held-out"):
            await session._store.write([("put_evaluation_report", REPORT)])
        assert await session._store.rows("list_runs")
    async with Store(judged / "bigpe.db", read_only=True) as store:
        assert await store.row("evaluation_report", run="main")


async def test_no_held_out_prompt_is_ever_said_in_a_run(judged: Path) -> None:
    async with open_fake_evaluated(judged) as run:
        held_out = {*run.prompts("test"), *run.prompts("validation")}
        plan: CampaignPlan = run.campaign.plan
    assert not held_out & set(plan.train)
    result = [
        prompt
        for (prompt,) in database(judged).execute(
            "SELECT body ->> 'naive' FROM message WHERE body ->> 'naive' IS NOT NULL"
        )
    ]
    assert result and not held_out & set(result)


async def test_prompts_that_a_run_has_learned_from_cannot_become_its_test(tmp_path: Path) -> None:
    file = tmp_path / "naive.txt"
    rng = random.Random(3)
    texts = [
        " ".join("".join(rng.choices("bcdfgklmnprst", k=6)) for _ in range(6)) for _ in range(16)
    ]
    file.write_text("\n".join(texts))
    config = {"run": {**SHORT["run"], "pilot_prompts": 2}, "data": {"naive": "naive.txt"}}
    await run_fake(tmp_path, config)
    async with open_fake_evaluated(tmp_path) as run:
        train = run.campaign.plan.train
        assert run.prompts("test")
    # A near-duplicate with a smaller normal form can move its group to another split.
    for extra in ("aa", "ab", "ac", "ad", "ae", "af"):
        file.write_text("".join(f"{text} {extra}\n{text}\n" for text in texts))
        async with open_fake_evaluated(tmp_path) as run:
            try:
                assert not set(run.prompts("test")) & set(train)
            except ConfigError as error:
                assert "learned from" in str(error)
                return
    raise AssertionError("no change of the file moved a train prompt into test")
