"""The settings of the search: the style's where the configuration has none."""

from __future__ import annotations

from typing import Any

import pytest

from bigpe.runtime.project.config import check_config
from bigpe.runtime.run.resume.setting_changes import compare
from bigpe.runtime.run.style import as_automatic, search_settings
from bigpe.services.core.errors import ConfigError


def config(**sections: Any) -> Any:
    return check_config(sections, where="a test")


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("evidence-worded", ("ucb1", "shared", 1)),
        ("free-form", ("lineage", "fresh", 2)),
        ("of-a-package", ("lineage", "fresh", 1)),
    ],
)
def test_each_style_has_its_own(style: str, expected: tuple[str, str, int]) -> None:
    found = search_settings(config(), style, 20)
    assert (found.policy.name, found.batches, found.proposals) == expected
    assert search_settings(config(), style, 5).batches == "shared", "a batch is all prompts"


def test_the_configuration_wins() -> None:
    own = config(policy={"name": "ucb1"}, data={"batches": "shared"}, run={"proposals": 4})
    found = search_settings(own, "free-form", 20)
    assert (found.policy.name, found.batches, found.proposals) == ("ucb1", "shared", 4)
    assert as_automatic(own, "free-form") == own


@pytest.mark.parametrize(
    ("sections", "style", "train"),
    [
        ({"data": {"batches": "fresh"}}, "free-form", 5),
        ({"run": {"proposals": 2}}, "evidence-worded", 20),
    ],
)
def test_what_has_no_effect_is_refused(sections: Any, style: str, train: int) -> None:
    with pytest.raises(ConfigError):
        search_settings(config(**sections), style, train)


def test_what_a_style_prefers_is_no_change_and_no_other_cell() -> None:
    usual, named = config(), config(policy={"name": "ucb1"}, data={"batches": "shared"})
    assert compare(named, usual) == []
    assert [c.key for c in compare(config(policy={"name": "greedy"}), usual)] == ["policy.name"]
    assert as_automatic(named, "evidence-worded") == usual
