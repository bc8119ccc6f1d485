"""A diffusers pipeline that rewrites its prompts before it renders.

from bigpe.integrations.diffusers import refined

pipe = refined(pipe, instruction="Name the light and the lens.")
picture = pipe("a cat on the beach").images[0]
print(pipe.rewrites[0].text)
"""

from __future__ import annotations

import asyncio
import inspect
import warnings
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from autogen_core.models import ChatCompletionClient

from bigpe.agents.reasoning.constraints import NONE, Constraints
from bigpe.agents.reasoning.rewriting import Rewrite
from bigpe.integrations.loop_thread import LoopThread
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.sharing.refine import Refiner
from bigpe.services.core.errors import BigpeError, ConfigError, ServiceError
from bigpe.services.core.values import Instruction
from bigpe.services.llm.service import LlmConfig
from bigpe.services.render.config import RenderConfig

OnFailure = Literal["warn", "raise"]
FURTHER = ("prompt_2", "prompt_3", "prompt_4")
"""Texts of further encoders. A text that is equal to the prompt gets the prompt's rewrite."""


class KeptPromptWarning(UserWarning):
    """A prompt could not be rewritten and is rendered unchanged."""


def refined(
    pipeline: Any,
    *,
    instruction: Instruction | str,
    llm: ChatCompletionClient | LlmConfig | None = None,
    constraints: Constraints = NONE,
    seed: int = 0,
    on_failure: OnFailure = "warn",
    database: Path | str | None = None,
) -> RefinedPipeline:
    """Make a pipeline that rewrites its prompts under an instruction.

    Args:
        pipeline: A diffusers pipeline, or a callable with an argument `prompt`.
        instruction: An instruction, or its text.
        llm: The language model; None: the embedded model. A client is used in a thread of bigpe
            and is not closed.
        constraints: Rules for rewrites, for example those of a published instruction.
        seed: Equal prompt and seed give an equal rewrite.
        on_failure: What happens if a prompt cannot be rewritten. "warn": it is rendered unchanged,
            with a KeptPromptWarning. "raise": ServiceError.
        database: The database of a project. Its call cache answers repeated requests.

    Returns:
        An object that is called like `pipeline`.

    Raises:
        ConfigError: The pipeline has no argument `prompt`, or the language model cannot be loaded.
    """
    if "prompt" not in inspect.signature(pipeline).parameters:
        raise ConfigError(f"{type(pipeline).__name__} takes no prompt, so none can be refined")
    if isinstance(instruction, str):
        instruction = Instruction(text=instruction)
    opening = Refiner.open(
        instruction,
        BigpeConfig(
            llm={"default": _config_of(llm)},
            constraints=constraints,
            render=RenderConfig(model=type(pipeline).__name__),  # for its prompt profile
        ),
        client=llm if isinstance(llm, ChatCompletionClient) else None,
        database=Path(database) if database is not None else None,
        seed=seed,
    )
    thread = LoopThread("bigpe-refine")
    try:
        refiner = thread.run(thread.enter(opening))
    except BaseException:
        thread.close()
        raise
    return RefinedPipeline(pipeline, refiner, thread, on_failure)


def _config_of(llm: ChatCompletionClient | LlmConfig | None) -> LlmConfig:
    if llm is None or isinstance(llm, LlmConfig):
        return llm or LlmConfig()
    return LlmConfig(provider=f"{type(llm).__module__}.{type(llm).__qualname__}")


class RefinedPipeline:
    """A wrapper around a pipeline. Attributes that it lacks are read from and set on the pipeline.

    Make it with `refined`. It is no subclass of the class of the pipeline; where one is needed,
    for example in `AutoPipelineForImage2Image.from_pipe`, use `pipeline`.
    """

    pipeline: Any
    """The wrapped pipeline."""
    rewrites: tuple[Rewrite, ...]
    """Rewrites of the last call, in order; `fallback` is the reason for an unchanged prompt."""

    def __init__(
        self,
        pipeline: Any,
        refiner: Refiner,
        thread: LoopThread,
        on_failure: OnFailure,
    ) -> None:
        own = {"pipeline": pipeline, "rewrites": (), "_refiner": refiner, "_thread": thread}
        own |= {"__signature__": inspect.signature(pipeline)}
        own |= {"_on_failure": on_failure, "_close": weakref.finalize(self, thread.close)}
        self.__dict__.update(own)
        # Closing needs a new thread, which is impossible at the interpreter's exit. The loop's
        # thread is a daemon, and the model's process ends with its input.
        self._close.atexit = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Rewrite `prompt`, then call the pipeline. Negative prompts are not rewritten.

        The call blocks, also inside an event loop. Arguments and result are the pipeline's.

        Raises:
            ServiceError: A prompt cannot be rewritten and `on_failure` is "raise", or `close` was
                called before.
        """
        call = inspect.signature(self.pipeline).bind_partial(*args, **kwargs)
        given = call.arguments
        texts = _texts_of(given.get("prompt"))
        rewrites = dict(zip(texts, self._rewritten(texts), strict=True))
        for name in ("prompt", *FURTHER):
            if name in given:
                given[name] = _replaced(given[name], rewrites)
        self.__dict__["rewrites"] = tuple(rewrites[text] for text in texts)
        return self.pipeline(*call.args, **call.kwargs)

    def to(self, *args: Any, **kwargs: Any) -> RefinedPipeline:
        """Move the pipeline to a device, as `pipeline.to` does; returns this object."""
        self.pipeline.to(*args, **kwargs)
        return self

    def close(self) -> None:
        """End the process of the language model. The pipeline stays usable."""
        self._close()

    def __enter__(self) -> RefinedPipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "pipeline" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.pipeline, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.pipeline, name, value)

    def __repr__(self) -> str:
        return f"refined({self.pipeline!r})"

    def _rewritten(self, prompts: Sequence[str]) -> list[Rewrite]:
        if not self._close.alive:
            raise ServiceError("this pipeline's language model is closed; make it anew")
        done = self._thread.run(self._rewrite_all(prompts))
        kept: list[Rewrite] = []
        for prompt, result in zip(prompts, done, strict=True):
            rewrite = result if isinstance(result, Rewrite) else _fallback(prompt, result)
            if rewrite.fallback is not None:
                self._report(rewrite, result if isinstance(result, BaseException) else None)
            kept.append(rewrite)
        return kept

    async def _rewrite_all(self, prompts: Sequence[str]) -> list[Rewrite | BaseException]:
        rewrites = (self._refiner.rewrite(prompt) for prompt in prompts)
        return await asyncio.gather(*rewrites, return_exceptions=True)

    def _report(self, rewrite: Rewrite, cause: BaseException | None) -> None:
        problem = f"{rewrite.naive!r} could not be refined: {rewrite.fallback}"
        if self._on_failure == "raise":
            raise ServiceError(f'{problem}; on_failure="warn" paints it as it is') from cause
        warnings.warn(f"{problem}; it is painted as it is", KeptPromptWarning, stacklevel=4)


def _fallback(prompt: str, error: BaseException) -> Rewrite:
    """The fallback for a failed service. Other errors are raised."""
    if not isinstance(error, BigpeError) or isinstance(error, ConfigError):
        raise error
    return Rewrite(naive=prompt, text=prompt, fallback=str(error))


def _texts_of(prompt: Any) -> list[str]:
    """The prompts to rewrite, without None (for embeddings) and empty prompts."""
    listed = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(listed, list | tuple):
        return []
    return [text for text in listed if isinstance(text, str) and text.strip()]


def _replaced(prompt: Any, rewrites: dict[str, Rewrite]) -> Any:
    if isinstance(prompt, list | tuple):
        return [_replaced(text, rewrites) for text in prompt]
    if isinstance(prompt, str) and prompt in rewrites:
        return rewrites[prompt].text
    return prompt
