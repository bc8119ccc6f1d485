"""Every training stage of the embedded models runs, tiny, up to folders that load and steer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")


@pytest.mark.slow
@pytest.mark.skipif(not FONT.exists(), reason="painting needs fonts-noto-color-emoji")
def test_smoke_runs_every_stage() -> None:
    # The script finds the modules beside it, which make's safe path forbids.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts"), "embedded_world.train_embedded", "--smoke"],
        capture_output=True,
        text=True,
        timeout=840,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(done.stdout[done.stdout.index('{\n "good"') :])
    for stage in ("text", "vae", "reader", "scorer", "guard", "unet"):
        assert f" {stage} 4/4 " in done.stdout
    assert set(figures["good"]) == {"gain", "low", "high", "won"}
