"""hpsv2's own code, unpacked beside bigpe's packages and not installed.

Its pins cannot be installed beside bigpe's and its wheel lacks the vocabulary file, so the wheels
of hpsv2, torchvision and open_clip lie in build/parity; torchvision's compiled operators, which no
step of hpsv2's score uses, are left out.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import types
import zipfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "build" / "parity"
WHEELS = ("hpsv2==1.2.0", "open_clip_torch==2.20.0", "torchvision==0.28.0")
VOCABULARY = "open_clip/bpe_simple_vocab_16e6.txt.gz"
ABSENT = ("clint", "clint.textui", "turtle", "torchvision._meta_registrations")
"""What hpsv2 and torchvision import and scoring does not use."""


def fetch(folder: Path) -> None:
    """Unpack the wheels, once."""
    if (folder / ".ready").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*command, "--dest", str(folder), *WHEELS], check=True)
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    shutil.copy(folder / VOCABULARY, folder / "hpsv2" / "src" / VOCABULARY)
    (folder / ".ready").touch()


def make_importable(folder: Path = FOLDER) -> None:
    """After this, `import hpsv2` works."""
    fetch(folder)
    sys.path.insert(0, str(folder))
    for name in ABSENT:
        sys.modules[name] = types.ModuleType(name)
    sys.modules["clint.textui"].progress = None  # type: ignore[attr-defined]
    sys.modules["turtle"].forward = None  # type: ignore[attr-defined]
