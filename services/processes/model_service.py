"""The base of the render service and the scorer service: a queue and the call cache."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, Generic, Literal, Protocol, TypeVar

from bigpe.services.core.values import Json, ModelRequest, Value, digest
from bigpe.services.processes.batch_queue import BatchQueue, parallelism_of
from bigpe.services.processes.cpu import MAX_WAIT_S
from bigpe.services.store.call_cache import CallCacheProtocol
from bigpe.services.store.caller_context import Timed, timed


class Model(Protocol):
    """The common part of renderers and scorers."""

    async def open(self) -> str:
        """Load the model. A second call returns at once.

        Returns:
            The fingerprint: a digest of everything that a result depends on besides the request.

        Raises:
            ConfigError: The model cannot be loaded.
        """
        ...

    async def close(self) -> None:
        """Free the model."""
        ...


M = TypeVar("M", bound=Model)
Req = TypeVar("Req", bound=ModelRequest)
Res = TypeVar("Res", bound=Value)


def call_key(
    kind: Literal["render", "score"], fingerprint: str, request: ModelRequest
) -> tuple[Json, str]:
    """The request as JSON, and its key in the call cache; `fingerprint` is that of the model."""
    body = request.content()
    return body, digest({"op": kind, "version": 1, "model": fingerprint, **body})


class ModelService(Generic[M, Req, Res]):
    """A model behind a queue and the call cache: equal requests are computed once.

    The first request opens the model. The owner closes the service first, then the model.
    """

    kind: ClassVar[Literal["render", "score"]]
    """The kind of its calls in the cache."""

    def __init__(
        self,
        backend: M,
        compute: Callable[[Sequence[Req]], Awaitable[Sequence[Res | Exception]]],
        result: type[Res],
        memo: CallCacheProtocol,
        max_batch: int,
    ) -> None:
        """`compute`: the method of `backend` that answers a batch, with `result` objects."""
        self.backend = backend
        self._result = result
        self._memo = memo
        self.queue: BatchQueue[Req, Timed[Res]] = BatchQueue(
            timed(compute),
            max_batch=max_batch,
            max_wait_s=MAX_WAIT_S,
            max_parallel_batches=parallelism_of(backend),
        )

    async def call(self, request: Req) -> Res:
        """The result of one request, from the cache or from the model."""
        fingerprint = await self.backend.open()
        body, key = call_key(self.kind, fingerprint, request)

        async def compute() -> Json:
            result = (await self.queue.submit(request, request.priority)).note()
            self._check(result, fingerprint)
            return result.model_dump(mode="json")

        stored = await self._memo.run(key, self.kind, body, compute, valid=self._is_valid)
        return self._result.model_validate(stored)

    async def open(self) -> str:
        """Load the model now instead of at the first request; returns its fingerprint."""
        return await self.backend.open()

    async def close(self) -> None:
        """Stop the queue. The model stays open."""
        await self.queue.close()

    def _check(self, result: Res, fingerprint: str) -> None:
        """Raise an error for a result that must not be stored."""

    def _is_valid(self, stored: Json) -> bool:
        """Whether a stored result can still be used."""
        return True
