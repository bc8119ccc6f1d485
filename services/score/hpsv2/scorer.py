"""The official hpsv2 package as a scorer: `[score] backend = "hpsv2-package"`.

It serves as the reference: bigpe's own code computes the same scores (`make parity`) and is faster,
because the package reads the checkpoint at every call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from bigpe.services.core.errors import BigpeError, ScoreError
from bigpe.services.core.values import Json, Score, ScoreRequest, digest
from bigpe.services.models.fingerprints import file_fingerprint
from bigpe.services.processes.cpu import thread_env
from bigpe.services.processes.supervised_process import SupervisedProcess
from bigpe.services.score.clip.open_clip.tokenizer import tokens_of
from bigpe.services.score.hpsv2.environment import find_python
from bigpe.services.score.published_scorers import find_checkpoint
from bigpe.services.score.service import ScoreConfig
from bigpe.services.store.blobs import BlobStore

LIMIT = 77
"""Largest number of tokens of CLIP's text encoder."""


class Hpsv2PackageScorer:
    """The `score()` of hpsv2, in a child process with its own environment."""

    def __init__(
        self,
        config: ScoreConfig,
        blobs: BlobStore,
        *,
        log_path: Path | None = None,
        checkpoint: Path | None = None,
        architecture: Mapping[str, Any] | None = None,
    ) -> None:
        """`checkpoint` (in open_clip's layout) and `architecture` (open_clip's model
        configuration) replace those of the model that `config` names.

        ConfigError when the environment or the named model's checkpoint is not here.
        """
        self._config = config
        self._blobs = blobs
        self._checkpoint = checkpoint or find_checkpoint(config.model)
        self._architecture = architecture
        self._fingerprint = ""
        worker = str(files("bigpe.services.score.hpsv2") / "worker.py")
        self._child = SupervisedProcess(
            "",
            {
                "checkpoint": str(self._checkpoint),
                "threads": config.threads,
                "architecture": architecture,
                "env": _environment(config),
            },
            name="hpsv2 package",
            log_path=log_path,
            call_timeout_s=config.call_timeout_s,
            command=(str(find_python()), "-P", worker),
        )

    async def open(self) -> str:
        """See `Scorer.open`: a digest of the checkpoint and of the package's releases."""
        if not self._fingerprint:
            answer = await self._child.call("versions", {})
            checkpoint = await asyncio.to_thread(file_fingerprint, self._checkpoint)
            self._fingerprint = digest(
                {
                    "backend": "hpsv2-package",
                    "checkpoint": checkpoint,
                    "architecture": self._architecture,
                    "device": self._config.device,
                    **answer,
                }
            )
        return self._fingerprint

    async def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Score | Exception]:
        """See `Scorer.score`."""
        fingerprint = await self.open()
        found: list[Score | Exception] = []
        items: list[Json] = []
        for request in requests:
            try:
                path = await asyncio.to_thread(self._path, request.image)
            except BigpeError as error:
                items.append({"error": str(error)})
            else:
                items.append({"image": str(path), "prompt": request.prompt})
        wanted = [item for item in items if "error" not in item]
        answers = iter((await self._child.call("score", {"items": wanted}))["items"])
        for request, item in zip(requests, items, strict=True):
            answer = item if "error" in item else next(answers)
            if "error" in answer:
                found.append(ScoreError(f"picture {request.image[:8]}: {answer['error']}"))
                continue
            cut = tokens_of(request.prompt, LIMIT).cut
            value = float(answer["value"])
            found.append(Score(value=value, fingerprint=fingerprint, truncated_tokens=cut))
        return found

    async def score_images(self, images: Sequence[Path], prompt: str) -> list[float]:
        """One call of the package's `score()` for several pictures, as a user of it writes it.

        ServiceError when one of them cannot be scored: the package then gives no score at all.
        """
        payload = {"images": [str(image) for image in images], "prompt": prompt}
        values: list[float] = (await self._child.call("score_images", payload))["values"]
        return values

    async def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """The package's token ids, 77 for each prompt."""
        ids: list[list[int]] = (await self._child.call("tokenize", {"prompts": list(prompts)}))[
            "ids"
        ]
        return ids

    @property
    def pid(self) -> int | None:
        """The id of the current process, or None."""
        return self._child.pid

    async def close(self) -> None:
        """End the child."""
        await self._child.close()

    def _path(self, image: str) -> Path:
        """The picture's file, its content verified."""
        self._blobs.read(image)
        return self._blobs.path(image).resolve()


def _environment(config: ScoreConfig) -> dict[str, str]:
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if config.device == "cpu" else {}
    # bigpe's own module path must not leak into the other environment.
    return {**thread_env(config.threads), **hidden, "PYTHONPATH": ""}
