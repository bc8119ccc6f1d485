"""What each kind of message says, for a terminal and for a page."""

from __future__ import annotations

from typing import get_args

import pytest

from bigpe.agents.messages.core import AnyMessage, Message, PlanChanged, RunStopped, StepFailed
from bigpe.runtime.transcript.describing.messages import describe, describe_row
from bigpe.runtime.transcript.describing.parts import Preformatted, summary, terminal_lines
from bigpe.runtime.transcript.search import TranscriptRow

KINDS: tuple[type[Message], ...] = get_args(get_args(AnyMessage)[0])
HEAD = {"mid": "0" * 32, "run": "main", "parent": "", "round": 1}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_of_message_has_a_description(kind: type[Message]) -> None:
    assert describe.dispatch(kind) is not describe.dispatch(Message)


def failed(**fields: object) -> StepFailed:
    step: dict[str, object] = {
        "step": "x",
        "step_kind": "RenderRequested",
        "actor": "renderer",
        "error": "OSError",
    }
    image = {"purpose": "rewrite", "naive": "a cat", "seed": 1, "rendered": False}
    step["scope"] = {"lost": "image", **image}
    return StepFailed.model_validate(
        {**HEAD, **step, "cause": "no\nmemory", "attempt": 2, "will_retry": True, **fields}
    )


def test_a_summary_holds_what_the_details_of_a_failure_say() -> None:
    description = describe(failed())
    headline, *details = terminal_lines(description)
    assert '"no memory"' in summary(description) and '"no memory"' not in headline
    assert details == ['  "no memory"']
    assert '"a cat"' in headline


def test_a_folded_text_is_left_out_of_the_terminal() -> None:
    description = describe(failed(raw="a long answer"))
    folded = [part for part in description.details if isinstance(part, Preformatted) and part.title]
    assert [part.text for part in folded] == ["a long answer"]
    assert "a long answer" not in "".join(terminal_lines(description))


def test_no_control_character_reaches_a_terminal() -> None:
    stopped = RunStopped.model_validate({**HEAD, "reason": "\x1b[2J", "best": "\x07" * 64})
    assert all(line.isprintable() for line in terminal_lines(describe(stopped)))
    cause = failed(cause="\x1b[2J", error="\x07")
    assert all(line.isprintable() for line in terminal_lines(describe(cause)))


@pytest.mark.parametrize("body", ['{"kind": "Odd"}', '{"kind": "PlanChanged", "rounds": 0}'])
def test_an_unreadable_message_is_shown_as_its_json(body: str) -> None:
    row = TranscriptRow(1, "0" * 32, "Odd", "someone", "", 0, body, 0.0, 0, 0.0)
    description = describe_row(row)
    assert "Odd" in summary(description)
    assert [part.text for part in description.details if isinstance(part, Preformatted)]


def test_a_kind_without_an_entry_is_shown_as_its_json() -> None:
    class Odd(Message):
        kind: str = "Odd"

    assert "Odd" in summary(describe(Odd.model_validate(HEAD)))
    assert describe.dispatch(PlanChanged) is not describe.dispatch(Odd)
