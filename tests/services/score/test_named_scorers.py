"""PickScore and CLIPScore as their authors compute them, and fetching from a real HTTP hub."""

from __future__ import annotations

import hashlib
import http.server
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from click.testing import CliRunner
from parity import open_clip_toy as toy
from PIL import Image as Pictures
from safetensors.torch import save_file

from bigpe.runtime.cli import cli
from bigpe.services.core.errors import ConfigError, ServiceError
from bigpe.services.models.downloads import file_sha256
from bigpe.services.score.clip.checkpoints import pull_official
from bigpe.services.score.clip.open_clip import tokenizer
from bigpe.services.score.clip.process import ClipBackend
from bigpe.services.score.published_scorers import (
    PUBLISHED_SCORERS,
    PublishedScorer,
    find_checkpoint,
    find_official,
)
from bigpe.services.score.service import ScoreConfig
from bigpe.services.store.blobs import BlobStore

SIDE = 32
PROMPTS = ("a red fox", "“Curly” &amp; CAFÉ", "", "fox " * 90, "a cat <end_of_text> in a hat")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BIGPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tiny(activation: str, vision_head: int) -> Any:
    """A CLIPModel of the published vocabulary, head widths and activation, but small."""
    torch.manual_seed(3)
    common = {"hidden_act": activation, "intermediate_size": 64, "num_hidden_layers": 2}
    config = transformers.CLIPConfig(
        text_config={
            **common,
            "hidden_size": 128,
            "num_attention_heads": 2,
            "vocab_size": 49408,
            "bos_token_id": 49406,
            "eos_token_id": 49407,
        },
        vision_config={
            **common,
            "hidden_size": 2 * vision_head,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "patch_size": 16,
        },
        projection_dim=16,
    )
    model = transformers.CLIPModel(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    return model.eval()


def publish(name: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> PublishedScorer:
    """Let the registry expect this file."""
    row = PUBLISHED_SCORERS[name]
    row = row._replace(sha256=row.sha256 and file_sha256(file), size=file.stat().st_size)
    monkeypatch.setitem(PUBLISHED_SCORERS, name, row)
    return row


def picture(width: int, height: int) -> bytes:
    levels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Pictures.fromarray(levels).save(buffer, "PNG")
    return buffer.getvalue()


def scored(name: str, images: Path, *pictures: bytes) -> list[dict[str, Any]]:
    """By picture, then by prompt."""
    backend = ClipBackend(ScoreConfig(model=name, device="cpu", threads=1), images)
    digests = [BlobStore(images).put(data) for data in pictures]
    items = [{"image": image, "prompt": prompt} for image in digests for prompt in PROMPTS]
    return backend.handle("score", {"items": items})["items"]


def cosines(model: Any, pixels: torch.Tensor, ids: list[list[int]]) -> list[float]:
    with torch.inference_mode():
        outs = [
            model(input_ids=torch.tensor([item]), pixel_values=pixels[row][None])
            for row in range(len(pixels))
            for item in ids
        ]
    return [float(out.image_embeds @ out.text_embeds.T) for out in outs]


def pil_pixels(*pictures: bytes) -> torch.Tensor:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor: Any = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    opened = [Pictures.open(io.BytesIO(data)) for data in pictures]
    return torch.cat([processor(item, return_tensors="pt").pixel_values for item in opened])


def test_pickscore_is_the_scaled_cosine_of_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("gelu", 80)
    file = tmp_path / "model.safetensors"
    save_file(model.state_dict(), file)
    publish("pickscore", file, monkeypatch)
    pull_official("pickscore", lambda _: None, file=file)
    pictures = [picture(32, 32), picture(50, 41), picture(33, 90)]
    result = scored("pickscore", tmp_path / "images", *pictures)
    ids, merges = tokenizer.vocabulary()
    spelled = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    theirs: Any = transformers.CLIPTokenizer
    theirs = theirs(vocab={spelled.get(k, k): v for k, v in ids.items()}, merges=merges)
    tokens = [theirs(prompt, truncation=True, max_length=77).input_ids for prompt in PROMPTS]
    scale = float(model.logit_scale.detach().exp()) / 100
    wanted = [scale * cosine for cosine in cosines(model, pil_pixels(*pictures), tokens)]
    assert [item["value"] for item in result] == pytest.approx(wanted, abs=1e-5)


def test_clipscore_is_never_negative_and_prefixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("quick_gelu", 64)
    file = tmp_path / "pytorch_model.bin"
    constants = {
        "text_model.embeddings.position_ids": torch.arange(77)[None],
        "vision_model.embeddings.position_ids": torch.arange(5)[None],
    }
    torch.save({**model.state_dict(), **constants}, file)
    publish("clipscore", file, monkeypatch)
    pull_official("clipscore", lambda _: None, file=file)
    # Even borders, where transformers' processor cuts as OpenAI's does.
    pictures = [picture(32, 32), picture(64, 32), picture(40, 32)]
    result = scored("clipscore", tmp_path / "images", *pictures)
    tokens = [tokenizer.tokens_of("A photo depicts " + prompt, 77).ids for prompt in PROMPTS]
    found = cosines(model, pil_pixels(*pictures), tokens)
    assert min(found) < 0 < max(found)
    wanted = [2.5 * max(cosine, 0) for cosine in found]
    assert [item["value"] for item in result] == pytest.approx(wanted, abs=1e-5)
    assert [entry["truncated_tokens"] for entry in result[:5]] == [0, 0, 0, 18, 4]


def test_an_odd_border_is_cut_as_openai_cuts_it() -> None:
    from bigpe.services.score.clip.preprocessing import official_preprocess

    # Columns 0..34 hold their number; torchvision's centre crop begins at round(3 / 2) = 2.
    columns = np.repeat(np.arange(35, dtype=np.uint8)[None, :, None], 32, 0).repeat(3, 2)
    picture = Pictures.fromarray(columns)
    starts = {
        kind: float(official_preprocess(kind, SIDE)(picture)[0, 0, 0, 0] * 0.26862954 + 0.48145466)
        for kind in ("shortest-side-crop", "shortest-side-crop-rounded")
    }
    assert starts["shortest-side-crop"] * 255 == pytest.approx(1, abs=1e-3)
    assert starts["shortest-side-crop-rounded"] * 255 == pytest.approx(2, abs=1e-3)


def test_a_wrong_shape_and_a_damaged_copy_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tiny("quick_gelu", 64).state_dict()
    file = tmp_path / "pytorch_model.bin"
    torch.save(state | {"visual_projection.weight": torch.zeros(16, 99)}, file)
    publish("clipscore", file, monkeypatch)
    with pytest.raises(ServiceError, match=r"visual_projection\.weight.*\(16, 99\)"):
        pull_official("clipscore", lambda _: None, file=file)
    torch.save(state, file)
    publish("clipscore", file, monkeypatch)
    folder = pull_official("clipscore", lambda _: None, file=file)
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(ConfigError, match="is damaged"):
        find_official("clipscore")


def test_a_file_of_another_scorer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "HPS_v2_1.pt"
    file.write_bytes(b"the hub has v2.0 under this name")
    publish("hpsv2", file, monkeypatch)
    with pytest.raises(ServiceError, match="it is that of hpsv2;"):
        pull_official("hpsv2.1", lambda _: None, file=file)


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the Hugging Face hub that a download needs."""

    files: dict[str, bytes] = {}

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        data = self.files.get(self.path, b"")
        self.send_response(200 if data else 404)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        return data

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_scorer_is_fetched_once(
    tmp_path: Path, hub: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pytorch_model.bin"
    torch.save(tiny("quick_gelu", 64).state_dict(), file)
    row = publish("clipscore", file, monkeypatch)
    with pytest.raises(ServiceError, match="without internet, get https://huggingface.co/openai"):
        pull_official("clipscore", lambda _: None, endpoint=hub)
    monkeypatch.setattr(
        Hub,
        "files",
        {f"/{row.repository}/resolve/{row.revision}/{row.file}": file.read_bytes()},
    )
    folder = pull_official("clipscore", lambda _: None, endpoint=hub)
    monkeypatch.setattr(Hub, "files", {})
    assert pull_official("clipscore", lambda _: None, endpoint=hub) == folder
    # The published file is not kept: nothing is unpickled again.
    assert sorted(path.name for path in (cache / "models").iterdir()) == ["clipscore"]
    assert not list(folder.rglob("*.bin"))


def test_the_published_file_is_kept_when_asked_for(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "downloaded.pt"
    weights = {name: torch.tensor(value) for name, value in toy.weights().items()}
    torch.save({"state_dict": weights}, file)
    row = publish("hpsv2.1", file, monkeypatch)
    folder = pull_official("hpsv2.1", lambda _: None, file=file)
    with pytest.raises(ConfigError, match="bigpe models pull hpsv2.1 --keep"):
        find_checkpoint("hpsv2.1")
    converted = (folder / "model.safetensors").stat().st_mtime_ns
    for _ in range(2):
        assert pull_official("hpsv2.1", lambda _: None, file=file, keep=True) == folder
        assert find_checkpoint("hpsv2.1") == cache / "models" / row.file
    assert find_checkpoint("hpsv2.1").read_bytes() == file.read_bytes()
    assert (folder / "model.safetensors").stat().st_mtime_ns == converted
    refused = CliRunner().invoke(cli, ["models", "pull", "smollm2", "--keep"])
    assert isinstance(refused.exception, ConfigError)


def test_the_command_line_lists_and_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = CliRunner().invoke
    listed = run(cli, ["models", "list"], env={"COLUMNS": "200"}).output
    for name in ("hpsv2", "hpsv2.1", "pickscore", "clipscore"):
        assert f"not here: bigpe models pull {name}" in listed
    file = tmp_path / "pytorch_model.bin"
    torch.save(tiny("quick_gelu", 64).state_dict(), file)
    publish("clipscore", file, monkeypatch)
    placed = run(cli, ["models", "pull", "clipscore", "--file", str(file)])
    assert placed.exit_code == 0, placed.output
    assert str(find_official("clipscore")) in run(cli, ["models", "list", "--json"]).output
