"""The separate environment of the hpsv2 package, whose pins conflict with those of bigpe.

hpsv2 1.2.0 requires protobuf < 4 and pytest 7.2.0. Its wheel lacks CLIP's vocabulary file, so bigpe
adds its own copy.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from bigpe.services.core.errors import ConfigError, ServiceError
from bigpe.services.models.downloads import cache_folder

PACKAGE = "hpsv2==1.2.0"
VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
READY = "bigpe-ready.json"
"""Marker file with the requirements, written last."""
PIP_TIMEOUT_S = 3600.0
WHERE = "import sysconfig; print(sysconfig.get_path('purelib'))"


def environment_folder() -> Path:
    """The folder of the environment."""
    return cache_folder() / "environments" / "hpsv2"


def find_python() -> Path:
    """The environment's interpreter. Raises ConfigError with the command that makes it."""
    python = _python(environment_folder())
    if not _is_ready():
        raise ConfigError(
            "the environment of the hpsv2 package is not here, or was made for another torch; "
            "make it with `bigpe doctor --setup-hpsv2` (about 1.5 GB)"
        )
    return python


def make_environment(say: Callable[[str], None]) -> Path:
    """Make the environment unless it is there; returns its interpreter.

    ServiceError when a package cannot be installed; what was made so far is removed.
    """
    folder = environment_folder()
    if _is_ready():
        return _python(folder)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        say(f"making {folder} ...")
        _run([sys.executable, "-m", "venv", str(folder)], "the environment cannot be made")
        _install(_python(folder), say)
        _supply_vocabulary(_python(folder))
        ready = json.dumps({"requirements": requirements()})
        (folder / READY).write_text(ready, "utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return _python(folder)


def requirements() -> list[str]:
    """bigpe's own torch and Pillow, so that scores differ by the package's code alone."""
    return [f"torch=={version('torch')}", f"pillow=={version('pillow')}", "torchvision", PACKAGE]


def _is_ready() -> bool:
    folder = environment_folder()
    try:
        marker = json.loads((folder / READY).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return marker["requirements"] == requirements() and _python(folder).exists()


def _install(python: Path, say: Callable[[str], None]) -> None:
    wanted = requirements()
    say(f"installing {', '.join(wanted)} and what they need ...")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        _run([*pip, *wanted], f"{PACKAGE} cannot be installed")
    except ServiceError:
        # A "+cpu" build of torch is on its own index only; the plain one gives the same scores.
        plain = [requirement.partition("+")[0] for requirement in wanted]
        if plain == wanted:
            raise
        _run([*pip, *plain], f"{PACKAGE} cannot be installed")


def _supply_vocabulary(python: Path) -> None:
    found = _run([str(python), "-P", "-c", WHERE], "the environment does not start").strip()
    source = files("bigpe.services.score.clip.open_clip") / VOCABULARY
    target = Path(found) / "hpsv2" / "src" / "open_clip" / VOCABULARY
    target.write_bytes(source.read_bytes())


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _run(command: Sequence[str], failure: str) -> str:
    """The command's output; ServiceError with its last line when it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PIP_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceError(f"{failure}: {error}") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise ServiceError(f"{failure}: {last[:300]}; check the connection, then try again")
    return done.stdout
