"""A diffusers pipeline whose prompts are refined before it paints.

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

OnFailure = Literal["warn", "raise"]
FURTHER = ("prompt_2", "prompt_3", "prompt_4")
"""Texts for a pipeline's further encoders; those that repeat the prompt follow it."""


class KeptPromptWarning(UserWarning):
    """A prompt is painted as it was written."""


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
    """`pipeline` with its prompts rewritten under `instruction` by `llm` (default: the embedded
    one) and held to `constraints`.

    A prompt is asked about once, and its rewrite depends on the prompt and `seed` alone.
    `on_failure`: a prompt that cannot be rewritten is painted as it is, with a KeptPromptWarning,
    or ServiceError is raised. `database`: a project's, whose memo then answers first. A client is
    used from a thread of bigpe's own, and stays open. ConfigError when the pipeline takes no
    prompt, or the language model cannot be had.
    """
    if "prompt" not in inspect.signature(pipeline).parameters:
        raise ConfigError(f"{type(pipeline).__name__} takes no prompt, so none can be refined")
    told = instruction if isinstance(instruction, Instruction) else Instruction(text=instruction)
    opening = Refiner.open(
        told,
        BigpeConfig(llm={"default": _config_of(llm)}, constraints=constraints),
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
    """Stands for a pipeline: what is not said here, is read from it and written to it.

    Make it with `refined`. It is no subclass of the pipeline's class; where one is needed
    (`AutoPipelineForImage2Image.from_pipe`, say), give `pipeline`.
    """

    pipeline: Any
    """The pipeline as it was given."""
    rewrites: tuple[Rewrite, ...]
    """Of the last call: a prompt, what was painted, and why if that is the prompt itself."""

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
        # An interpreter that ends starts no more threads, which closing takes. The loop's thread is
        # a daemon, and the model's process ends when its input does.
        self._close.atexit = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Paint, as the pipeline does; `prompt` is refined, negative prompts are not.

        In an event loop it holds the loop up, as painting does.
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
        """Move the pipeline."""
        self.pipeline.to(*args, **kwargs)
        return self

    def close(self) -> None:
        """End the language model's process; the pipeline stays."""
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
        done = self._thread.run(self._ask(prompts))
        kept: list[Rewrite] = []
        for prompt, one in zip(prompts, done, strict=True):
            rewrite = one if isinstance(one, Rewrite) else _given_up(prompt, one)
            if rewrite.fallback is not None:
                self._tell(rewrite, one if isinstance(one, BaseException) else None)
            kept.append(rewrite)
        return kept

    async def _ask(self, prompts: Sequence[str]) -> list[Rewrite | BaseException]:
        asked = (self._refiner.rewrite(prompt) for prompt in prompts)
        return await asyncio.gather(*asked, return_exceptions=True)

    def _tell(self, rewrite: Rewrite, cause: BaseException | None) -> None:
        said = f"{rewrite.naive!r} could not be refined: {rewrite.fallback}"
        if self._on_failure == "raise":
            raise ServiceError(f'{said}; on_failure="warn" paints it as it is') from cause
        warnings.warn(f"{said}; it is painted as it is", KeptPromptWarning, stacklevel=4)


def _given_up(prompt: str, error: BaseException) -> Rewrite:
    """A mistake of the user's, or ours, is raised; a failure of the service is told."""
    if not isinstance(error, BigpeError) or isinstance(error, ConfigError):
        raise error
    return Rewrite(naive=prompt, text=prompt, fallback=str(error))


def _texts_of(prompt: Any) -> list[str]:
    """What there is to refine: not embeddings' None, nor the empty prompt."""
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
