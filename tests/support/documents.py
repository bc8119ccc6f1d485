"""Carrying out the blocks of a documentation page, as a reader would."""

from __future__ import annotations

import doctest
import os
import re
import signal
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from docs_site.blocks import Block

from bigpe.runtime.project.config import check_config
from support.local_servers import STAND_INS

SERVERS = re.compile(r"bigpe (view|rate|serve)\b(?!.*--report)")
ADDRESS = re.compile(r"http://\S+")
NUMBER = re.compile(r"\b[0-9a-f]{8}\b|[-+−]?\d+(?:[.,]\d+)*%?")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
LONGEST_S = 280


class Reader:
    """Somebody who follows a page: a folder, and what the shell there remembers."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.at = home
        bin_folder = str(Path(sys.executable).parent)
        site = home.parent / f"{home.name}-packages"
        self.environment = os.environ | {
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(site),
            # `pip install` of a page goes here, and asks nobody.
            "PIP_TARGET": str(site),
            "PIP_NO_INDEX": "1",
            "PIP_NO_DEPS": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # pip reads "0" of a no-option as: no isolation
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def follow(self, block: Block) -> None:
        """Do what the block says. AssertionError, with its place, when that fails."""
        if server := block.says.get("with"):
            self._beside(block, server)
            return
        if name := block.says.get("file"):
            path = self.at / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif name := block.says.get("added to"):
            with (self.at / name).open("a") as file:
                file.write("\n" + block.text)
        if block.language == "toml":
            self._check(block)
        elif block.language == "python" and not block.says.keys() & {"file", "added to"}:
            self._run(block, f"{sys.executable} - <<'PYTHON'\n{block.text}\nPYTHON")
        elif block.language in ("console", "sh"):
            for command, expected in steps(block):
                result = self._run(block, command)
                if expected.strip() and "not compared" not in block.says:
                    compare(block, command, expected, result)

    def _beside(self, block: Block, server: str) -> None:
        """Do it beside a server that stands in for the page's."""
        says = {what: outcome for what, outcome in block.says.items() if what != "with"}
        with STAND_INS[server](self.home.parent) as there:
            text = block.text.replace(there.address, there.url) if there.address else block.text
            self.environment |= there.environment
            self.follow(block._replace(text=text, says=says))
            assert there.was_asked(), f"{block.place}: {server} heard nothing"

    def _check(self, block: Block) -> None:
        """TOML is a part of bigpe.toml; of a file that was written, the next command judges."""
        settings = tomllib.loads(block.text)
        if not block.says.keys() & {"file", "added to"}:
            check_config(settings, where=block.place)

    def _run(self, block: Block, command: str) -> str:
        if SERVERS.match(command):
            return self._visit(block, command)
        state = self.home.parent / f"{self.home.name}-state"
        kept = f"cd {self.at}\n{command}\npwd > {state}\nenv -0 >> {state}"
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", kept], env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            output, _ = process.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # bash alone would leave the command behind
            raise
        assert process.returncode == 0, f"{block.place}: $ {command}\n{output}"
        folder, _, variables = state.read_text().partition("\n")
        self.at = Path(folder)
        self.environment = dict(pair.split("=", 1) for pair in variables.split("\0") if pair)
        return output

    def _visit(self, block: Block, command: str) -> str:
        """Start a server, open the address that it tells, and press Ctrl-C."""
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=self.at, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        found = ""
        while not (address := ADDRESS.search(found)):
            line = process.stdout.readline()
            assert line, f"{block.place}: $ {command} ended:\n{found}"
            found += line
        assert opened(address[0]), f"{block.place}: {address[0]} does not answer"
        process.send_signal(signal.SIGINT)
        found += process.stdout.read()
        process.stdout.close()
        process.wait()
        return found


def opened(address: str) -> bool:
    """Whether a page comes."""
    with urllib.request.urlopen(address, timeout=LONGEST_S) as answer:
        return answer.status == 200


def steps(block: Block) -> Iterator[tuple[str, str]]:
    """The block's commands, each with what is shown below it."""
    lines = block.text.splitlines()
    if block.language == "sh":
        lines = [f"$ {line}" for line in lines if line.strip()]
    command, expected = "", ""
    for line in lines:
        if line.startswith("$ "):
            if command and not complete(command):
                command += "\n" + line[2:]
                continue
            if command:
                yield command, expected
            command, expected = line[2:], ""
        elif line.startswith("> ") and not complete(command):
            command += "\n" + line[2:]
        else:
            expected += line + "\n"
    if command:
        yield command, expected


def complete(command: str) -> bool:
    """Whether the shell would not ask for another line."""
    if command.endswith("\\"):
        return False
    return subprocess.run(["bash", "-n", "-c", command], capture_output=True).returncode == 0


def compare(block: Block, command: str, expected: str, message: str) -> None:
    """The shown output is what came, whatever the numbers; `...` stands for anything."""
    wanted, got = (NUMBER.sub("#", text.replace("^C\n", "")) for text in (expected, message))
    same = doctest.OutputChecker().check_output(wanted, got, FLAGS)
    assert same, f"{block.place}: $ {command}\nshown:\n{expected}\ncame:\n{message}"
