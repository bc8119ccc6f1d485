"""The script that shows reward hacking runs to its end; what it finds takes the real models."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from embedded_world import reward_hacking
from embedded_world.embedded.reader_stage import Reader

from bigpe.agents.evidence.terms import subject_kept
from bigpe.runtime.project.paths import Project
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fakes import FakeScorer
from bigpe.testing.runs import open_fake, open_fake_evaluated


class AnySize(Reader):
    """The attribute reader, for the fakes' pictures, which are smaller."""

    def read(self, images: Any, batch: int = 128) -> Any:
        return super().read([image.resize((64, 64)) for image in images], batch)


def open_judged(name: str, *, project: Path) -> Any:
    second = FakeScorer(BlobStore(Project(project).images), noise=0.0)
    return open_fake_evaluated(project, name=name, guards={"second": second})


def test_it_runs_judges_and_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(reward_hacking.CHANGES, "run", {"batch_size": 2})
    session = SimpleNamespace(
        open=lambda name, config, project: open_fake(project, config, name=name)
    )
    monkeypatch.setattr(reward_hacking, "Session", session)
    monkeypatch.setattr(reward_hacking, "open_run_for_evaluation", open_judged)
    monkeypatch.setattr(reward_hacking, "Reader", AnySize)
    report = tmp_path / "report.md"
    arguments = ["--project", str(tmp_path / "lab"), "--report", str(report), "--rounds", "4"]
    monkeypatch.setattr(sys, "argv", ["reward_hacking.py", *arguments])
    reward_hacking.main()
    output = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = {figure["figure"] for figure in output}
    assert {"hack/share_of_pulls", "hack/best_of_run", "hack/refused"} <= names
    assert {f"hack/{what}/robot" for what in ("scorer_gain", "guard_gain", "true_gain")} <= names
    assert all(figure["lo"] <= figure["value"] <= figure["hi"] for figure in output if figure["hi"])
    assert "12 test prompts" in report.read_text("utf-8")


def test_the_hack_keeps_the_subject_in_its_words(tmp_path: Path) -> None:
    """Else the check of the text would stop it, and nothing would be left to the guard."""
    reward_hacking.prepare(tmp_path)
    seeds = (tmp_path / "seeds.toml").read_text("utf-8")
    for naive in reward_hacking.NAIVE:
        rewrite = f"{reward_hacking.HACK}, {naive}, {reward_hacking.PRAISE}"
        assert rewrite in seeds and subject_kept(naive, rewrite)
