"""Workers started elsewhere by `bigpe serve`: health, failover, one fingerprint."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from bigpe.services.core.errors import ConfigError, ServiceError, TransientServiceError
from bigpe.services.core.http_client import HttpClient, HttpConfig, bearer, read_key
from bigpe.services.core.outages.access import ServiceAccess
from bigpe.services.core.outages.watch import NO_WAITING, OutageWatch
from bigpe.services.core.retrying import backoff_s
from bigpe.services.core.values import Json

log = structlog.get_logger("bigpe.workers")

FIRST_REST_S = 0.5
LONGEST_REST_S = 30.0
"""Longest pause of a failed worker, seconds. The pause doubles with each failure."""
PATIENCE_S = 60.0
"""Longest wait of a call for a healthy worker, seconds."""
HEALTH_TIMEOUT_S = 10.0


@dataclass
class _Member:
    """One worker as the pool sees it."""

    client: HttpClient
    probe: HttpClient
    """The same address with a short time limit."""
    in_flight: int = 0
    failures: int = 0
    """Consecutive failures."""
    rests_until: float = 0.0
    """Clock time at which the pause ends."""

    def rest(self, now: float, error: TransientServiceError) -> None:
        """Pause the worker, at least as long as it asks for."""
        self.failures += 1
        pause_s = backoff_s(self.failures, first_s=FIRST_REST_S, longest_s=LONGEST_REST_S)
        self.rests_until = now + max(pause_s, error.retry_after_s or 0.0)


class HttpPool:
    """A WorkerPool over HTTP. A call goes to the healthy worker with the fewest calls in flight."""

    def __init__(
        self,
        kind: str,
        config: HttpConfig,
        *,
        timeout_s: float,
        error: type[ServiceError],
        watch: OutageWatch | None = None,
    ) -> None:
        """`kind`: "render" or "score". Raises ConfigError without an address or a key.

        `watch`: how an outage of all workers is waited for; None: not at all.
        """
        if not config.urls:
            raise ConfigError(
                f'[{kind}.http] urls: backend = "bigpe" needs the address of at least one worker; '
                f"start one with `bigpe serve {kind}`"
            )
        self.parallelism = len(config.urls) * config.concurrency
        self._kind = kind
        self._error = error
        self._fingerprint = ""
        self._opening = asyncio.Lock()
        self._watch = watch or OutageWatch(NO_WAITING)
        self._clock = self._watch.clock
        service = f"the {kind} workers {', '.join(config.urls)}"
        self._access = ServiceAccess(service, self.parallelism, self._watch)
        headers = bearer(read_key(config))

        def client(url: str, limit_s: float) -> HttpClient:
            return HttpClient(url, config, timeout_s=limit_s, error=error, headers=headers)

        self._members = [
            _Member(client(url, timeout_s), client(url, min(HEALTH_TIMEOUT_S, timeout_s)))
            for url in config.urls
        ]

    async def open(self) -> str:
        """See `WorkerPool.open`. At least one worker must be reachable."""
        async with self._opening:
            if not self._fingerprint:
                await self._meet()
        return self._fingerprint

    async def call(self, payload: Json) -> Json:
        """See `WorkerPool.call`. After a failure, another worker is called."""
        await self.open()
        return await self._access.call(lambda: self._one_call(payload))

    async def _one_call(self, payload: Json) -> Json:
        deadline = self._clock.now() + PATIENCE_S
        tried: list[_Member] = []
        while True:
            member = await self._choose(tried, deadline)
            member.in_flight += 1
            try:
                return await self._ask(member, payload)
            except TransientServiceError as error:
                log.warning("a worker failed", url=member.client.url, cause=str(error))
                member.rest(self._clock.now(), error)
                tried.append(member)
                if len(tried) >= len(self._members):
                    raise
            finally:
                member.in_flight -= 1

    async def close(self) -> None:
        """Close the connections. The workers keep running."""
        for member in self._members:
            await member.client.close()
            await member.probe.close()

    async def _meet(self) -> None:
        found = await asyncio.gather(
            *(self._health(member) for member in self._members), return_exceptions=True
        )
        prints: dict[str, str] = {}
        for member, result in zip(self._members, found, strict=True):
            if isinstance(result, TransientServiceError):
                member.rest(self._clock.now(), result)
            elif isinstance(result, BaseException):
                raise result
            else:
                prints[member.client.url] = result
        if not prints:
            raise next(result for result in found if isinstance(result, BaseException))
        if len(set(prints.values())) > 1:
            each = ", ".join(f"{url}: {result[:8]}" for url, result in prints.items())
            raise ConfigError(
                f"the {self._kind} workers differ ({each}), and their results cannot be compared; "
                "start them with equal settings, models, devices and releases"
            )
        self._fingerprint = next(iter(prints.values()))

    async def _health(self, member: _Member) -> str:
        """The worker's fingerprint. Raises ConfigError if it is no worker of this kind."""
        health = await member.probe.get_json("/v1/health")
        kind = health.get("kind") if isinstance(health, dict) else None
        if kind != self._kind:
            raise ConfigError(
                f"{member.client.url} is no {self._kind} worker of bigpe"
                + (f", but a {kind} worker" if kind in ("render", "score") else "")
            )
        return str(health["fingerprint"])

    async def _choose(self, tried: Sequence[_Member], deadline: float) -> _Member:
        """A healthy worker, or the first that becomes healthy before the deadline."""
        while True:
            now = self._clock.now()
            left = [member for member in self._members if member not in tried]
            awake = [member for member in left if member.rests_until <= now]
            for member in sorted(awake, key=lambda member: (member.failures > 0, member.in_flight)):
                if member.failures == 0 or await self._is_well_again(member):
                    return member
            soonest = min(member.rests_until for member in left)
            if soonest > deadline:
                raise TransientServiceError(f"no {self._kind} worker is well", trouble="service")
            await self._watch.sleep(max(soonest - self._clock.now(), 0.0))

    async def _is_well_again(self, member: _Member) -> bool:
        """Whether a failed worker answers again with the same fingerprint."""
        try:
            self._require_same(member, await self._health(member))
        except TransientServiceError as error:
            member.rest(self._clock.now(), error)
            return False
        member.failures = 0
        return True

    async def _ask(self, member: _Member, payload: Json) -> Json:
        answer: Any = await member.client.post_json(f"/v1/{self._kind}", payload)
        fingerprint = answer.get("fingerprint") if isinstance(answer, dict) else None
        self._require_same(member, str(fingerprint))
        member.failures = 0
        result: Json = answer
        return result

    def _require_same(self, member: _Member, fingerprint: str) -> None:
        if fingerprint != self._fingerprint:
            raise ConfigError(
                f"{member.client.url} has changed: its fingerprint was {self._fingerprint[:8]} and "
                f"is {fingerprint[:8]}. Start it as it was, then run `bigpe resume`"
            )
