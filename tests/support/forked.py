"""Processes that are forks of an interpreter in which the commands are imported.

So a start costs no second of imports. They are real processes, to be signalled and killed.
Commands in a fresh interpreter are tested by `tests/end_to_end/test_cli.py` and the documents.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from types import TracebackType
from typing import IO

from support.paths import import_path

_FORKS = multiprocessing.get_context("forkserver")
PRELOADED = "support.preloaded"
_FORKS.set_forkserver_preload([PRELOADED])


class ForkedProcess:
    """Has what tests use of `subprocess.Popen[str]`."""

    def __init__(
        self,
        main: Callable[[], object],
        *words: str,
        environment: Mapping[str, str],
        stderr: int = subprocess.PIPE,
        largest_file: int = 0,
    ) -> None:
        """Call `main`, a function of a module, with `words` in sys.argv.

        `stderr`: a file descriptor, or PIPE. `largest_file`: bytes, after which the system refuses
        to write more to a file; 0: any.
        """
        _start_server()
        self.returncode: int | None = None
        self.stdout, out = _pipe()
        self.stderr: IO[str] | None = None
        if stderr == subprocess.PIPE:
            self.stderr, err = _pipe()
        else:
            err = Connection(os.dup(stderr), readable=False)
        given = (main, words, dict(environment), os.getcwd(), out, err, largest_file)
        self._process = _FORKS.Process(target=_begin, args=given, daemon=True)
        self._process.start()
        out.close()
        err.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while the process works."""
        self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once the process has ended. subprocess.TimeoutExpired if it does not."""
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired("a fork", timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What is left on stdout and stderr; after it the process has ended."""
        with ThreadPoolExecutor(2) as pool:
            texts = [pool.submit(_read, file) for file in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()  # else nobody ends the reading
                raise
            out, err = (text.result() for text in texts)
        return out, err

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End the process."""
        self._process.kill()

    def __enter__(self) -> ForkedProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in (self.stdout, self.stderr):
            if file is not None:
                file.close()
        self.wait()


def _start_server() -> None:
    """Let the server of the forks run; the environment is the way to its import path."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = import_path()
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _pipe() -> tuple[IO[str], Connection]:
    reader, writer = os.pipe()
    return open(reader, encoding="utf-8"), Connection(writer, readable=False)


def _read(file: IO[str] | None) -> str:
    if file is None or file.closed:
        return ""
    with file:
        return file.read()


def _begin(
    main: Callable[[], object],
    words: tuple[str, ...],
    environment: dict[str, str],
    folder: str,
    out: Connection,
    err: Connection,
    largest_file: int,
) -> None:
    assert PRELOADED in sys.modules, "the server of the forks could not import it, and says nothing"
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    out.close()
    err.close()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [main.__module__, *words]
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    main()
