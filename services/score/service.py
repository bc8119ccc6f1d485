"""The scorer service: a preference model in a separate process, and its settings."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, get_args, runtime_checkable

from pydantic import Field, field_validator, model_validator

from bigpe.services.core import plugins
from bigpe.services.core.after_start import AfterStart
from bigpe.services.core.errors import ScoreError, error_from_json
from bigpe.services.core.http_client import HttpConfig
from bigpe.services.core.values import Json, Score, ScoreRequest, Value, digest
from bigpe.services.models.fingerprints import SameModel
from bigpe.services.processes.cpu import thread_env
from bigpe.services.processes.model_service import Model, ModelService
from bigpe.services.processes.supervised_process import SupervisedProcess
from bigpe.services.score.published_scorers import scorer_folder
from bigpe.services.store.blobs import BlobStore
from bigpe.services.store.call_cache import CallCacheProtocol

BACKEND = "bigpe.services.score.clip.process:open_backend"
BuiltinScorer = Literal["clip", "bigpe", "hpsv2-package"]
"""Names of the built-in scorers; `backends.SCORERS` describes and opens them."""


class ScoreConfig(Value):
    """`[score]`: the preference model."""

    backend: Annotated[str, AfterStart.NEEDS_FORK] = "clip"
    """A name that `bigpe scorers list` prints."""
    options: Annotated[dict[str, Any], AfterStart.NEEDS_FORK] = Field(
        default_factory=dict[str, Any]
    )
    """`[score.options]`: settings of a scorer of another package."""
    model: Annotated[str, AfterStart.NEEDS_FORK] = "embedded"
    """"embedded", "embedded-guard", "hpsv2", "hpsv2.1", "pickscore", "clipscore", or the path of a
    CLIPModel folder."""
    device: Annotated[Literal["auto", "cuda", "mps", "cpu"], AfterStart.NEEDS_FORK] = "auto"
    dtype: Annotated[Literal["auto", "float32", "float16", "bfloat16"], AfterStart.NEEDS_FORK] = (
        "auto"
    )
    """Number type of the weights. "auto": float16 on CUDA, float32 elsewhere. The cosine is always
    computed in float32."""
    compile: Annotated[bool, AfterStart.NEEDS_FORK] = False
    """Whether to compile the image encoder with torch.compile: a slower start, faster on CUDA."""
    max_batch: Annotated[int, AfterStart.IF_SAME_MODEL] = Field(default=8, ge=1, le=1024)
    threads: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=2, ge=1, le=512)
    call_timeout_s: Annotated[float, AfterStart.CHANGES_NO_RESULT] = Field(default=600.0, gt=0)
    http: HttpConfig = HttpConfig()
    """`[score.http]`: workers that `bigpe serve score` starts."""

    @field_validator("backend")
    @classmethod
    def _existing(cls, name: str) -> str:
        return plugins.require_known("scorers", name, get_args(BuiltinScorer))


class GuardConfig(ScoreConfig):
    """`[[score.guard]]`: a second scorer. It never steers a run, but checks its result."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    veto: bool = False
    """Whether an instruction that this scorer rates below the naive prompts cannot be best."""


class ScoreSection(ScoreConfig):
    """`[score]`: the scorer and its guards."""

    guard: Annotated[tuple[GuardConfig, ...], AfterStart.NEEDS_FORK] = ()

    @model_validator(mode="after")
    def _distinct(self) -> ScoreSection:
        names = [guard.name for guard in self.guard]
        if len(names) != len(set(names)):
            raise ValueError(f"two guards have one name: {', '.join(sorted(names))}")
        for guard in self.guard:
            if (guard.backend, guard.model) == (self.backend, self.model):
                raise ValueError(
                    f"guard {guard.name!r} is the scorer itself ({guard.model}): it guards nothing"
                )
        return self


class Scorer(Model, Protocol):
    """A model that rates images. The service calls `open`, then `score`, and at the end `close`."""

    async def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Score | Exception]:
        """Rate a batch.

        Args:
            requests: 1 to `[score] max_batch` requests.

        Returns:
            A score or an error for each request, in order.

        Raises:
            ServiceError: The whole batch failed. Its requests are then scored one by one.
        """
        ...


@runtime_checkable
class SupportsImages(Protocol):
    """A scorer that also computes image features, which do not depend on the prompt."""

    async def features(self, image: str) -> list[float]:
        """The features as a unit vector. Raises ScoreError."""
        ...


def require_same_scorer(earlier: str, now: str) -> None:
    """Raise ScoreError unless the fingerprints are equal: other scores are not comparable."""
    if earlier != now:
        raise ScoreError(
            f"the scorer has changed: earlier scores are of {earlier[:8]}, new ones of {now[:8]}, "
            "and scores of different weights, input, device or releases cannot be compared. "
            "Restore what was changed, or start a run of another name"
        )


class ClipScorer:
    """A CLIP-family scorer in a separate process."""

    def __init__(
        self, config: ScoreConfig, blobs: BlobStore, *, log_path: Path | None = None
    ) -> None:
        self._name = config.model
        self._model = SameModel("scorer", "Scores")
        settings = config.model_dump(mode="json", include=set(ScoreConfig.model_fields))
        self._child = SupervisedProcess(
            BACKEND,
            {"score": settings, "images": str(blobs.folder), "env": thread_env(config.threads)},
            name="scorer",
            log_path=log_path,
            call_timeout_s=config.call_timeout_s,
            vet=self._model.vet,
        )

    async def open(self) -> str:
        """Load the model; returns the fingerprint. Raises ConfigError if loading fails."""
        if not self._model.fingerprint:
            # Here, because the process takes seconds to load its libraries.
            await asyncio.to_thread(scorer_folder, self._name)
            await self._child.open()
        return self._model.fingerprint

    @property
    def fingerprint_inputs(self) -> Json:
        """See `fingerprints.Composed`."""
        return self._model.fingerprint_inputs

    async def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Score | Exception]:
        """See `Scorer.score`."""
        items = [{"image": request.image, "prompt": request.prompt} for request in requests]
        answer = await self._child.call("score", {"items": items})
        return [
            error_from_json(item, ScoreError) if "error" in item else Score.model_validate(item)
            for item in answer["items"]
        ]

    async def features(self, image: str) -> list[float]:
        """See `SupportsImages.features`."""
        answer = await self._child.call("features", {"image": image})
        if "error" in answer:
            raise error_from_json(answer, ScoreError)
        return [float(value) for value in answer["features"]]

    async def close(self) -> None:
        """End the process."""
        await self._child.close()


class ScoreService(ModelService[Scorer, ScoreRequest, Score]):
    """A scorer behind a queue and the call cache: equal pairs are scored once."""

    kind = "score"

    def __init__(self, scorer: Scorer, memo: CallCacheProtocol, config: ScoreConfig) -> None:
        super().__init__(scorer, scorer.score, Score, memo, config.max_batch)

    async def score(self, request: ScoreRequest) -> Score:
        """The score of the image for the prompt. Raises ScoreError."""
        return await self.call(request)

    def _check(self, result: Score, fingerprint: str) -> None:
        # Not every scorer checks its fingerprint after a restart.
        require_same_scorer(fingerprint, result.fingerprint)

    @property
    def sees(self) -> bool:
        """Whether the scorer computes image features."""
        return isinstance(self.backend, SupportsImages)

    async def features(self, request: ScoreRequest) -> list[float]:
        """The image's features as a unit vector; each image is encoded once.

        The prompt only decides in which table the result is stored (see `held_out`). Raises
        ScoreError, also if the scorer computes no features (`sees`).
        """
        scorer = self.backend
        if not isinstance(scorer, SupportsImages):
            raise ScoreError("this scorer computes no image features; set a scorer that does")
        body: Json = {"image": request.image, "prompt": request.prompt}
        fingerprint = await self.backend.open()
        key = digest({"op": "see", "version": 1, "model": fingerprint, "image": request.image})

        async def look() -> Json:
            return {"features": await scorer.features(request.image)}

        return (await self._memo.run(key, "see", body, look))["features"]
