"""The scorer service: how well a picture suits its naive prompt, each pair scored once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from bigpe.services import plugins
from bigpe.services.after_start import AfterStart
from bigpe.services.blobs import BlobStore
from bigpe.services.child import Child
from bigpe.services.effects import Memo
from bigpe.services.errors import ScoreError
from bigpe.services.fingerprints import SameModel
from bigpe.services.http_client import HttpConfig
from bigpe.services.queueing import BatchQueue, lanes_of
from bigpe.services.render import MAX_WAIT_S, thread_env
from bigpe.services.spending import Timed, timed
from bigpe.services.values import Json, Score, ScoreRequest, digest

BACKEND = "bigpe.services.clip_family:open_backend"
BACKENDS = {
    "clip": "a CLIP-family model in a process of its own",
    "bigpe": "workers started by `bigpe serve score`",
    "hpsv2-package": "the official hpsv2 package in its own environment",
}
"""The built-in scorers, each in a line."""


class ScoreConfig(BaseModel):
    """`[score]`: the preference model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: Annotated[str, AfterStart.NEEDS_FORK] = "clip"
    """"clip": bigpe's own; "hpsv2-package": the official package (`bigpe doctor --setup-hpsv2`);
    or another one of `bigpe scorers list`."""
    options: Annotated[dict[str, Any], AfterStart.NEEDS_FORK] = Field(
        default_factory=dict[str, Any]
    )
    """`[score.options]`: for a scorer of another package."""
    model: Annotated[str, AfterStart.NEEDS_FORK] = "embedded"
    """"embedded", "embedded-guard", "hpsv2", "hpsv2.1", "pickscore", "clipscore", or the path of a
    CLIPModel folder."""
    device: Annotated[Literal["auto", "cuda", "mps", "cpu"], AfterStart.NEEDS_FORK] = "auto"
    dtype: Annotated[Literal["auto", "float32", "float16", "bfloat16"], AfterStart.NEEDS_FORK] = (
        "auto"
    )
    """Of the weights; "auto": float16 on CUDA, float32 elsewhere. The cosine is always float32."""
    compile: Annotated[bool, AfterStart.NEEDS_FORK] = False
    """Whether torch.compile works on the image encoder: slow to start, faster on CUDA."""
    max_batch: Annotated[int, AfterStart.IF_SAME_MODEL] = Field(default=8, ge=1, le=1024)
    threads: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=2, ge=1, le=512)
    call_timeout_s: Annotated[float, AfterStart.CHANGES_NO_RESULT] = Field(default=600.0, gt=0)
    http: HttpConfig = HttpConfig()
    """`[score.http]`: bigpe's own workers."""

    @field_validator("backend")
    @classmethod
    def _known(cls, name: str) -> str:
        return plugins.require_known("scorers", name, BACKENDS)


class GuardConfig(ScoreConfig):
    """`[[score.guard]]`: a second scorer, which never steers a run but judges what it found."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    veto: bool = False
    """Whether an instruction that this scorer finds worse than the naive prompts cannot be best."""


class ScoreSection(ScoreConfig):
    """`[score]` with its guards."""

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


class Scorer(Protocol):
    """Scores batches."""

    async def open(self) -> str:
        """Load the model; returns its fingerprint: a digest of all that a result depends on.

        ConfigError when it cannot be loaded. A second call returns at once.
        """
        ...

    async def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Score | Exception]:
        """A score or a failure for each request, in order."""
        ...

    async def close(self) -> None:
        """Free the model."""
        ...


@runtime_checkable
class Sees(Protocol):
    """A scorer that also tells what it sees in a picture, whatever the prompt."""

    async def features(self, image: str) -> list[float]:
        """Of length 1; ScoreError when there are none."""
        ...


def require_same_scorer(earlier: str, now: str) -> None:
    """ScoreError unless the fingerprints are equal: other scores must not be compared."""
    if earlier != now:
        raise ScoreError(
            f"the scorer has changed: earlier scores are of {earlier[:8]}, new ones of {now[:8]}, "
            "and scores of different weights, input, device or releases cannot be compared. "
            "Restore what was changed, or start a run of another name"
        )


class ClipScorer:
    """A CLIP-family scorer in a child process."""

    def __init__(
        self, config: ScoreConfig, blobs: BlobStore, *, log_path: Path | None = None
    ) -> None:
        self._model = SameModel("scorer", "Scores")
        settings = config.model_dump(mode="json", include=set(ScoreConfig.model_fields))
        self._child = Child(
            BACKEND,
            {"score": settings, "images": str(blobs.folder), "env": thread_env(config.threads)},
            name="scorer",
            log_path=log_path,
            call_timeout_s=config.call_timeout_s,
            vet=self._model.vet,
        )

    async def open(self) -> str:
        """Load the model; returns the fingerprint. ConfigError when it cannot be loaded."""
        if not self._model.fingerprint:
            await self._child.open()
        return self._model.fingerprint

    @property
    def made_of(self) -> Json:
        """See `fingerprints.Composed`."""
        return self._model.made_of

    async def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Score | Exception]:
        """See `Scorer.score`."""
        items = [{"image": request.image, "prompt": request.prompt} for request in requests]
        answer = await self._child.call("score", {"items": items})
        return [
            ScoreError(str(item["error"])) if "error" in item else Score.model_validate(item)
            for item in answer["items"]
        ]

    async def features(self, image: str) -> list[float]:
        """See `Sees.features`."""
        answer = await self._child.call("features", {"image": image})
        if "error" in answer:
            raise ScoreError(str(answer["error"]))
        return [float(value) for value in answer["features"]]

    async def close(self) -> None:
        """End the child."""
        await self._child.close()


class ScoreService:
    """A scorer behind queue and memo: equal pairs are scored once."""

    def __init__(self, scorer: Scorer, memo: Memo, config: ScoreConfig) -> None:
        self.backend = scorer
        self._memo = memo
        self.queue: BatchQueue[ScoreRequest, Timed[Score]] = BatchQueue(
            timed(scorer.score),
            max_batch=config.max_batch,
            max_wait_s=MAX_WAIT_S,
            lanes=lanes_of(scorer),
        )

    async def score(self, request: ScoreRequest) -> Score:
        """The score of the picture against the prompt. ScoreError when there is none."""
        fingerprint = await self.backend.open()
        body: Json = {"image": request.image, "prompt": request.prompt}
        key = digest({"op": "score", "version": 1, "model": fingerprint, **body})

        async def judge() -> Json:
            judged = await self.queue.submit(request, request.priority)
            score = judged.note()
            # Not every scorer vets what answers after a restart.
            require_same_scorer(fingerprint, score.fingerprint)
            return score.model_dump(mode="json")

        return Score.model_validate(await self._memo.run(key, "score", body, judge))

    @property
    def sees(self) -> bool:
        """Whether the scorer tells features of pictures."""
        return isinstance(self.backend, Sees)

    async def features(self, request: ScoreRequest) -> list[float]:
        """What the scorer sees in the picture, as a vector of length 1; each is looked at once.

        The prompt decides nothing but where the result is kept (see `held_out`). ScoreError when
        there is none, or when the scorer tells of none (`sees`).
        """
        scorer = self.backend
        if not isinstance(scorer, Sees):
            raise ScoreError("this scorer tells nothing of a picture but its score")
        body: Json = {"image": request.image, "prompt": request.prompt}
        fingerprint = await self.backend.open()
        key = digest({"op": "see", "version": 1, "model": fingerprint, "image": request.image})

        async def look() -> Json:
            return {"features": await scorer.features(request.image)}

        return (await self._memo.run(key, "see", body, look))["features"]

    async def open(self) -> str:
        """Load the model now instead of at the first request; returns its fingerprint."""
        return await self.backend.open()

    async def close(self) -> None:
        """Stop the queue; the scorer is its owner's to close."""
        await self.queue.close()
