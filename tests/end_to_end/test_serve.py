"""`bigpe serve` as a user starts it: the embedded model in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.worker_servers import TOKEN

from bigpe.runtime.cli import cli
from bigpe.services.backends import ServiceContext, open_renderer
from bigpe.services.core.values import RenderRequest
from bigpe.services.render.config import RenderConfig
from bigpe.services.store.blobs import BlobStore

CONFIG = "[render]\nsteps = 2\nthreads = 1\n"


def start(folder: Path, kind: str) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-P", "-m", "bigpe", "serve", kind, "-p", str(folder)]
    environment = os.environ | {"BIGPE_WORKER_TOKEN": TOKEN, "TMPDIR": str(folder)}
    process = subprocess.Popen(
        [*command, "--port", "0", "--json"], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    output = ""
    while not output.rstrip().endswith("}"):
        line = process.stdout.readline()
        assert line, f"the worker ended: {output}"
        output += line
    return process, json.loads(output)["url"]


@pytest.mark.timeout(900)
async def test_a_worker_paints_as_a_run_would_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bigpe.toml").write_text(CONFIG)
    monkeypatch.setenv("BIGPE_WORKER_TOKEN", TOKEN)
    process, url = start(tmp_path, "render")
    http = {"urls": [url], "api_key_env": "BIGPE_WORKER_TOKEN"}
    renderers = [
        open_renderer(
            config, ServiceContext(BlobStore(tmp_path / name), tmp_path, tmp_path / "log")
        )
        for name, config in (
            ("near", RenderConfig(steps=2, threads=1)),
            ("far", RenderConfig.model_validate({"backend": "bigpe", "http": http})),
        )
    ]
    wanted = [RenderRequest(prompt="a red fox", seed=seed) for seed in (1, 2)]
    near, far = [await renderer.render(wanted) for renderer in renderers]
    assert near == far
    assert await renderers[0].open() == await renderers[1].open()
    for renderer in renderers:
        await renderer.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    process.stdout.close()
    left = [name for name in os.listdir(tmp_path) if name.startswith("bigpe-worker-")]
    assert left == [], "a worker leaves nothing behind"


@pytest.mark.parametrize(
    ("arguments", "token", "words"),
    [
        (["render"], "", "BIGPE_WORKER_TOKEN must hold a token"),
        (["render"], "short", "at least 16 characters"),
        (["render", "--host", "my-host"], TOKEN, "write an IP address"),
        (["score"], TOKEN, "cannot be served"),
        (["paint"], TOKEN, "'paint' is not one of"),
    ],
)
def test_usage_errors(tmp_path: Path, arguments: list[str], token: str, words: str) -> None:
    (tmp_path / "bigpe.toml").write_text(CONFIG + '[score]\nbackend = "bigpe"\n')
    environment = {"BIGPE_WORKER_TOKEN": token}
    command = ["serve", *arguments, "--port", "0", "-p", str(tmp_path)]
    done = CliRunner().invoke(cli, command, env=environment)
    assert getattr(done.exception, "exit_code", done.exit_code) == 2
    assert words in done.output + str(done.exception)
