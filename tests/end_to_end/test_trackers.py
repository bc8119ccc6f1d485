"""`bigpe export --to`: a run in real MLflow and W&B stores, once, however often it is exported."""

from __future__ import annotations

import asyncio
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bigpe.agents.messages.core import ArmPulled
from bigpe.runtime.cli import cli
from bigpe.testing.runs import CONFIG, open_fake, run_fake


def export(folder: Path, tracker: str, out: Path) -> str:
    words = ["export", "-p", str(folder), "--to", tracker, "-o", str(out), "--json"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    (place,) = json.loads(done.stdout)
    return place


async def half_a_run(folder: Path) -> None:
    async with open_fake(folder) as session:
        settled = 0
        async for message in session.run():
            settled += isinstance(message, ArmPulled)
            if settled == 4:
                session.pause()


def mlflow_runs(out: Path) -> tuple[Any, list[Any]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(out / "mlruns").as_uri())
    place = client.get_experiment_by_name("bigpe")
    assert place is not None
    return client, list(client.search_runs([place.experiment_id]))


def test_mlflow_has_a_run_once_and_catches_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    asyncio.run(half_a_run(tmp_path))
    place = export(tmp_path, "mlflow", tmp_path / "out")
    client, (early,) = mlflow_runs(tmp_path / "out")
    rounds = len(client.get_metric_history(early.info.run_id, "round_gain"))
    assert 0 < rounds < 10 and early.info.status == "RUNNING"
    asyncio.run(run_fake(tmp_path))
    for _ in range(2):
        assert export(tmp_path, "mlflow", tmp_path / "out") == place
    client, (late,) = mlflow_runs(tmp_path / "out")
    assert late.info.run_id == early.info.run_id and late.info.status == "FINISHED"
    history = client.get_metric_history(late.info.run_id, "round_gain")
    steps = sorted(metric.step for metric in history)
    assert steps == sorted(set(steps)) and len(steps) == 10
    assert late.data.params["run.rounds"] == "10" and late.data.params["policy.name"] == "ucb1"
    assert late.data.tags["bigpe.stopped"] and late.data.tags["mlflow.runName"] == "main"
    names = {file.path for file in client.list_artifacts(late.info.run_id)}
    assert names == {"instructions.json", "best_instruction.json"}
    best = json.loads(
        Path(client.download_artifacts(late.info.run_id, "best_instruction.json")).read_text()
    )
    assert best["id"] == late.data.tags["bigpe.best"]


def test_a_changed_setting_is_told_beside_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    asyncio.run(half_a_run(tmp_path))
    export(tmp_path, "mlflow", tmp_path / "out")
    longer = {"run": {**CONFIG["run"], "rounds": 12}}
    asyncio.run(run_fake(tmp_path, longer))
    export(tmp_path, "mlflow", tmp_path / "out")
    _, (run,) = mlflow_runs(tmp_path / "out")
    assert run.data.params["run.rounds"] == "10"
    assert run.data.tags["bigpe.now.run.rounds"] == "12"


def test_wandb_has_an_offline_run_once(tmp_path: Path) -> None:
    asyncio.run(run_fake(tmp_path))
    first = Path(export(tmp_path, "wandb", tmp_path / "out"))
    again = Path(export(tmp_path, "wandb", tmp_path / "out"))
    (folder,) = (tmp_path / "out/wandb").glob("offline-run-*")
    assert folder == again and first.name.rpartition("-")[2] == again.name.rpartition("-")[2]
    rows, settings = logged(folder)
    gains = {int(row["round"]): row["round_gain"] for row in rows if "round_gain" in row}
    assert sorted(gains) == list(range(min(gains), min(gains) + 10))
    assert settings["run.rounds"] == "10"
    assert json.loads((folder / "files/best_instruction.json").read_text())["text"]


def logged(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What the run's own file says: rows of metrics, and the configuration."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]

    (path,) = folder.glob("run-*.wandb")
    rows: list[dict[str, Any]] = []
    settings: dict[str, Any] = {}
    for data in records(path.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        if record.HasField("history"):
            rows.append(
                {
                    item.key or ".".join(item.nested_key): json.loads(item.value_json)
                    for item in record.history.item
                }
            )
        if record.HasField("run"):
            settings |= {
                item.key or ".".join(item.nested_key): json.loads(item.value_json)
                for item in record.run.config.update
            }
    return rows, settings


def records(file: bytes) -> list[bytes]:
    """LevelDB's log format after a header of 7 bytes: blocks of 32 kB; crc, length and kind."""
    found: list[bytes] = []
    at, part = 7, b""
    while at < len(file):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", file, at + 4)
        part += file[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last of its pieces
            found.append(part)
            part = b""
    return found


def test_a_missing_library_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(run_fake(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    words = ["export", "-p", str(tmp_path), "--to", "wandb", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, words)
    assert "pip install 'bigpe[wandb]'" in str(done.exception)
