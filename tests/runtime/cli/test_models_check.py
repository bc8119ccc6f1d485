"""scripts/check_official_scores.py on the embedded scorer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pictures

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "check_official_scores.py"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", str(SCRIPT), *map(str, arguments), "--model", "embedded"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_recorded_scores_agree_until_one_is_changed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("one.png", "two.png"):
        Pictures.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / name)
    rows = [{"image": name, "prompt": p} for name in ("one.png", "two.png") for p in ("fox", "owl")]
    pairs = write(tmp_path / "pairs.jsonl", rows)
    recorded = tmp_path / "recorded.jsonl"
    assert run(pairs, "--record", recorded).returncode == 0
    agreed = run(recorded, "--tolerance", "1e-6")
    assert agreed.returncode == 0, agreed.stderr
    assert json.loads(agreed.stdout)["met"] is True
    kept = [json.loads(line) for line in recorded.read_text().splitlines()]
    kept[2]["score"] += 2e-4
    differing = run(write(recorded, kept))
    first, last = map(json.loads, differing.stdout.splitlines())
    assert differing.returncode == 1 and last["met"] is False
    assert (first["image"], first["prompt"]) == ("two.png", "fox")
    unscored = run(pairs)
    assert unscored.returncode == 1 and "pairs without a score" in unscored.stderr
