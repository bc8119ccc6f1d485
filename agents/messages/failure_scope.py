"""What a run loses when a step fails for good. Every request declares its scope."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bigpe.services.core.values import Value

Purpose = Literal["pilot", "naive", "rewrite", "professional"]
"""Why an image is rendered: to estimate the noise, or as one side of a paired comparison."""


class ImageLost(Value):
    """An image without a score."""

    lost: Literal["image"] = "image"
    purpose: Purpose
    naive: str
    seed: int
    rendered: bool
    """True if the scoring failed, False if the rendering failed."""


class PromptLost(Value):
    """A prompt of a batch that is not rewritten, while other prompts are."""

    lost: Literal["prompt"] = "prompt"
    naive: str
    seed: int


class BatchLost(Value):
    """A batch without any rewrite."""

    lost: Literal["batch"] = "batch"


class GradientsLost(Value):
    """The gradients of an author."""

    lost: Literal["gradients"] = "gradients"


class ReviewLost(Value):
    """The decision of a gate."""

    lost: Literal["review"] = "review"


class StepLost(Value):
    """The answer to the request, and nothing else."""

    lost: Literal["step"] = "step"


FailureScope = Annotated[
    ImageLost | PromptLost | BatchLost | GradientsLost | ReviewLost | StepLost,
    Field(discriminator="lost"),
]
