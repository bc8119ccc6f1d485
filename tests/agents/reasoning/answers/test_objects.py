"""JSON is found anywhere in an answer: among other text, in another object, slightly broken."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from bigpe.agents.reasoning.answers.objects import find_object


class Wanted(BaseModel):
    instruction: str


TEXT = 'Add light, and say "why"; it\'s {so} [much]:\n夕焼け 🦊'
GOOD = json.dumps({"instruction": TEXT})
FORMS = {
    "alone": GOOD,
    "pretty": json.dumps({"instruction": TEXT}, indent=2, ensure_ascii=False),
    "leading lines": f"\n\n{GOOD}\n",
    "fence": f"```json\n{GOOD}\n```",
    "fence without a language": f"```\n{GOOD}\n```",
    "preamble": f"Here is the JSON you asked for:\n\n```json\n{GOOD}\n```\n",
    "trailing words": f"{GOOD}\nLet me know if {{you}} want more.",
    "thoughts": f'<think>maybe {{"instruction": "a draft"}}</think>\n{GOOD}',
    "unopened thoughts": f'maybe {{"instruction": "a draft"}}</think>{GOOD}',
    "another object first": f'{{"note": "x"}} {GOOD}',
    "braces first": f"I follow {{a|b}} and [c]. {GOOD}",
    "nested": json.dumps({"answer": {"result": {"instruction": TEXT}}}),
    "list": f"[{GOOD}]",
    "more fields": json.dumps({"change": "light", "instruction": TEXT}),
    "a comma too many": f"{GOOD[:-1]},}}",
    "python": repr({"instruction": TEXT}),
    "raw line breaks": GOOD.replace("\\n", "\n"),
}


@pytest.mark.parametrize("form", list(FORMS))
def test_the_object_that_fits_is_found_whole(form: str) -> None:
    found = find_object(FORMS[form], Wanted)
    assert found is not None and found.instruction == TEXT


@pytest.mark.parametrize(
    "raw",
    [
        '{"instruction": "Add light."',
        "{instruction: 'Add light.'}",
        "{“instruction”: “Add light.”}",
        '{"instruction": "Add light." // why\n}',
    ],
)
def test_slight_faults_are_mended(raw: str) -> None:
    assert find_object(raw, Wanted) == Wanted(instruction="Add light.")


@pytest.mark.parametrize(
    "raw",
    ["", "Add light.", '{"text": "Add light."}', "[1, 2]", "{" * 5000, "[" * 5000, '{"a":' * 900],
)
def test_what_has_no_such_object_has_none(raw: str) -> None:
    assert find_object(raw, Wanted) is None


@given(
    before=st.text(st.characters(exclude_characters="<[{"), max_size=60),
    text=st.text(min_size=1),
    after=st.text(max_size=60),
)
def test_any_object_is_found_after_any_words(before: str, text: str, after: str) -> None:
    raw = f"{before} {json.dumps({'instruction': text})} {after}"
    assert find_object(raw, Wanted) == Wanted(instruction=text)
