"""What language models read about a scorer."""

from __future__ import annotations

from typing import Any

import pytest

from bigpe.services.models.embedded import scorer_path
from bigpe.services.score.description import described_scorer
from bigpe.services.score.published_scorers import PUBLISHED_SCORERS
from bigpe.services.score.service import ScoreConfig

OTHERS: tuple[dict[str, Any], ...] = (
    {"model": "embedded"},
    {"model": "embedded-guard"},
    {"backend": "hpsv2-package", "model": "hpsv2"},
    {"model": str(scorer_path())},
    {"backend": "bigpe"},
)


@pytest.mark.parametrize(
    "settings", [*({"model": name} for name in PUBLISHED_SCORERS), *OTHERS], ids=str
)
def test_each_scorer_says_what_it_rates_and_which_direction_is_better(
    settings: dict[str, Any],
) -> None:
    text = described_scorer(ScoreConfig.model_validate(settings))
    assert "short prompt" in text
    assert text.endswith("Higher is better.")
    assert str(scorer_path().parent) not in text, "no path of this machine"


def test_published_scorers_are_told_apart() -> None:
    texts = {described_scorer(ScoreConfig(model=name)) for name in PUBLISHED_SCORERS}
    assert len(texts) == len(PUBLISHED_SCORERS)
