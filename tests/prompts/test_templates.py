"""System texts of roles: each slot is replaced once, whatever its value contains."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bigpe.prompts.templates import Template

VALUES = st.text() | st.lists(st.sampled_from(["<a>", "<b>", "<c>", "a", "<", r"\1", ""])).map(
    "".join
)


@given(a=VALUES, b=VALUES)
def test_a_slot_inside_a_value_stays_as_it_is(a: str, b: str) -> None:
    template = Template("A=<a> B=<b> A=<a> C=<c>", ())
    assert template.system_with(a=a, b=b) == f"A={a} B={b} A={a} C=<c>"


@given(system=st.text(), value=VALUES)
def test_a_text_without_slots_stays_as_it_is(system: str, value: str) -> None:
    template = Template(system.replace("<", "("), ())
    assert template.system_with(a=value) == template.system
