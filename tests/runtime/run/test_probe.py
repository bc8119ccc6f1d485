"""A probe of each model of a project: what it says of servers of all kinds."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.http_llm import FakeServer, says
from support.probed_servers import (
    Quirk,
    answers,
    knows_no_model,
    like_gpt5,
    llm_section,
    refuses_the_key,
    thinking,
    without_schema,
)

from bigpe.runtime.cli import cli
from bigpe.runtime.cli.run.run import report
from bigpe.runtime.project.config import check_config
from bigpe.runtime.project.paths import Project
from bigpe.runtime.project.prices import PriceTable
from bigpe.runtime.run.probe.probe import Probed, plan_probe, probe
from bigpe.runtime.run.probe.rows import ProbeReport, ProbeRow
from bigpe.services.core.values import Image, RenderRequest
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fakes import FakeRenderer, FakeScorer
from bigpe.testing.runs import open_fake


async def probed(
    folder: Path, llm: dict[str, Any], renderer: FakeRenderer | None = None, **sections: Any
) -> Probed:
    config = check_config({"llm": {"default": llm}, **sections}, where="here")
    blobs = BlobStore(Project(folder).images)
    listened: list[ProbeRow] = []
    done = await probe(
        plan_probe(config, Project(folder)),
        listened.append,
        renderer=renderer or FakeRenderer(blobs),
        scorer=FakeScorer(blobs),
    )
    assert listened == done.report.rows
    return done


def row(done: Probed, check: str) -> ProbeRow:
    (found,) = [row for row in done.report.rows if row.check == check]
    return found


def verdicts(done: Probed) -> dict[str, str]:
    return {row.check: row.verdict for row in done.report.rows}


ALL = ("answers", "thinking", "rewrites", "repeats", "schema", "vision", "parameters")
PICTURES = {"paints": "ok", "prompts": "ok"}
GOOD: dict[str, str] = dict.fromkeys(ALL, "ok") | PICTURES


@pytest.mark.parametrize(
    ("quirk", "different"),
    [
        (None, {}),
        (like_gpt5, {"parameters": "note"}),
        (without_schema, {"parameters": "note"}),
        (thinking, {}),
    ],
)
async def test_a_server_that_bigpe_can_use_gets_no_fault(
    server: FakeServer, tmp_path: Path, quirk: Quirk | None, different: dict[str, str]
) -> None:
    server.replies = [answers(server, quirk)]
    done = await probed(tmp_path, llm_section(server.url, vision=True))
    found = verdicts(done)
    found.pop("scores")  # the fake scorer's noise decides which picture is better
    assert found == GOOD | different, [row.finding for row in done.report.rows]
    assert done.report.exit_code == 0
    assert row(done, "rewrites").figures["text"].endswith("wild roses")
    assert row(done, "thinking").figures["thinks"] == (quirk is thinking)
    assert row(done, "vision").figures["sees"] and row(done, "schema").figures["kept"]
    assert done.forecast is not None and done.forecast.minutes is not None
    assert done.forecast.usd is None, "no price of this model is known"
    assert done.calls["llm"] == 5 and done.calls["render"] == 2


@pytest.mark.parametrize("quirk", [refuses_the_key, knows_no_model])
async def test_a_wrong_setting_is_one_row_and_exit_code_2(
    server: FakeServer, tmp_path: Path, quirk: Quirk
) -> None:
    server.replies = [answers(server, quirk)]
    done = await probed(tmp_path, llm_section(server.url))
    found = verdicts(done)
    found.pop("scores")
    assert found == {"answers": "fault"} | PICTURES
    assert row(done, "answers").configuration and done.report.exit_code == 2
    assert len(server.requests) == 1
    assert done.forecast is not None and done.forecast.minutes is None


async def test_a_server_that_is_down_is_no_wrong_setting(tmp_path: Path) -> None:
    done = await probed(tmp_path, llm_section("http://127.0.0.1:9/v1"))
    assert verdicts(done)["answers"] == "fault" and done.report.exit_code == 1
    assert "127.0.0.1:9" in row(done, "answers").finding


async def test_a_missing_key_is_a_wrong_setting(tmp_path: Path) -> None:
    done = await probed(tmp_path, llm_section("http://127.0.0.1:9/v1", api_key_env="NO_SUCH_KEY"))
    assert "NO_SUCH_KEY" in row(done, "opens").finding and done.report.exit_code == 2


async def test_a_model_that_rewrites_nothing_is_a_fault_with_what_it_wrote(
    server: FakeServer, tmp_path: Path
) -> None:
    server.replies = [answers(server, lambda request, text: says("I'm sorry, but I can't help."))]
    done = await probed(tmp_path, llm_section(server.url))
    assert row(done, "rewrites").verdict == "fault" and done.report.exit_code == 1
    assert "can't help" in row(done, "rewrites").finding


async def test_two_answers_to_one_request_are_noted(server: FakeServer, tmp_path: Path) -> None:
    number = count()
    server.replies = [answers(server, lambda request, text: says(f"{text}, number{next(number)}"))]
    done = await probed(tmp_path, llm_section(server.url))
    assert row(done, "repeats").verdict == "note" and done.report.exit_code == 0


class Grid(FakeRenderer):
    """Paints one picture, whatever the prompt."""

    def _one(self, request: RenderRequest) -> Image | Exception:
        return super()._one(RenderRequest(prompt="grid", seed=1))


async def test_two_prompts_with_one_picture_are_a_fault(server: FakeServer, tmp_path: Path) -> None:
    server.replies = [answers(server)]
    renderer = Grid(BlobStore(Project(tmp_path).images))
    done = await probed(tmp_path, llm_section(server.url), renderer)
    assert row(done, "prompts").verdict == "fault" and done.report.exit_code == 2


class BySeed(FakeRenderer):
    """Paints by the seed alone, as a workflow without its placeholder does."""

    def _one(self, request: RenderRequest) -> Image | Exception:
        return super()._one(RenderRequest(prompt="grid", seed=request.seed))


@pytest.mark.parametrize(("renderer", "rounds"), [(Grid, 0), (BySeed, 3)])
async def test_a_run_of_such_a_renderer_ends_with_its_cause(
    tmp_path: Path, renderer: type[FakeRenderer], rounds: int, capsys: pytest.CaptureFixture[str]
) -> None:
    painter = renderer(BlobStore(Project(tmp_path).images))
    async with open_fake(tmp_path, renderer=painter) as session:
        async for _ in session.run():
            pass
        assert await report(session, as_json=False) == 1
        assert session.coordinator.campaign.applied <= rounds  # rounds in flight end
    printed = " ".join(capsys.readouterr().out.split())
    assert "does not reach the renderer" in printed and "best:" not in printed


@pytest.mark.parametrize(("answer", "probes"), [("n\n", 0), ("y\n", 1)])
def test_init_offers_the_probe_at_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, probes: int
) -> None:
    folders: list[Path] = []

    def fake_probe(folder: Path) -> Probed:
        folders.append(folder)
        return Probed(ProbeReport(list[ProbeRow]().append), None, {}, PriceTable([]))

    monkeypatch.setattr("bigpe.runtime.cli.project.init.run_probe", fake_probe)
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    command = ["init", str(tmp_path / "p"), "--template", "sdxl-turbo"]
    assert CliRunner().invoke(cli, command, input=answer).exit_code == 0
    assert len(folders) == probes
    assert CliRunner().invoke(cli, [*command[:1], str(tmp_path / "q"), "--no-probe"]).exit_code == 0


async def test_the_forecast_counts_settings_prices_and_budgets(
    server: FakeServer, tmp_path: Path
) -> None:
    server.replies = [answers(server)]
    done = await probed(
        tmp_path,
        llm_section(server.url),
        run={"rounds": 4, "batch_size": 3, "pilot_prompts": 2},
        data={"professional": False},
        prices={"llm": {"default": {"prompt": 1e6, "completion": 0}}, "render": 0.5, "score": 0},
        budget={"renders": 20},
    )
    forecast = done.forecast
    assert forecast is not None
    assert (forecast.llm_calls, forecast.pictures, forecast.scores) == (4 * 3 + 12, 28, 28)
    assert forecast.limit == "renders"
    # 7 tokens of a rewrite, and the assumed size of the other requests.
    assert forecast.usd == pytest.approx(12 * 7 + 12 * 4000 + 0.5 * 28)


def test_the_command_prints_json_and_exits_with_the_fault(
    server: FakeServer, tmp_path: Path
) -> None:
    server.replies = [answers(server, refuses_the_key)]
    config = check_config({"llm": {"default": llm_section(server.url)}}, where="here")
    section = config.llm["default"].model_dump(mode="json", exclude_defaults=True)
    lines = [f"provider = {json.dumps(section['provider'])}", "[llm.default.config]"]
    lines += [f"{k} = {json.dumps(section['config'][k])}" for k in ("model", "base_url")]
    lines += ["[llm.default.config.model_info]"]
    lines += [f"{k} = {json.dumps(v)}" for k, v in section["config"]["model_info"].items()]
    (tmp_path / "bigpe.toml").write_text("\n".join(["[llm.default]", *lines]))
    done = CliRunner().invoke(cli, ["config", "check", "--probe", "--json", "-p", str(tmp_path)])
    assert done.exit_code == 2, done.output
    result = json.loads(done.stdout)["probe"]
    assert result["exit_code"] == 2
    assert {row["check"] for row in result["rows"] if row["verdict"] == "fault"} == {"answers"}
    assert "language model calls" in done.stderr, "it says before what it asks for"
