"""An HTTP client for model services with limits on time, size and redirects.

It raises every failure as a ServiceError and never waits or retries: see `outages.access`. A
transient failure has the seconds that the server asks to wait.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Annotated, Any

import httpx2
from pydantic import Field, field_validator

from bigpe.services.core.after_start import AfterStart
from bigpe.services.core.errors import (
    ConfigError,
    QuotaError,
    ServiceError,
    TransientServiceError,
    trouble_of,
)
from bigpe.services.core.outages.retry_delay import is_quota_spent, retry_delay_s
from bigpe.services.core.values import Value

CONNECT_S = 10.0
MOST_REDIRECTS = 3
BUSY = frozenset({408, 425, 429})
"""Statuses after which a retry may succeed, besides every 5xx."""
REMEDIES = {
    401: "check the key",
    403: "check the key",
    404: "check the address and the model",
    413: "lower max_batch or the size",
}
SHOWN = 300
"""Characters of a server's answer that an error message quotes."""


class HttpConfig(Value):
    """`[render.http]` and `[score.http]`: address, key and limits of a service."""

    urls: Annotated[tuple[str, ...], AfterStart.IF_SAME_MODEL] = ()
    """Base addresses; more than one only for bigpe's own workers."""
    api_key_env: Annotated[str | None, AfterStart.CHANGES_NO_RESULT] = None
    """Name of the environment variable that holds the key; files never hold keys."""
    concurrency: Annotated[int, AfterStart.CHANGES_NO_RESULT] = Field(default=4, ge=1, le=256)
    """Requests in flight to each address."""
    max_mb: Annotated[float, AfterStart.CHANGES_NO_RESULT] = Field(default=64.0, gt=0, le=1024)
    """Largest answer, megabytes; the download of a larger one is stopped."""

    @field_validator("urls")
    @classmethod
    def _addresses(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            try:
                parsed = httpx2.URL(url)
            except httpx2.InvalidURL as error:
                raise ValueError(f"{url!r} is not an address: {error}") from error
            if parsed.scheme not in ("http", "https") or not parsed.host:
                raise ValueError(f"{url!r} is not an address; write http://HOST:PORT")
            if parsed.userinfo:
                raise ValueError(
                    "an address must not hold a password: put it in an environment variable and "
                    "name that variable in api_key_env"
                )
        if len(set(urls)) != len(urls):
            raise ValueError("the same address is there twice")
        return urls


def read_key(config: HttpConfig) -> str | None:
    """The key from the environment; ConfigError if the variable is not set."""
    if config.api_key_env is None:
        return None
    key = os.environ.get(config.api_key_env)
    if not key:
        raise ConfigError(
            f"api_key_env = {config.api_key_env!r}, but that environment variable is not set"
        )
    return key


def bearer(key: str | None) -> dict[str, str]:
    """The header with the key that most services expect."""
    return {"Authorization": f"Bearer {key}"} if key else {}


class HttpClient:
    """Requests to one service. Raises `error` for failures that a retry cannot help."""

    def __init__(
        self,
        url: str,
        config: HttpConfig,
        *,
        timeout_s: float,
        error: type[ServiceError],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`timeout_s`: limit of one request including its answer."""
        self.url = url.rstrip("/")
        self._origin = origin_of(httpx2.URL(self.url))
        self._timeout_s = timeout_s
        self._error = error
        self._most_bytes = int(config.max_mb * 1_000_000)
        self._secret = os.environ.get(config.api_key_env) if config.api_key_env else None
        self._client = httpx2.AsyncClient(
            # Compressed answers could be small on the line and huge in memory.
            headers={"Accept-Encoding": "identity", **(headers or {})},
            timeout=httpx2.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s), pool=None),
            limits=httpx2.Limits(max_connections=2 * config.concurrency),
            # A proxy cannot reach this machine's own addresses.
            trust_env=not _is_loopback(httpx2.URL(self.url).host),
        )

    async def get_json(self, path: str) -> Any:
        """The JSON answer of a GET."""
        return self._parse(path, await self._call("GET", path, None))

    async def post_json(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON answer of a POST of `body`."""
        return self._parse(path, await self._call("POST", path, body))

    async def post(self, path: str, body: Mapping[str, Any]) -> None:
        """POST `body`; the answer is ignored."""
        await self._call("POST", path, body)

    async def get_bytes(self, path: str, params: Mapping[str, str] | None = None) -> bytes:
        """The answer of a GET as bytes. Without `params` the path is taken as it is."""
        query = f"?{httpx2.QueryParams(dict(params))}" if params else ""
        return await self._call("GET", f"{path}{query}", None)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> bytes:
        url = httpx2.URL(f"{self.url}{path}")
        try:
            async with asyncio.timeout(self._timeout_s):
                for _ in range(MOST_REDIRECTS + 1):
                    status, headers, data = await self._exchange(method, url, body)
                    if data is not None:
                        break
                    url = self._same_host(url, headers["Location"], method, status)
                else:
                    raise self._error(f"{self.url}: more than {MOST_REDIRECTS} redirects")
        except (TimeoutError, httpx2.TimeoutException) as error:
            text = f"{self.url}: no answer in {self._timeout_s:g} s"
            raise TransientServiceError(text) from error
        except httpx2.HTTPError as error:
            text = self._without_key(str(error) or type(error).__name__)
            raise TransientServiceError(
                f"{self.url}: no connection ({text}); is the server running?",
                trouble="service" if isinstance(error, httpx2.ConnectError) else "call",
            ) from error
        if not 200 <= status < 300:
            raise self._refusal(status, headers, data)
        return data

    async def _exchange(
        self, method: str, url: httpx2.URL, body: Mapping[str, Any] | None
    ) -> tuple[int, Mapping[str, str], bytes | None]:
        """Status, headers and body of one request; no body for a redirect."""
        async with self._client.stream(method, url, json=body) as response:
            if response.has_redirect_location:
                return response.status_code, response.headers, None
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise self._error(f"{self.url}: compressed answers are refused")
            data = bytearray()
            async for chunk in response.aiter_raw():
                data += chunk
                if len(data) > self._most_bytes:
                    raise self._error(
                        f"{self.url}: the answer is larger than {self._most_bytes / 1e6:g} MB; "
                        "raise max_mb if that is right"
                    )
            return response.status_code, response.headers, bytes(data)

    def _same_host(self, url: httpx2.URL, target: str, method: str, status: int) -> httpx2.URL:
        """The target of a redirect. Key and prompt must not go to another host than the set one."""
        try:
            there = url.join(target)
        except httpx2.InvalidURL as error:
            raise self._error(f"{self.url}: a redirect to nowhere: {target[:SHOWN]!r}") from error
        if origin_of(there) != self._origin:
            raise self._error(
                f"{self.url} redirects to another host, {origin_of(there)}; name that address in "
                "urls if it is the right one"
            )
        if method != "GET" and status not in (307, 308):
            raise self._error(f"{self.url} redirects a {method} to {there}; check urls")
        return there

    def _refusal(self, status: int, headers: Mapping[str, str], data: bytes) -> ServiceError:
        words = self._without_key(data.decode("utf-8", "replace"))
        description = f"{self.url}: HTTP {status}: {words[:SHOWN]}"
        delay_s = retry_delay_s(headers, words, datetime.now(UTC))
        if is_quota_spent(status, words, delay_s):
            return QuotaError(f"{description}; add to the account, then go on")
        if status in BUSY or status >= 500:
            trouble = trouble_of(status)
            return TransientServiceError(description, retry_after_s=delay_s, trouble=trouble)
        return self._error(f"{description}; {REMEDIES.get(status, 'check the settings')}")

    def _parse(self, path: str, data: bytes) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self._error(
                f"{self.url}{path} did not answer with JSON; check that the address is the "
                "service's own"
            ) from error

    def _without_key(self, text: str) -> str:
        """Some servers repeat the key in their answer, and failures are stored."""
        return text.replace(self._secret, "***") if self._secret else text


def origin_of(url: httpx2.URL) -> str:
    """Scheme, host and port, for example "https://api.openai.com:443"."""
    port = url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
    return f"{url.scheme}://{url.host}:{port}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
