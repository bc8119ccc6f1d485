"""The official package's process: supervision and failures, with a stand-in for the package.

Its real scores are compared by `make parity`, which needs the environment of 1.5 GB.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image as Pictures

from bigpe.runtime.project.config import check_config
from bigpe.services.core.errors import BigpeError, ConfigError, ScoreError, TransientServiceError
from bigpe.services.core.values import Score, ScoreRequest
from bigpe.services.models.downloads import file_sha256
from bigpe.services.score.hpsv2 import environment as hpsv2_environment
from bigpe.services.score.hpsv2.environment import environment_folder, find_python
from bigpe.services.score.hpsv2.scorer import Hpsv2PackageScorer
from bigpe.services.score.published_scorers import PUBLISHED_SCORERS
from bigpe.services.score.service import ScoreConfig
from bigpe.services.store.blobs import BlobStore

STAND_IN = {
    "torch.py": "def set_num_threads(count): pass\n",
    # As torchvision is beside a CPU torch: its compiled operators are absent.
    "torchvision/__init__.py": "from torchvision import _meta_registrations\n",
    "torchvision/_meta_registrations.py": "raise RuntimeError('no operator torchvision::nms')\n",
    "hpsv2/__init__.py": "",
    "hpsv2/src/__init__.py": "",
    "hpsv2/src/open_clip/__init__.py": (
        "from turtle import forward\n"
        "def tokenize(prompts):\n"
        "    import types\n"
        "    return types.SimpleNamespace(tolist=lambda: [[0] * 77 for _ in prompts])\n"
    ),
    "hpsv2/src/open_clip/factory.py": (
        "_MODEL_CONFIGS = {}\n"
        "def create_model_and_transforms(name, pretrained, **given):\n"
        "    assert pretrained is None, 'it would be fetched'\n"
        "    return _MODEL_CONFIGS[name], None, 'preprocess'\n"
    ),
    "hpsv2/img_score.py": (
        "import os, torchvision, hpsv2.src.open_clip\n"
        "device, model_dict = 'cpu', {}\n"
        "print('chatter on standard output')\n"
        "def score(images, prompt, cp):\n"
        "    assert model_dict['model'] == {'embed_dim': 4} and os.path.exists(cp)\n"
        "    if prompt == 'die': os._exit(3)\n"
        "    if prompt == 'nan': return [float('nan')]\n"
        "    if prompt == 'bad': raise RuntimeError('4 channels')\n"
        "    return [len(prompt) / 1000 for _ in images]\n"
    ),
}


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virtual environment with the stand-in, where the real one would be."""
    monkeypatch.setenv("BIGPE_CACHE", str(tmp_path / "cache"))
    folder = environment_folder()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    [packages] = folder.glob("lib/python*/site-packages")
    for name, text in STAND_IN.items():
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text(text)
    ready = json.dumps({"requirements": hpsv2_environment.requirements()})
    (folder / hpsv2_environment.READY).write_text(ready)
    return folder


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "images")


def scorer_of(tmp_path: Path, blobs: BlobStore) -> Hpsv2PackageScorer:
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(b"weights")
    return Hpsv2PackageScorer(
        ScoreConfig(device="cpu", threads=1),
        blobs,
        checkpoint=checkpoint,
        architecture={"embed_dim": 4},
    )


def picture(blobs: BlobStore) -> str:
    buffer = io.BytesIO()
    Pictures.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return blobs.put(buffer.getvalue())


@pytest.mark.usefixtures("environment")
async def test_pictures_are_scored_and_fail_one_by_one(tmp_path: Path, blobs: BlobStore) -> None:
    scorer, image = scorer_of(tmp_path, blobs), picture(blobs)
    damaged = picture(blobs)
    try:
        fingerprint = await scorer.open()
        requests = [ScoreRequest(image=image, prompt=p) for p in ("a cat", "bad", "nan")]
        requests.append(ScoreRequest(image="0" * 64, prompt="a cat"))
        requests.append(ScoreRequest(image=damaged, prompt="fox " * 100))
        good, bad, nan, absent, long = await scorer.score(requests)
    finally:
        await scorer.close()
    assert good == Score(value=0.005, fingerprint=fingerprint)
    assert isinstance(long, Score) and long.truncated_tokens == 102 - 77
    for failure, words in ((bad, "4 channels"), (nan, "not finite"), (absent, "cannot be read")):
        assert isinstance(failure, ScoreError) and words in str(failure)


@pytest.mark.usefixtures("environment")
async def test_a_package_that_dies_is_told_and_started_again(
    tmp_path: Path, blobs: BlobStore
) -> None:
    scorer, image = scorer_of(tmp_path, blobs), picture(blobs)
    try:
        fine = [ScoreRequest(image=image, prompt="a cat")]
        assert isinstance((await scorer.score(fine))[0], Score)
        with pytest.raises(TransientServiceError, match="hpsv2 package process ended .exit code 3"):
            await scorer.score([ScoreRequest(image=image, prompt="die")])
        assert isinstance((await scorer.score(fine))[0], Score)
        assert scorer.pid is not None
        os.kill(scorer.pid, signal.SIGKILL)
        with pytest.raises(TransientServiceError, match="SIGKILL"):
            await scorer.score(fine)
        assert isinstance((await scorer.score(fine))[0], Score)
    finally:
        await scorer.close()


def break_package(environment: Path, text: str) -> None:
    [module] = environment.glob("lib/python*/site-packages/hpsv2/img_score.py")
    module.write_text(text)


async def test_a_package_that_cannot_be_imported_says_why(
    tmp_path: Path, blobs: BlobStore, environment: Path
) -> None:
    break_package(environment, "raise FileNotFoundError('bpe_simple_vocab_16e6.txt.gz')")
    scorer = scorer_of(tmp_path, blobs)
    try:
        with pytest.raises(BigpeError, match="bpe_simple_vocab"):
            await scorer.open()
    finally:
        await scorer.close()


def test_what_is_missing_is_told(
    tmp_path: Path, blobs: BlobStore, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = check_config(
        {"score": {"backend": "hpsv2-package", "model": "hpsv2.1"}}, where="test"
    ).score
    with pytest.raises(ConfigError, match=r"place HPS_v2\.1_compressed\.pt"):
        Hpsv2PackageScorer(config, blobs)
    place = tmp_path / "cache" / "models" / "HPS_v2.1_compressed.pt"
    place.parent.mkdir()
    place.write_bytes(b"another file")
    with pytest.raises(ConfigError, match="its sha256 differs"):
        Hpsv2PackageScorer(config, blobs)
    row = PUBLISHED_SCORERS["hpsv2.1"]._replace(sha256=file_sha256(place))
    monkeypatch.setitem(PUBLISHED_SCORERS, "hpsv2.1", row)
    Hpsv2PackageScorer(config, blobs)
    with pytest.raises(ConfigError, match='needs model = "hpsv2" or "hpsv2.1", not \'clipscore\''):
        Hpsv2PackageScorer(config.model_copy(update={"model": "clipscore"}), blobs)
    (environment / hpsv2_environment.READY).write_text(json.dumps({"requirements": ["torch==1"]}))
    with pytest.raises(ConfigError, match="bigpe doctor --setup-hpsv2"):
        find_python()


def test_an_environment_that_cannot_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(BigpeError, match=r"hpsv2==1\.2\.0 cannot be installed"):
        hpsv2_environment.make_environment(lambda _: None)
    assert not environment_folder().exists()
