"""HPS from its official layout: equal to hpsv2's own code, or refused."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from parity import open_clip_toy as toy
from support.paths import GOLDEN

from bigpe.services.core.errors import ConfigError, ServiceError
from bigpe.services.score.clip.checkpoints import convert_checkpoint, pull_official
from bigpe.services.score.clip.open_clip.tokenizer import encode
from bigpe.services.score.clip.process import ClipBackend
from bigpe.services.score.published_scorers import PUBLISHED_SCORERS, find_official
from bigpe.services.score.service import ScoreConfig
from bigpe.services.store.blobs import BlobStore

HPSV2 = json.loads((GOLDEN / "hpsv2_scores.json").read_text("utf-8"))
"""Made by scripts/parity/scorer_parity.py with the code of the hpsv2 wheel."""
HPS = PUBLISHED_SCORERS["hpsv2.1"]


def save(folder: Path, **changes: Any) -> Path:
    state = {f"module.{name}": torch.tensor(value) for name, value in toy.weights().items()}
    state |= changes
    torch.save({"epoch": 1, "state_dict": state}, folder / "checkpoint.pt")
    return folder / "checkpoint.pt"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("official")
    convert_checkpoint(HPS, save(folder), folder / "scorer", "of a toy")
    return folder / "scorer"


def scores(folder: Path, images: Path) -> list[list[float]]:
    """By picture and prompt."""
    blobs = BlobStore(images)
    backend = ClipBackend(ScoreConfig(model=str(folder), device="cpu", threads=2), images)
    found: list[list[float]] = []
    for index in range(len(toy.SIZES)):
        digest = blobs.put(toy.picture(index))
        items = [{"image": digest, "prompt": prompt} for prompt in toy.PROMPTS]
        found.append([item["value"] for item in backend.handle("score", {"items": items})["items"]])
    return found


def largest_difference(found: list[list[float]]) -> float:
    gaps = [
        abs(ours - theirs)
        for row, golden in zip(found, HPSV2["scores"], strict=True)
        for ours, theirs in zip(row, golden, strict=True)
        if theirs is not None
    ]
    assert len(gaps) >= 12 * 20
    return max(gaps)


def test_scores_are_those_of_hpsv2(converted: Path, tmp_path: Path) -> None:
    assert largest_difference(scores(converted, tmp_path)) <= 1e-6


@pytest.mark.parametrize(
    ("tower", "key", "value"),
    [
        ("vision_config", "hidden_act", "quick_gelu"),
        ("text_config", "hidden_act", "quick_gelu"),
        ("vision_config", "num_attention_heads", 4),
    ],
)
def test_the_comparison_would_notice(
    converted: Path, tmp_path: Path, tower: str, key: str, value: object
) -> None:
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    for file in converted.iterdir():
        (wrong / file.name).write_bytes(file.read_bytes())
    config = json.loads((wrong / "config.json").read_text())
    config[tower][key] = value
    (wrong / "config.json").write_text(json.dumps(config))
    assert largest_difference(scores(wrong, tmp_path / "images")) > 1e-5


def test_the_comparison_would_notice_another_interpolation(
    converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.nn.functional.interpolate

    def plain(*arguments: Any, **named: Any) -> torch.Tensor:
        return real(*arguments, **(named | {"antialias": False}))

    monkeypatch.setattr(torch.nn.functional, "interpolate", plain)
    assert largest_difference(scores(converted, tmp_path)) > 1e-5


def test_what_hpsv2_fails_on_is_scored(converted: Path, tmp_path: Path) -> None:
    # Its transform forgets to pad a picture whose longest side is 224 already.
    at = toy.SIZES.index((224, 100))
    assert set(HPSV2["scores"][at]) == {None}
    assert all(-1 <= value <= 1 for value in scores(converted, tmp_path)[at])


@pytest.mark.parametrize("index", range(len(toy.PROMPTS)))
def test_tokens_are_those_of_open_clip(index: int) -> None:
    ids = encode(toy.PROMPTS[index])
    kept = ids if len(ids) <= toy.CONTEXT else [*ids[: toy.CONTEXT - 1], ids[-1]]
    assert [*kept, *[0] * (toy.CONTEXT - len(kept))] == HPSV2["tokens"][index]


def test_what_is_cut_off_is_counted(converted: Path, tmp_path: Path) -> None:
    digest = BlobStore(tmp_path).put(toy.picture(0))
    backend = ClipBackend(ScoreConfig(model=str(converted), device="cpu", threads=1), tmp_path)
    items = [{"image": digest, "prompt": prompt} for prompt in ("a cat", "cat " * 100)]
    result = backend.handle("score", {"items": items})["items"]
    assert [item["truncated_tokens"] for item in result] == [0, 102 - 77]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"visual.extra": torch.zeros(1)}, "visual.extra"),
        ({"transformer.resblocks.0.attn.bias_k": torch.zeros(1)}, "bias_k"),
    ],
)
def test_an_unknown_weight_is_an_error(
    tmp_path: Path, changes: dict[str, torch.Tensor], expected: str
) -> None:
    with pytest.raises(ServiceError, match=expected):
        convert_checkpoint(HPS, save(tmp_path, **changes), tmp_path / "scorer", "")
    assert not (tmp_path / "scorer").exists()


def test_a_missing_weight_is_an_error(tmp_path: Path) -> None:
    state = {name: torch.tensor(value) for name, value in toy.weights().items()}
    del state["visual.proj"]
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(ServiceError, match=r"visual\.proj"):
        convert_checkpoint(HPS, tmp_path / "checkpoint.pt", tmp_path / "scorer", "")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("evil",)


def test_a_pickle_with_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, tmp_path / "checkpoint.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("checkpoint.pt", "plain.pt"):
        with pytest.raises(ServiceError, match="read safely"):
            convert_checkpoint(HPS, tmp_path / name, tmp_path / "scorer", "")
    assert not (tmp_path / "evil").exists()


def test_another_file_is_refused_by_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGPE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ServiceError, match="not used"):
        pull_official("hpsv2.1", lambda _: None, file=save(tmp_path))
    with pytest.raises(ConfigError, match="there is no file"):
        pull_official("hpsv2.1", lambda _: None, file=tmp_path / "none.pt")
    with pytest.raises(ConfigError, match=r"bigpe models pull hpsv2\.1 --file"):
        find_official("hpsv2.1")


def test_the_right_file_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bigpe.services.models.downloads import file_sha256

    monkeypatch.setenv("BIGPE_CACHE", str(tmp_path / "cache"))
    file = save(tmp_path)
    row = PUBLISHED_SCORERS["hpsv2"]._replace(sha256=file_sha256(file))
    monkeypatch.setitem(PUBLISHED_SCORERS, "hpsv2", row)
    folder = pull_official("hpsv2", lambda _: None, file=file)
    file.unlink()
    assert pull_official("hpsv2", lambda _: None, file=file) == folder == find_official("hpsv2")
    note = json.loads((folder / "scorer.json").read_text())
    assert note["source_sha256"] == row.sha256 and note["revision"] == row.revision
    backend = ClipBackend(ScoreConfig(model="hpsv2", device="cpu", threads=1), tmp_path / "images")
    digest = BlobStore(tmp_path / "images").put(toy.picture(0))
    items = [{"image": digest, "prompt": "a cat"}]
    [result] = backend.handle("score", {"items": items})["items"]
    assert -1 <= result["value"] <= 1
