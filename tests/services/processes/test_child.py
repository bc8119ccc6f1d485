"""The supervised child process, with real processes."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.tiny_models import TEST_ENV

from bigpe.services.core.errors import (
    ConfigError,
    GivenUpError,
    LostWorkerError,
    ServiceError,
    TransientServiceError,
    UnusableAnswerError,
)
from bigpe.services.processes.cpu import without_collection
from bigpe.services.processes.supervised_process import CLOSE_GRACE_S, SupervisedProcess


@asynccontextmanager
async def scripted(
    config: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[SupervisedProcess]:
    factory = settings.pop("factory", "support.tiny_models:scripted")
    child = SupervisedProcess(factory, {"env": TEST_ENV, **(config or {})}, name="test", **settings)
    try:
        yield child
    finally:
        await child.close()


async def test_calls_are_answered_and_large_lines_pass() -> None:
    async with scripted({"colour": "blue"}) as child:
        assert child.pid is None
        config = await child.call("config", {})
        assert config == {"config": {"colour": "blue"}, "env": "1"}
        big = {"text": "é\ud800" * 1_000_000}
        assert await child.call("echo", big) == big
        answers = await asyncio.gather(*(child.call("echo", {"n": n}) for n in range(5)))
        assert answers == [{"n": n} for n in range(5)]


def test_collections_stop_for_imports_and_go_on_even_after_an_error() -> None:
    assert gc.isenabled()
    with pytest.raises(ImportError), without_collection():
        with without_collection():
            pass
        assert not gc.isenabled(), "the inner one leaves it as it was"
        raise ImportError
    assert gc.isenabled()


async def test_the_process_of_a_loaded_model_collects_again() -> None:
    async with scripted() as child:
        state = await child.call("collection", {})
    assert state["enabled"] and state["frozen"] > 0


async def test_every_process_is_vetted_before_it_is_used() -> None:
    seen: list[int] = []

    def vet(result: dict[str, Any]) -> None:
        seen.append(result["pid"])
        if len(seen) > 1:
            raise ConfigError("another model")

    async with scripted(vet=vet) as child:
        await child.call("echo", {})
        await child.call("echo", {})
        assert seen == [child.pid]
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(LostWorkerError):
            await child.call("echo", {})
        with pytest.raises(ConfigError, match="another model"):
            await child.call("echo", {})
        assert len(set(seen)) == 2 and child.pid is None


async def test_errors_keep_their_class() -> None:
    async with scripted() as child:
        with pytest.raises(ConfigError, match="^it broke$"):
            await child.call("fail", {"kind": "ConfigError"})
        with pytest.raises(UnusableAnswerError) as unusable:
            await child.call("fail", {"kind": "UnusableAnswerError", "raw": "whole answer"})
        assert unusable.value.raw == "whole answer"
        with pytest.raises(ServiceError, match="ValueError: it broke") as other:
            await child.call("fail", {"kind": "ValueError"})
        assert not other.value.transient
        with pytest.raises(TransientServiceError, match="it broke"):
            await child.call("fail", {"kind": "New"})
        with pytest.raises(ServiceError, match="ValueError"):
            await child.call("nan", {})
        assert await child.call("echo", {"still": "there"}) == {"still": "there"}


async def test_prints_do_not_corrupt_the_protocol(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "child.log"
    async with scripted(log_path=log) as child:
        assert await child.call("noise", {}) == {}
        assert await child.call("echo", {}) == {}
    assert log.read_text() == "hello from python\nhello from C\n"


async def test_a_killed_child_is_started_again() -> None:
    async with scripted() as child:
        first = (await child.call("pid", {}))["pid"]
        call = asyncio.create_task(child.call("sleep", {"seconds": 60}))
        await asyncio.sleep(0.1)
        os.kill(first, signal.SIGKILL)
        with pytest.raises(TransientServiceError, match="ended .signal SIGKILL"):
            await call
        second = (await child.call("pid", {}))["pid"]
        assert second != first
        # Dead while nobody asks for anything.
        os.kill(second, signal.SIGKILL)
        while psutil.pid_exists(second):
            await asyncio.sleep(0.01)
        with pytest.raises(TransientServiceError, match="SIGKILL"):
            await child.call("pid", {})
        assert (await child.call("pid", {}))["pid"] != second


async def test_exit_code_and_last_words_are_told(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    async with scripted(log_path=log) as child:
        with pytest.raises(TransientServiceError) as lost:
            await child.call("exit", {"code": 3})
    assert "exit code 3" in str(lost.value)
    assert f"its last line: last words; its log: {log}" in str(lost.value)


async def test_a_hang_is_killed() -> None:
    async with scripted(call_timeout_s=1.0) as child:
        pid = (await child.call("pid", {}))["pid"]
        with pytest.raises(TransientServiceError, match="gave no answer in 1 s"):
            await child.call("sleep", {"seconds": 60})
        assert not psutil.pid_exists(pid)


async def test_it_is_given_up_after_too_many_deaths() -> None:
    async with scripted(max_restarts=1) as child:
        for _ in range(2):
            with pytest.raises(TransientServiceError):
                await child.call("exit", {"code": 1})
        with pytest.raises(GivenUpError, match="died 2 times in a row.*bigpe resume") as given_up:
            await child.call("echo", {})
        assert not given_up.value.transient


async def test_a_lost_device_costs_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigpe.services.processes.supervised_process.FIRST_BACKOFF_S", 0.0)
    async with scripted() as child:
        first = (await child.call("pid", {}))["pid"]
        with pytest.raises(LostWorkerError, match="CUDA error: device-side assert"):
            await child.call("lose_device", {})
        assert not psutil.pid_exists(first)
        assert (await child.call("pid", {}))["pid"] != first


async def test_a_refused_start_is_remembered(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    async with scripted({"refuse": "ConfigError"}, log_path=log) as child:
        for _ in range(2):
            with pytest.raises(ConfigError, match="not like this"):
                await child.call("echo", {})
            assert child.pid is None
    assert log.read_text().count("ConfigError: not like this") == 1
    async with scripted(factory="no.such:thing") as child:
        with pytest.raises(ServiceError, match="ModuleNotFoundError"):
            await child.call("echo", {})


async def test_a_cancelled_call_leaves_the_next_one_intact() -> None:
    async with scripted() as child:
        await child.call("echo", {})
        call = asyncio.create_task(child.call("sleep", {"seconds": 0.3}))
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await child.call("echo", {"n": 1}) == {"n": 1}


async def test_close_ends_a_start_at_once(tmp_path: Path) -> None:
    async with scripted({"starts_s": 300, "note": str(tmp_path / "pid")}) as child:
        call = asyncio.create_task(child.call("echo", {}))
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            await asyncio.sleep(0.01)
        pid = int((tmp_path / "pid").read_text())
        since = time.monotonic()
        await child.close()
        assert time.monotonic() - since < CLOSE_GRACE_S and not psutil.pid_exists(pid)
        with pytest.raises(ServiceError, match="closed during a call"):
            await call


async def test_close_ends_a_call_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigpe.services.processes.supervised_process.CLOSE_GRACE_S", 0.2)
    async with scripted() as child:
        pid = (await child.call("pid", {}))["pid"]
        call = asyncio.create_task(child.call("sleep", {"seconds": 60}))
        await asyncio.sleep(0.05)
        await child.close()
        with pytest.raises(ServiceError, match="closed during a call"):
            await call
        assert not psutil.pid_exists(pid)
        with pytest.raises(ServiceError, match="is closed"):
            await child.call("echo", {})


async def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    log = tmp_path / "file" / "child.log"
    (tmp_path / "file").write_text("not a folder")
    async with scripted(log_path=log) as child:
        for _ in range(2):
            assert await child.call("shout", {"bytes": 300_000}) == {}
        with pytest.raises(TransientServiceError, match="exit code 4"):
            await child.call("exit", {"code": 4})


def test_the_child_dies_with_its_parent() -> None:
    program = """
        import asyncio
        from bigpe.services.processes.supervised_process import SupervisedProcess
        from support.tiny_models import TEST_ENV

        async def main():
            factory = "support.tiny_models:scripted"
            child = SupervisedProcess(factory, {"env": TEST_ENV}, name="test")
            print((await child.call("pid", {}))["pid"], flush=True)
            await child.call("sleep", {"seconds": 60})

        asyncio.run(main())
    """
    parent = subprocess.Popen(
        [sys.executable, "-P", "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        env={**os.environ, **TEST_ENV},
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 60
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
