"""Policies, renderers and scorers of other packages, found by their entry points."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.plugin_packages import installed

from bigpe.agents.bandit.policies import PolicyConfig, make_policy
from bigpe.agents.messages.core import RewriteRequested
from bigpe.runtime.cli import cli
from bigpe.runtime.project.config import check_config
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.services import open_services
from bigpe.services.core import plugins
from bigpe.services.core.errors import ConfigError, PluginError
from bigpe.services.core.values import RenderRequest, ScoreRequest
from bigpe.services.store.call_cache import CallCache
from bigpe.services.store.database import Store
from bigpe.testing.runs import CONFIG, open_fake, run_fake, transcript

CODE = '''
"""Not the first line of anything."""
import math

class First:
    """Always the first arm.

    More of it."""
    def __init__(self, config):
        self.settings = config.options
    def select(self, arms, scale, rng):
        return arms[self.settings.get("index", 0)].id
    def upper_bound(self, arm, arms, scale):
        return arm.mean / scale if arm.count else math.inf
    def reward(self, arm, scale):
        return arm.mean / scale

class Lost(First):
    def select(self, arms, scale, rng):
        return "nowhere" if self.settings["how"] == "lost" else 1 / 0

class Grey:
    """One grey for everything."""
    def __init__(self, config, blobs):
        self._blobs, self._shade = blobs, config.options["shade"]
    async def open(self):
        return f"grey-{self._shade}"
    async def render(self, requests):
        import io
        from PIL import Image
        from bigpe.services.core.values import Image as Picture
        file = io.BytesIO()
        Image.new("L", (8, 8), self._shade).save(file, "PNG")
        return [Picture(digest=self._blobs.put(file.getvalue()), width=8, height=8)
                for _ in requests]
    async def close(self):
        pass

class Half:
    """Half a point for everything."""
    def __init__(self, config, blobs):
        pass
    async def open(self):
        return "half"
    async def score(self, requests):
        from bigpe.services.core.values import Score
        return [Score(value=0.5, fingerprint="half") for _ in requests]
    async def close(self):
        pass

'''
OFFERS = {
    "policies": {
        "first": "toys:First",
        "ucb1": "toys:First",
        "gone": "toys:Nobody",
        "lost": "toys:Lost",
    },
    "renderers": {"grey": "toys:Grey"},
    "scorers": {"half": "toys:Half"},
}


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = installed(tmp_path / "site", "toys", {"toys.py": CODE}, OFFERS)
    monkeypatch.syspath_prepend(folder)
    return folder


def test_what_is_installed_is_listed_with_its_package(toys: Path) -> None:
    command = [sys.executable, "-P", "-m", "bigpe", "policies", "list", "--json"]
    environment = os.environ | {"PYTHONPATH": str(toys)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    rows = {(row["name"], row["package"]): row["summary"] for row in json.loads(done.stdout)}
    assert rows["first", "toys 1.0"] == "Always the first arm."
    assert rows["ucb1", "bigpe"].startswith("mean")
    assert "never used" in rows["ucb1", "toys 1.0"]
    assert "cannot be loaded" in rows["gone", "toys 1.0"]


@pytest.mark.parametrize(
    ("kind", "names"), [("renderers", {"diffusers", "grey"}), ("scorers", {"clip", "half"})]
)
def test_renderers_and_scorers_are_listed_too(toys: Path, kind: str, names: set[str]) -> None:
    done = CliRunner().invoke(cli, [kind, "list", "--json"])
    assert names <= {row["name"] for row in json.loads(done.stdout)}


async def test_a_policy_of_another_package_drives_a_run(toys: Path, tmp_path: Path) -> None:
    config = {**CONFIG, "policy": {"name": "first", "options": {"index": 1}}}
    pulled: list[str] = []
    async with open_fake(tmp_path / "p", config) as session:
        async for message in session.run():
            if isinstance(message, RewriteRequested):
                pulled.append(message.instruction.text)
        second = session.coordinator.campaign.plan.instructions[1].instruction.text
        assert session.complete
    assert pulled[0] == second, "its option was heard"
    await run_fake(tmp_path / "again", config)
    assert transcript(tmp_path / "p") == transcript(tmp_path / "again")


@pytest.mark.parametrize(("how", "cause"), [("lost", "no arm"), ("fails", "ZeroDivisionError")])
async def test_a_policys_mistake_ends_the_run_in_its_name(
    toys: Path, tmp_path: Path, how: str, cause: str
) -> None:
    with pytest.raises(PluginError, match=f"'lost' of another package failed: .*{cause}"):
        await run_fake(tmp_path, {**CONFIG, "policy": {"name": "lost", "options": {"how": how}}})


async def test_renderer_and_scorer_of_another_package_serve_a_run(
    toys: Path, tmp_path: Path
) -> None:
    raw = {"render": {"backend": "grey", "options": {"shade": 77}}, "score": {"backend": "half"}}
    config = check_config(raw, where="here")
    project = Project(tmp_path)
    async with (
        Store(project.database) as store,
        open_services(config, project, CallCache(store), CallCache(store), run="r") as services,
    ):
        image = await services.render.render(RenderRequest(prompt="x", seed=1))
        score = await services.score.score(ScoreRequest(image=image.digest, prompt="x"))
    assert (image.width, score.value) == (8, 0.5)


def test_what_nobody_offers_is_refused_with_those_there_are(toys: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy\.name: there is no 'best'.*first, gone, greedy"):
        check_config({"policy": {"name": "best"}}, where="here")
    with pytest.raises(ConfigError, match=r"render\.backend: there is no 'http9'.*diffusers"):
        check_config({"render": {"backend": "http9"}}, where="here")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        make_policy(PolicyConfig(name="gone"))


async def test_a_plugin_that_refuses_its_settings_is_told_as_a_mistake(
    toys: Path, tmp_path: Path
) -> None:
    config = check_config({"render": {"backend": "grey"}}, where="here")
    project = Project(tmp_path)
    async with Store(project.database) as store:
        with pytest.raises(ConfigError, match="'grey' of bigpe.renderers cannot be made"):
            async with open_services(config, project, CallCache(store), CallCache(store), run="r"):
                pass


def test_a_name_that_two_packages_offer_is_refused(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offers = {"policies": {"first": "others:Other"}}
    monkeypatch.syspath_prepend(installed(tmp_path / "other", "others", {"others.py": ""}, offers))
    with pytest.raises(ConfigError, match=r"others 1\.0 and toys 1\.0; uninstall one"):
        plugins.load("policies", "first")
