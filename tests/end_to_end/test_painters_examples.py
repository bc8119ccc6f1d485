"""The ComfyUI node and the A1111 script of docs/examples, loaded as their hosts load them.

The hosts themselves are not run. bigpe is: as a program, on the embedded language model.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from support.paths import ROOT

from bigpe.runtime.sharing.published_instruction import (
    PublishedInstruction,
    PublishedModels,
    Training,
    write_published,
)
from bigpe.services.core.values import Exemplar, Instruction

EXAMPLES = ROOT / "docs/examples"


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A published instruction."""
    displayed = ("a lamp on a desk", "a hat on a chair")
    instruction = Instruction(
        text="Add golden light.",
        exemplars=tuple(
            Exemplar(naive=naive, rewrite=f"{naive}, golden light, soft focus")
            for naive in displayed
        ),
    )
    published = PublishedInstruction(
        id=instruction.id,
        instruction=instruction,
        run="main",
        bigpe="0.1.0",
        data="world",
        models=PublishedModels(llm="smollm2-135m", renderer="embedded", scorer="embedded"),
        training=Training(pulls=0, gains=0, mean=None, lo=None, hi=None),
    )
    write_published(published, tmp_path / "found", "# card\n")
    return str(tmp_path / "found")


@pytest.fixture(autouse=True)
def this_bigpe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BIGPE", str(Path(sys.executable).parent / "bigpe"))
    monkeypatch.chdir(tmp_path)


def loaded(path: Path, name: str) -> Any:
    """As ComfyUI and the web UI do."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_comfyui_node(source: str) -> None:
    module = loaded(EXAMPLES / "comfyui-bigpe/__init__.py", "comfyui-bigpe")
    assert set(module.NODE_CLASS_MAPPINGS) == set(module.NODE_DISPLAY_NAME_MAPPINGS)
    (node,) = module.NODE_CLASS_MAPPINGS.values()
    inputs = node.INPUT_TYPES()["required"]
    assert all(kind[0] in ("STRING", "INT") for kind in inputs.values())
    assert len(node.RETURN_TYPES) == len(node.RETURN_NAMES) and node.CATEGORY
    work = getattr(node(), node.FUNCTION)
    (text,) = work(text="a red boat\non the lake", source=source, seed=0)
    assert "boat" in text and text != "a red boat on the lake"
    assert work(text=" ", source=source, seed=0) == (" ",), "nothing to refine"
    with pytest.raises(RuntimeError, match="bigpe refine"):
        work(text="a boat", source="--help", seed=0)


def test_the_a1111_script(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    host = ModuleType("modules.scripts")
    host.Script, host.AlwaysVisible = type("Script", (), {}), object()  # pyright: ignore[reportAttributeAccessIssue]
    package = ModuleType("modules")
    package.scripts = host  # pyright: ignore[reportAttributeAccessIssue]
    for name, module in (
        ("modules", package), ("modules.scripts", host), ("gradio", ModuleType("gradio"))
    ):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)
    script = loaded(EXAMPLES / "a1111-bigpe/scripts/bigpe.py", "a1111_bigpe").Script()
    assert script.show(False) is host.AlwaysVisible and script.title()
    naive = "a red boat on the lake <lora:film:0.8>"
    p = SimpleNamespace(
        all_prompts=[naive, naive], all_hr_prompts=[naive, "as it is"],
        all_negative_prompts=["a red boat on the lake"] * 2, extra_generation_params={},
    )  # fmt: skip
    script.process(p, False, source)
    assert p.all_prompts == [naive, naive]
    script.process(p, True, source)
    assert p.all_prompts[0] == p.all_prompts[1] != naive
    assert p.all_prompts[0].endswith(" <lora:film:0.8>") and "boat" in p.all_prompts[0]
    assert p.all_hr_prompts == [p.all_prompts[0], "as it is"]
    assert p.all_negative_prompts == ["a red boat on the lake"] * 2
    assert p.extra_generation_params == {"Naive prompt": naive}
