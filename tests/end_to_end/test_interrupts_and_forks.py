"""Runs that are stopped by people or limits, changed and forked, through the command line."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.fake_cli import start
from support.forked import ForkedProcess

from bigpe.testing.runs import repeated_calls, transcript

LATEST_S = 240.0
ENDS = ("RunStarted", "RunStopped", "PlanChanged", "StopRequested")
"""RunStarted names the limits."""
pytestmark = pytest.mark.timeout(900)


def bigpe(folder: Path, *words: str) -> tuple[int, str, str]:
    process = start(folder, *words)
    out, err = process.communicate(timeout=LATEST_S)
    assert "Traceback" not in err, err
    assert process.returncode is not None
    return process.returncode, out, err


def happened(folder: Path) -> set[tuple[str, str]]:
    """The transcript, less what says how it was stopped and changed."""
    return {(m, body) for m, body in transcript(folder) if json.loads(body)["kind"] not in ENDS}


def calls(folder: Path) -> list[Any]:
    """What the fakes were asked, by their own log."""
    return [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]


def wait_until(folder: Path, count: int, process: ForkedProcess) -> None:
    """Until the fakes were asked so often by this process, which must not have ended before."""
    deadline = time.monotonic() + LATEST_S
    while time.monotonic() < deadline:
        if (folder / "calls.jsonl").exists() and len(calls(folder)) >= count:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise TimeoutError(f"no {count} calls in {LATEST_S} s")


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("free") / "p"
    code, out, _ = bigpe(folder, "run")
    assert code == 0 and "all 8 rounds are done" in out
    return folder


@pytest.mark.parametrize(
    ("key", "limit"),
    [
        ("budget.renders", 30),
        ("budget.scores", 30),
        ("budget.llm_calls", 35),
        ("budget.tokens", 500),
        ("budget.usd", 0.3),
        ("budget.minutes", 0.0001),
        ("run.rounds", 3),
    ],
)
def test_raising_a_limit_lets_the_run_go_on_as_if_it_had_never_been_lower(
    free: Path, tmp_path: Path, key: str, limit: float
) -> None:
    folder = tmp_path / "p"
    code, out, _ = bigpe(folder, "run", "--set", f"{key}={limit}")
    assert code == 0
    reason = "rounds are done" if key == "run.rounds" else f"raise [budget] {key[7:]} to go on"
    assert reason in out
    assert happened(folder) < happened(free)
    most = {"budget.renders": ("render", 30), "budget.llm_calls": ("llm", 35)}.get(key)
    assert most is None or sum(call[0] == most[0] for call in calls(folder)) <= most[1]
    raised = 8 if key == "run.rounds" else 0
    code, out, err = bigpe(folder, "resume", "--set", f"{key}={raised}")
    assert code == 0 and "all 8 rounds are done" in out
    assert f"{key}: " in err and "takes effect" in err
    assert happened(folder) == happened(free)
    assert repeated_calls(folder) == 0


@pytest.mark.parametrize("as_json", [False, True])
def test_a_budget_that_ends_a_run_before_its_first_result_is_a_normal_end(
    tmp_path: Path, as_json: bool
) -> None:
    words = ("run", "--set", "budget.minutes=0.0001", *(["--json"] if as_json else []))
    process = start(tmp_path, *words, delay_s=0.5)  # of each model: a round takes seconds
    out, err = process.communicate(timeout=LATEST_S)
    assert process.returncode == 0, err
    assert "raise [budget] minutes to go on" in out
    assert "nothing is known of any instruction yet" in err
    assert f"bigpe resume main -p {tmp_path}" in err
    if as_json:
        report = json.loads(out)
        assert {row["mean_gain"] for row in report["instructions"]} == {None}


@pytest.mark.parametrize("as_json", [False, True])
def test_a_run_of_which_nothing_could_be_scored_has_failed(tmp_path: Path, as_json: bool) -> None:
    process = start(tmp_path, "run", *(["--json"] if as_json else []), fails=True)
    out, err = process.communicate(timeout=LATEST_S)
    assert process.returncode == 1
    assert "no image of the pilot could be scored" in out
    assert "no round gave a result" in err


def test_a_limit_raised_too_little_changes_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    bigpe(folder, "run", "--set", "budget.renders=30")
    before = happened(folder)
    code, out, _ = bigpe(folder, "resume", "--set", "budget.renders=31")
    assert code == 0 and "the budget of 31 renders" in out
    assert happened(folder) == before


@pytest.mark.parametrize(
    "signals",
    [
        (signal.SIGINT,),
        (signal.SIGTERM,),
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGTERM, signal.SIGINT),
    ],
)
def test_a_signal_pauses_a_second_one_stops_and_resume_needs_no_flags(
    free: Path, tmp_path: Path, signals: tuple[signal.Signals, ...]
) -> None:
    folder = tmp_path / "p"
    process = start(folder, "run", delay_s=0.05 if len(signals) == 1 else 0.5)
    wait_until(folder, 8, process)
    *earlier, last = signals
    for number in earlier:
        process.send_signal(number)
        assert process.stderr is not None
        while "finishing" not in process.stderr.readline():
            pass
    process.send_signal(last)
    _, err = process.communicate(timeout=LATEST_S)
    assert process.returncode == 130, err
    assert "Traceback" not in err and "bigpe resume main" in err
    assert ("stopped at once" in err) == (len(signals) == 2)
    assert happened(folder) < happened(free)
    code, _, _ = bigpe(folder, "resume")
    assert code == 0 and transcript(folder) == transcript(free)
    if len(signals) == 1:
        assert repeated_calls(folder) == 0, "what was in flight was finished"


def test_an_interrupted_evaluation_goes_on_and_paints_nothing_again(
    free: Path, tmp_path: Path
) -> None:
    """A real Ctrl-C in the middle; the end is that of an evaluation that nobody disturbed."""
    whole, folder = (Path(shutil.copytree(free, tmp_path / name)) for name in ("whole", "p"))
    wanted = ("evaluate", "--prompts", "5", "--yes")
    code, undisturbed, _ = bigpe(whole, *wanted, "--json")
    assert code == 0
    before = len(calls(folder))
    process = start(folder, *wanted, delay_s=0.25)
    wait_until(folder, before + 8, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LATEST_S)
    assert process.returncode == 130 and "the same command continues" in err
    assert "Traceback" not in err
    kept, requests = stored_renders(folder), len(calls(folder))
    assert len(stored_renders(free)) < len(kept) < len(stored_renders(whole))
    code, out, _ = bigpe(folder, *wanted, "--json")
    assert code == 0 and json.loads(out) == json.loads(undisturbed)
    again = {(call[1], call[2]) for call in calls(folder)[requests:] if call[0] == "render"}
    assert again and not again & kept
    assert stored_renders(folder) == stored_renders(whole)


def stored_renders(folder: Path) -> set[tuple[str, int]]:
    """(prompt, seed) of the pictures that the project has paid for."""
    with closing(sqlite3.connect(folder / "bigpe.db")) as connection:
        rows = connection.execute("SELECT request FROM effect WHERE kind = 'render'").fetchall()
    return {
        (expected["prompt"], expected["seed"])
        for expected in (json.loads(text) for (text,) in rows)
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_models_load_stops_at_once(tmp_path: Path, number: signal.Signals) -> None:
    opening = tmp_path / "opening"
    process = start(tmp_path / "p", "run", hangs=opening)
    deadline = time.monotonic() + LATEST_S
    while not opening.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=LATEST_S)
    assert process.returncode == 130 and "Traceback" not in err, err
    assert "nothing is lost" in err


def test_a_forbidden_change_is_refused_with_the_difference_and_the_way_out(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    assert bigpe(folder, "run", "--set", "run.rounds=1")[0] == 0
    before, requests = transcript(folder), calls(folder)
    code, _, err = bigpe(folder, "run", "--set", "budget.renders=99", "--set", "run.seed=12")
    assert code == 2
    for line in (
        "budget.renders: 0 -> 99 (takes effect)",
        "run.rounds: 1 -> 8 (takes effect)",
        "run.seed: 11 -> 12 (needs a fork)",
        "bigpe fork main NEW-NAME --set budget.renders=99 --set run.rounds=8 --set run.seed=12",
    ):
        assert line in err
    assert (transcript(folder), calls(folder)) == (before, requests)
    # Nothing was taken over of the changes that would have been allowed.
    assert bigpe(folder, "resume")[0] == 0 and transcript(folder) == before


def test_a_fork_shares_what_was_paid_and_says_where_it_comes_from(
    free: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "p"
    assert bigpe(folder, "run")[0] == 0
    paid = len(calls(folder))
    # Another K: other choices, but the pilot and most naive pictures are the same.
    code, out, err = bigpe(folder, "fork", "main", "wide", "--set", "run.pool_size=8")
    assert code == 0 and "all 8 rounds are done" in out, err
    # Unusable answers are asked for again: the model may be another one by now.
    assert repeated_calls(folder, "render") == 0
    report = json.loads(bigpe(folder, "costs", "wide", "--json")[1])["total"]
    assert report["paid"]["renders"] + report["paid"]["llm_calls"] == len(calls(folder)) - paid
    assert report["asked"]["renders"] > report["paid"]["renders"]
    main = json.loads(bigpe(folder, "costs", "--json")[1])["total"]
    assert main["asked"]["renders"] == main["paid"]["renders"]
    # Another scorer: to be compared with nothing that was scored, but painted it all is.
    assert bigpe(folder, "resume", "--set", "score.model=hpsv2.1")[0] == 2
    assert bigpe(folder, "fork", "main", "judged", "--set", "score.model=hpsv2.1")[0] == 0
    report = json.loads(bigpe(folder, "costs", "judged", "--json")[1])["total"]
    assert (report["paid"]["renders"], report["asked"]["renders"]) == (0, main["asked"]["renders"])
    assert "fork of main" in bigpe(folder, "status")[1]
    assert "fork of main" in bigpe(folder, "inspect", "wide")[1]
    assert bigpe(folder, "fork", "main", "wide")[0] == 2, "it is there already"
    assert bigpe(folder, "fork", "nobody", "new")[0] == 2
    code, out, _ = bigpe(folder, "fork", "main", "best", "--from-best", "--set", "run.rounds=1")
    assert code == 0
    best = json.loads(bigpe(folder, "inspect", "--pool", "--json")[1])["best"]
    pool = json.loads(bigpe(folder, "inspect", "best", "--pool", "--json")[1])
    assert best in {row["id"] for row in pool["instructions"] if row["parent"] is None}


@pytest.mark.parametrize("by", ["role", "instruction", "round"])
def test_costs_add_up_whatever_they_are_split_by(free: Path, by: str) -> None:
    report = json.loads(bigpe(free, "costs", "--by", by, "--json")[1])
    (state,) = json.loads(bigpe(free, "status", "--json")[1])
    for resource, value in state["used"].items():
        assert report["total"]["asked"][resource] == pytest.approx(value)
        assert sum(line["asked"][resource] for line in report["lines"]) == pytest.approx(value)
    made = calls(free)
    assert report["total"]["paid"]["llm_calls"] == sum(call[0] == "llm" for call in made)
    assert report["total"]["paid"]["renders"] == sum(call[0] == "render" for call in made)
    assert report["total"]["paid"]["unsettled"] == report["total"]["paid"]["failed"] == 0
