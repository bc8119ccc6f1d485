"""`[data] professional`: which professional prompts a run stores and searches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bigpe.agents.messages.core import RunStarted
from bigpe.prompts.library import professional_prompts
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.project.professional import (
    ProfessionalChoice,
    library_for,
    own_professional,
    professional_choice,
    store_professional,
)
from bigpe.services.core.errors import ConfigError
from bigpe.services.prompt_data.library import PromptLibrary
from bigpe.services.store.database import Store
from bigpe.testing.runs import CONFIG, messages_of, run_fake

SDXL = {"model": "stabilityai/sdxl-turbo"}
FLUX = {"model": "black-forest-labs/FLUX.1-dev"}
OTHER = {"model": "somebody/a-model-of-mine"}


def config(professional: bool | str, render: dict[str, Any] | None = None) -> BigpeConfig:
    raw = {"data": {"professional": professional}, "render": render or {}}
    return BigpeConfig.model_validate(raw)


@pytest.mark.parametrize(
    ("professional", "render", "packaged"),
    [
        ("auto", {}, ("world",)),
        (True, {}, ("world",)),
        ("auto", SDXL, ("tags",)),
        (True, FLUX, ("prose",)),
        ("auto", OTHER, ("prose", "tags")),
        ("world", SDXL, ("world",)),
        ("prose", SDXL, ("prose",)),
        ("tags", {}, ("tags",)),
        ("general", {}, ("prose", "tags")),
        (False, FLUX, ()),
    ],
)
def test_the_painter_decides_unless_the_setting_does(
    professional: bool | str, render: dict[str, Any], packaged: tuple[str, ...]
) -> None:
    assert professional_choice(config(professional, render)) == ProfessionalChoice(packaged)  # type: ignore[arg-type]


def test_auto_and_true_are_one_setting() -> None:
    assert config("auto") == config(True) == BigpeConfig()


async def test_a_search_finds_the_wanted_sets_and_the_projects_own(tmp_path: Path) -> None:
    async with Store(tmp_path / "p.db") as store:
        for wanted in ("world", "prose", "tags"):
            await store_professional(config(wanted), store, tmp_path)
        await PromptLibrary(store).add(["my lighthouse, ink"], source="own.txt", license="mine")
        for wanted in ("world", "prose", "tags"):
            existing = {prompt.text for prompt in professional_prompts(wanted)}
            found = set(await library_for(config(wanted), store).search("lighthouse castle", 50))
            assert found - existing == {"my lighthouse, ink"} and found & existing, wanted
        assert await library_for(config(False), store).search("lighthouse", 9) == []


async def test_a_file_takes_the_place_of_packaged_prompts(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("prompt\nmy lighthouse\nmy teapot\n")
    own = config("mine.csv")
    assert own_professional(own, tmp_path) == ("my lighthouse", "my teapot")
    async with Store(tmp_path / "p.db") as store:
        await store_professional(config("prose"), store, tmp_path)
        await store_professional(own, store, tmp_path)
        assert await library_for(own, store).search("lighthouse", 9) == ["my lighthouse"]
        assert ("mine.csv", "unknown", 2) in await PromptLibrary(store).counts()


def test_a_name_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[data\] professional = 'wrold'"):
        own_professional(config("wrold"), tmp_path)


async def test_a_run_has_the_prompts_of_its_set_alone(tmp_path: Path) -> None:
    run = {**CONFIG["run"], "rounds": 1}
    data = {"naive": "general", "professional": "prose"}
    await run_fake(tmp_path, {"run": run, "data": data})
    async with Store(tmp_path / "bigpe.db", read_only=True) as store:
        counts = await PromptLibrary(store).counts()
    assert counts == [("bigpe prose", "CC0-1.0", len(professional_prompts("prose")))]
    (start,) = messages_of(tmp_path, RunStarted)
    assert set(start.plan.professional) == set(start.plan.train)
