"""The addresses that a service answers with: only those of hosts that are allowed are fetched.

Such an address may be in the local network. Pictures are fetched without the service's key.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any

import httpx2

from bigpe.services.core.errors import RenderError
from bigpe.services.core.http_client import HttpClient, origin_of
from bigpe.services.render.config import RenderConfig


class Addresses:
    """Fetches from a service's own address and from allowed hosts."""

    def __init__(
        self,
        service: HttpClient,
        config: RenderConfig,
        headers: Mapping[str, str] | None = None,
        hosts: Collection[str] = (),
    ) -> None:
        """Prepare.

        Args:
            service: The client of the service's own address.
            config: The section `[render]`, whose `http.picture_hosts` are allowed, too.
            headers: What look-ups of jobs on allowed hosts are sent, the key included.
            hosts: Hosts of the service itself, as patterns such as "*.bfl.ai".
        """
        self.service = service
        self.url = service.url
        self._config = config
        self._headers = headers or {}
        self._own = tuple(hosts)
        self._clients: dict[tuple[str, bool], HttpClient] = {}

    async def get_json(self, address: str) -> Any:
        """The JSON at a path of the service, or at an address of the service's own hosts."""
        if address.startswith("/"):
            return await self.service.get_json(address)
        url = self._allowed(address, self._own)
        return await self._client(url, keyed=True).get_json(_path(url))

    async def get_picture(self, address: str) -> bytes:
        """The bytes at an allowed address; decoding checks what they are."""
        url = self._allowed(address, (*self._own, *self._config.http.picture_hosts))
        client = self._client(url, keyed=False)
        return await client.get_bytes(_path(url))

    async def close(self) -> None:
        """Close all connections, the service's own included."""
        for client in (self.service, *self._clients.values()):
            await client.close()

    def _allowed(self, address: Any, hosts: Collection[str]) -> httpx2.URL:
        try:
            url = httpx2.URL(str(address))
        except httpx2.InvalidURL as error:
            raise RenderError(f"{self.url} answers with {address!r}, no address") from error
        base = httpx2.URL(self.url)
        if origin_of(url) == origin_of(base):
            return url
        named = any(fnmatchcase(url.host, pattern) for pattern in hosts)
        if not named or url.scheme != "https" and base.scheme == "https":
            raise RenderError(
                f"{self.url} answers with an address on {url.host or address!r}, which is not "
                "fetched: it may be in your own network. If it is right, add the host to "
                f"[render.http] picture_hosts{self._advice()}"
            )
        return url

    def _advice(self) -> str:
        if "response_format" in self._config.http.extra:
            return ""
        return '; many services send base64 for [render.http.extra] response_format = "b64_json"'

    def _client(self, url: httpx2.URL, *, keyed: bool) -> HttpClient:
        origin = origin_of(url)
        if (origin, keyed) not in self._clients:
            self._clients[origin, keyed] = HttpClient(
                origin,
                self._config.http,
                timeout_s=self._config.call_timeout_s,
                error=RenderError,
                headers=self._headers if keyed else {},
            )
        return self._clients[origin, keyed]


def _path(url: httpx2.URL) -> str:
    return url.raw_path.decode("ascii")
