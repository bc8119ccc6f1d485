"""A run whose language model cannot be reached says so, and renders nothing."""

from __future__ import annotations

from pathlib import Path

from support.fake_cli import start


def test_a_refused_endpoint_is_named_before_a_picture(tmp_path: Path) -> None:
    settings = (
        "run.rounds=1",
        "run.batch_size=1",
        "run.pilot_prompts=2",
        "run.outage_minutes=0",
        'llm.default.provider="autogen_ext.models.openai.OpenAIChatCompletionClient"',
        'llm.default.config.model="gpt-4o-mini"',
        'llm.default.config.base_url="http://127.0.0.1:9/v1"',
    )
    chosen = [word for setting in settings for word in ("--set", setting)]
    done = start(tmp_path, "run", *chosen, http_llm=True)
    out, err = done.communicate(timeout=280)
    assert done.returncode == 1, err
    assert "http://127.0.0.1:9/v1: no connection" in err
    assert "asking gpt-4o-mini one question" in err
    assert "best:" not in out and not list((tmp_path / "images").rglob("*.png"))
