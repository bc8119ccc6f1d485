"""What a painter asks of rewrites: length, trigger words, negative prompts, JSON objects."""

from __future__ import annotations

import json

import pytest

from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.reasoning.answers.json_prompt import read_json_prompt
from bigpe.agents.reasoning.rewriting import CheckedRewrite, check_rewrite
from bigpe.agents.reasoning.rules import (
    EMBEDDED_REWRITES,
    PainterRules,
    ReasoningConfig,
    rewrite_rules,
)


class Model:
    """A language model."""

    def __init__(self, *, embedded: bool) -> None:
        self.embedded = embedded
        self.thinks = False


CAPABLE = Model(embedded=False)
PAINTER = PainterRules(max_words=5, protect=("ohwx",))


def checked(naive: str, raw: str, *, negative: bool = False, **painter: bool) -> CheckedRewrite:
    given = PAINTER.model_copy(update=painter)
    rules = rewrite_rules(CAPABLE, ReasoningConfig(), given, negative=negative)
    return check_rewrite(naive, raw, None, rules=rules)


def test_the_painter_gives_the_default_of_the_length() -> None:
    long = checked("a cat", "a cat that sits on a long red wall")
    assert long.fault is not None and long.fault.code == AnswerFault.TOO_LONG
    own = ReasoningConfig.model_validate({"generator": {"max_words": 9}, "protect": ["x"]})
    rules = rewrite_rules(CAPABLE, own, PAINTER)
    assert (rules.max_words, rules.protect) == (9, ("x", "ohwx"))


def test_the_rules_of_the_embedded_model_do_not_depend_on_the_painter() -> None:
    embedded = rewrite_rules(Model(embedded=True), ReasoningConfig(), PAINTER, negative=True)
    assert embedded == EMBEDDED_REWRITES


def test_trigger_words_stay() -> None:
    lost = checked("ohwx cat", "a tabby cat")
    assert lost.fault is not None and lost.fault.code == AnswerFault.PROTECTED
    assert checked("ohwx cat", "ohwx tabby cat").fault is None


@pytest.mark.parametrize(("wanted", "kept"), [(True, "rain"), (False, "")])
def test_a_negative_prompt_is_kept_where_it_is_wanted(wanted: bool, kept: str) -> None:
    found = checked(
        "a cat", "<prompt>a tabby cat</prompt><negative>rain</negative>", negative=wanted
    )
    assert (found.text, found.negative, found.fault) == ("a tabby cat", kept, None)
    same = checked("a cat", "<prompt>a cat</prompt><negative>rain</negative>", negative=wanted)
    assert (same.fault is None) == wanted, "a negative prompt is a change of the picture"


OBJECT = {"subject": "a cat", "style": {"light": "low"}, "text": ['"Öl"']}


@pytest.mark.parametrize(
    "raw",
    [
        "<prompt>{}</prompt>",
        '<think>{{"a": 1}}</think>\n```json\n{}\n```',
        "Here is the prompt:\n{}",
        "<prompt>{}</prompt>\n<negative>rain</negative>",
    ],
)
def test_a_json_object_stays_one(raw: str) -> None:
    found = read_json_prompt(raw.format(json.dumps(OBJECT, indent=2)))
    assert json.loads(found.text) == OBJECT
    assert "\n" not in found.text
    assert found.negative == ("rain" if "negative" in raw else "")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("a tabby cat at dawn", AnswerFault.NO_PROMPT),
        ("<think>hm</think>", AnswerFault.ONLY_THOUGHT),
        ("I'm sorry, but I can't help with that.", AnswerFault.REFUSED),
        ("", AnswerFault.EMPTY),
    ],
)
def test_an_answer_without_an_object(raw: str, code: AnswerFault) -> None:
    assert read_json_prompt(raw).fault == code
    assert checked("a cat", raw, json_object=True).fault is not None
