"""`bigpe serve`."""

from __future__ import annotations

import os
import socket
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import click
import uvicorn

from bigpe.runtime.cli.common import json_option, perform, print_json, project_option
from bigpe.runtime.cli.signals import call_on_signals
from bigpe.runtime.project.config import BigpeConfig, load_config
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.monitoring.logging import configure_logging
from bigpe.services.backends import open_endpoint
from bigpe.services.core.errors import ConfigError
from bigpe.services.workers.endpoint import WorkerEndpoint
from bigpe.services.workers.http_app import KEY_BYTES, make_app
from bigpe.services.workers.web_server import WebServer

GRACE_S = 10
"""Time limit for requests in flight after a request to stop."""


@click.command(
    epilog="""
\b
Examples:
  export BIGPE_WORKER_TOKEN=$(openssl rand -hex 16)     the same here and where the run is
  bigpe serve render -p my-project                      its [render], on 127.0.0.1:8700
  bigpe serve score -p my-project --port 8701
  bigpe serve render -p my-project --host 10.0.0.7      reachable from other machines

\b
A run uses it by:
  [render]                      [score]
  backend = "bigpe"             backend = "bigpe"
  [render.http]                 [score.http]
  urls = ["http://10.0.0.7:8700"]
  api_key_env = "BIGPE_WORKER_TOKEN"
"""
)
@click.argument("kind", type=click.Choice(["render", "score"]))
@project_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    default=None,
    type=click.IntRange(0, 65535),
    show_default="8700 for render, 8701 for score",
    help="0: any free port.",
)
@click.option(
    "--token-env",
    default="BIGPE_WORKER_TOKEN",
    show_default=True,
    help="The environment variable with the bearer token.",
)
@json_option
def serve(
    kind: Literal["render", "score"],
    project: Path,
    host: str,
    port: int | None,
    token_env: str,
    as_json: bool,
) -> None:
    """Serve the project's renderer or scorer to runs elsewhere, until Ctrl-C."""
    token = _token(token_env)
    config = load_config(Project(project).config)
    configure_logging()
    wanted = {"render": 8700, "score": 8701}[kind] if port is None else port
    with TemporaryDirectory(prefix="bigpe-worker-") as folder, _listen(host, wanted) as sock:
        endpoint = _endpoint(kind, config, project, Path(folder))
        perform(_serve(endpoint, token, sock, as_json=as_json))


def _token(name: str) -> str:
    token = os.environ.get(name, "")
    if len(token) < KEY_BYTES:
        raise ConfigError(
            f"{name} must hold a token of at least {KEY_BYTES} characters: it gives "
            f"access to this worker. Make one with: export {name}=$(openssl rand -hex 16)"
        )
    return token


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    except ValueError as error:
        raise ConfigError(f"--host {host}: write an IP address") from error
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    sock.listen()
    return sock


def _endpoint(
    kind: str, config: BigpeConfig, project: Path, work: Path
) -> WorkerEndpoint[Any, Any]:
    settings = config.render if kind == "render" else config.score
    if settings.backend == "bigpe":
        raise ConfigError(
            f'[{kind}] backend = "bigpe" is a client of workers and cannot be served; give the '
            "worker its own project with a model"
        )
    return open_endpoint(settings, project, work)


async def _serve(
    endpoint: WorkerEndpoint[Any, Any], token: str, sock: socket.socket, *, as_json: bool
) -> None:
    """Load the model, print its address, and serve it until a signal."""
    try:
        fingerprint = await endpoint.open()
    except BaseException:
        await endpoint.close()
        raise
    server = WebServer(
        uvicorn.Config(
            make_app(endpoint, token),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    server.up = partial(_announce, endpoint.kind, fingerprint, sock, as_json)
    call_on_signals(server.stop)
    await server.serve([sock])


def _announce(kind: str, fingerprint: str, sock: socket.socket, as_json: bool) -> None:
    host, port = sock.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    if as_json:
        print_json({"url": url, "kind": kind, "fingerprint": fingerprint, "pid": os.getpid()})
    else:
        click.echo(f"{kind} worker {fingerprint[:8]} at {url}; Ctrl-C ends it", err=True)
