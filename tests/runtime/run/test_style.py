"""The style of a configuration: what it warns of."""

from __future__ import annotations

import pytest

from bigpe.runtime.run.style import language_note


@pytest.mark.parametrize(
    ("style", "prompts", "warns"),
    [
        ("evidence-worded", ["夕陽下的貓", "a cat"], True),
        ("evidence-worded", ["рыжая кошка"], True),
        ("evidence-worded", ["a café à Paris", "Übergröße", "a 🌅 cat"], False),
        ("evidence-worded", ["a cat"] * 30 + ["кошка"], False),
        ("free-form", ["夕陽下的貓"], False),
    ],
)
def test_the_style_for_english_warns_of_other_scripts(
    style: str, prompts: list[str], warns: bool
) -> None:
    assert bool(language_note(style, prompts)) is warns
