"""`bigpe.integrations.diffusers`: a pipeline paints what the instruction made of its prompts."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from support.paths import import_path

from bigpe.agents.reasoning.constraints import Constraints
from bigpe.integrations.diffusers import KeptPromptWarning, RefinedPipeline, refined
from bigpe.services.core.errors import ConfigError, LlmError, ServiceError
from bigpe.services.core.values import Exemplar, Instruction
from bigpe.services.llm.service import LlmConfig
from bigpe.services.models import embedded
from bigpe.testing.fakes import FakeLlm

SHOWN = Instruction(
    text="Add a word.", exemplars=(Exemplar(naive="a lamp", rewrite="a lamp, golden"),)
)


class Recorder:
    """Takes a pipeline's arguments, and gives them back."""

    def __init__(self) -> None:
        self.device = "cpu"
        self.scheduler = "euler"

    def __call__(
        self,
        prompt: str | list[str] | None = None,
        prompt_2: str | list[str] | None = None,
        height: int = 64,
        *,
        negative_prompt: str | None = None,
        prompt_embeds: Any = None,
    ) -> dict[str, Any]:
        return {key: value for key, value in locals().items() if key != "self"}

    def to(self, device: str) -> Recorder:
        self.device = device
        return self


class CountingLlm(FakeLlm):
    """Counts its calls; fails for prompts that say so."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def create(self, messages: Sequence[Any], **kwargs: Any) -> Any:
        self.calls += 1
        if "broken" in str(messages[-1].content):
            raise LlmError("the model is out of order")
        return await super().create(messages, **kwargs)


def wrapped(llm: FakeLlm | None = None, **options: Any) -> RefinedPipeline:
    return refined(Recorder(), instruction=SHOWN, llm=llm or FakeLlm(), **options)


def test_a_prompt_is_refined_wherever_it_is_given() -> None:
    with wrapped() as pipe:
        by_place = pipe("a cat", None, 32)
        by_name = pipe(height=32, prompt="a cat")
    assert by_place == by_name
    assert by_place["prompt"].startswith("a cat, golden") and by_place["height"] == 32
    assert [(rewrite.naive, rewrite.text) for rewrite in pipe.rewrites] == [
        ("a cat", by_name["prompt"])
    ]


def test_a_batch_keeps_its_order_and_repeats_are_asked_about_once() -> None:
    llm = CountingLlm()
    with wrapped(llm) as pipe:
        painted = pipe(["a cat", "a dog", "a cat", ""])["prompt"]
        assert [text.split(",")[0] for text in painted] == ["a cat", "a dog", "a cat", ""]
        assert painted[0] == painted[2] != painted[1]
        assert pipe("a dog")["prompt"] == painted[1]
    assert llm.calls == 2


def test_only_the_prompt_is_touched() -> None:
    with wrapped() as pipe:
        result = pipe("a cat", "in the style of a woodcut", negative_prompt="a cat")
        assert result["negative_prompt"] == "a cat"
        assert result["prompt_2"] == "in the style of a woodcut"
        same = pipe("a cat", ["a cat"])
        assert same["prompt_2"] == [same["prompt"]], "the same text for another encoder follows"
        assert pipe(prompt_embeds=[1.0])["prompt_embeds"] == [1.0] and pipe.rewrites == ()


def test_a_failure_paints_the_prompt_as_it_is_and_says_so() -> None:
    with wrapped(CountingLlm()) as pipe:
        with pytest.warns(KeptPromptWarning, match="out of order") as caught:
            painted = pipe(["a broken cat", "a dog"])["prompt"]
        assert caught[0].filename == __file__
        assert painted[0] == "a broken cat" and painted[1].startswith("a dog, golden")
        assert [bool(rewrite.fallback) for rewrite in pipe.rewrites] == [True, False]


def test_a_failure_may_be_an_error() -> None:
    with (
        wrapped(CountingLlm(), on_failure="raise") as pipe,
        pytest.raises(ServiceError, match="'a broken cat' could not be refined"),
    ):
        pipe("a broken cat")


def test_constraints_hold() -> None:
    with wrapped(constraints=Constraints(banned=("golden",))) as pipe:
        with pytest.warns(KeptPromptWarning, match="forbids"):
            assert pipe("a cat")["prompt"] == "a cat"


def test_it_stands_for_the_pipeline() -> None:
    with wrapped() as pipe:
        pipe.scheduler = "ddim"
        assert pipe.to("meta") is pipe
        assert (pipe.pipeline.scheduler, pipe.device) == ("ddim", "meta")
        with pytest.raises(AttributeError):
            _ = pipe.no_such_part
        with pytest.raises(TypeError, match="no_such_setting"):
            pipe("a cat", no_such_setting=1)


async def test_it_works_within_an_event_loop() -> None:
    """As in a notebook, where a loop runs already."""
    with wrapped() as pipe:
        assert pipe("a cat")["prompt"].startswith("a cat, golden")
        await asyncio.sleep(0)


def test_mistakes_are_told_when_it_is_made() -> None:
    with pytest.raises(ConfigError, match="takes no prompt"):
        refined(lambda image: image, instruction="Add a word.")
    with pytest.raises(ConfigError, match="is not trusted"):
        refined(Recorder(), instruction="Add a word.", llm=LlmConfig(provider="os.system"))
    with wrapped() as pipe:
        pass
    with pytest.raises(ServiceError, match="closed"):
        pipe("a cat")


def test_the_embedded_pipeline_paints_the_refined_prompt() -> None:
    """Real diffusers and the real small language model: the picture is the rewrite's."""
    bare = diffusers.DiffusionPipeline.from_pretrained(
        embedded.pipeline_path(), torch_dtype=torch.float32
    )
    bare.set_progress_bar_config(disable=True)

    def painted(pipe: Any, prompt: str) -> np.ndarray:
        generator = torch.Generator().manual_seed(3)
        done = pipe(prompt, num_inference_steps=2, generator=generator, output_type="np")
        return done.images[0]

    naive = "a red boat on the lake"
    with refined(bare, instruction=SHOWN) as pipe:
        picture = painted(pipe, naive)
        (rewrite,) = pipe.rewrites
    assert rewrite.fallback is None and rewrite.text != naive
    assert np.array_equal(picture, painted(bare, rewrite.text))
    assert not np.array_equal(picture, painted(bare, naive))


def test_an_interpreter_that_forgets_to_close_it_ends(tmp_path: Path) -> None:
    code = (
        "from bigpe.testing.fakes import FakeLlm\n"
        "from bigpe.integrations.diffusers import refined\n"
        "pipe = refined(lambda prompt: prompt, instruction='Add a word.', llm=FakeLlm())\n"
        "print(pipe('a red cat').startswith('a red cat'))\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": import_path()},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout in ("True\n", "False\n")
