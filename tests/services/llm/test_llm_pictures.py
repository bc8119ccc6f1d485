"""Pictures in requests: sent to models that see, and part of what the memo knows them by."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image as Pictures
from support.http_llm import FakeServer

from bigpe.services.core.errors import LlmError
from bigpe.services.core.values import digest
from bigpe.services.llm.config import load_client
from bigpe.services.llm.service import LlmConfig, LlmRequest, LlmService, Turn
from bigpe.services.store.blobs import BlobStore
from bigpe.services.store.call_cache import CallCache
from bigpe.services.store.database import Store


def config_for(url: str, vision: bool) -> LlmConfig:
    info = {
        "vision": vision, "function_calling": False, "json_output": True,
        "structured_output": True, "family": "unknown", "multiple_system_messages": True,
    }  # fmt: skip
    return LlmConfig(
        provider="autogen_ext.models.openai.OpenAIChatCompletionClient",
        config={"model": "test-model", "base_url": url, "model_info": info},
    )


def request(*images: str) -> LlmRequest:
    turn = Turn(role="user", text="which?", images=images)
    return LlmRequest(turns=(turn,), seed=1, temperature=0.0, max_tokens=9)


def painted(blobs: BlobStore, shade: int) -> str:
    file = io.BytesIO()
    Pictures.new("RGB", (4, 4), (shade, 0, 0)).save(file, "PNG")
    return blobs.put(file.getvalue())


async def test_equal_pictures_are_paid_once_and_others_are_another_request(
    server: FakeServer, tmp_path: Path
) -> None:
    blobs = BlobStore(tmp_path / "images")
    red, dark = painted(blobs, 200), painted(blobs, 20)
    config = config_for(server.url, vision=True)
    async with Store(tmp_path / "p.db") as store:
        effects = CallCache(store)
        llm = LlmService(load_client(config), effects, config=config, picture=blobs.read)
        assert llm.sees
        for images in ((red, dark), (red, dark), (dark, red), ()):
            await llm.ask(request(*images))
        body = request().model_dump(mode="json")
        for turn in body["turns"]:
            del turn["images"]
        key = digest({"op": "llm", "version": 1, "model": llm.fingerprint, "request": body})
        assert await store.row("get_effect", key=key), "text alone has the key that it always had"
        await llm.close()
    assert effects.paid["llm"] == 3
    assert [len(json.dumps(r)) > 300 for r in server.requests] == [True, True, False]


async def test_a_model_that_sees_nothing_is_said_to(server: FakeServer, tmp_path: Path) -> None:
    config = config_for(server.url, vision=False)
    async with Store(tmp_path / "p.db") as store:
        llm = LlmService(load_client(config), CallCache(store), config=config)
        assert not llm.sees
        with pytest.raises(LlmError, match="given no pictures"):
            await llm.ask(request("0" * 64))
        await llm.close()
