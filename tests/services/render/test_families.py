"""Each family of painters, on a tiny pipeline of its real class with random weights.

docs/reference/painters.md is made from the table and from what is tried here:
`BIGPE_WRITE_REFERENCE=1 pytest tests/services/render/test_families.py` writes it anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.paths import ROOT
from support.tiny_families import MAKERS, family_pipeline, make_family

from bigpe.services.core.errors import ConfigError
from bigpe.services.render.config import RenderConfig
from bigpe.services.render.diffusers import process
from bigpe.services.render.diffusers.arguments import call_of, usual_parameters
from bigpe.services.render.diffusers.planning import planned_call
from bigpe.services.render.diffusers.process import DiffusersBackend
from bigpe.services.render.families import ARGUMENT, FAMILIES, Family, family_named

PAGE = ROOT / "docs" / "reference" / "painters.md"
SIDES = {
    "SanaPipeline": 32, "GlmImagePipeline": 32, "QwenImage21Pipeline": 32, "QwenImagePipeline": 32,
    "Krea2Pipeline": 32,
}  # fmt: skip
CALLS = {
    "SanaPipeline": {"use_resolution_binning": False},
    "PRXPipeline": {"use_resolution_binning": False, "skip_text_cleaning": True},
    "FluxPipeline": {"true_cfg_scale": 2.0},
}
LONG = "1" * 1200
"""A digit is a token of every tokenizer here, CLIP's included."""


def changed(place: int) -> str:
    return f"{LONG[:place]}2{LONG[place + 1 :]}"


Opens = Callable[..., DiffusersBackend]


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return {}


@pytest.fixture
def opens(made: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Opens:
    """Opens a renderer on a pipeline of a class, which is made once."""

    def opened(kind: str, **settings: Any) -> DiffusersBackend:
        if kind not in made:
            made[kind] = family_pipeline(kind)
            if kind == "HiDreamImagePipeline":
                made[kind].default_sample_size = 16
        monkeypatch.setattr(process, "load_pipeline", lambda *_: made[kind])
        return DiffusersBackend(config_of(kind, **settings), tmp_path)

    return opened


def config_of(kind: str, **settings: Any) -> RenderConfig:
    side = SIDES.get(kind, 16)
    family = family_named(kind)
    needed = {"negative_prompt": " "} if family and family.negative_by == "true-cfg" else {}
    usual = {
        "model": "a/folder", "steps": 2, "threads": 1, "device": "cpu", "guidance": 1.5,
        "width": side, "height": side, "call": CALLS.get(kind, {}), **needed,
    }  # fmt: skip
    return RenderConfig.model_validate({**usual, **settings})


def painted(backend: DiffusersBackend, prompt: str, negative: str = "") -> np.ndarray:
    """The picture before it is rounded: what is tiny has tiny effects."""
    return backend._forward([{"prompt": prompt, "seed": 1, "negative": negative}])


@pytest.mark.parametrize("kind", MAKERS)
def test_a_family_reads_what_the_table_says(kind: str, opens: Opens) -> None:
    family = family_named(kind)
    assert family and kind in family.pipelines
    backend = opens(kind)
    picture = painted(backend, LONG)
    cut = min(backend._truncation.cut(LONG).values(), default=0)
    read = len(LONG) - cut
    assert bool(cut) == bool(family.reads)
    assert backend._call.arguments.keys() == planned_arguments(kind)
    assert not np.array_equal(picture, painted(backend, changed(read - 1))), "its last token"
    if cut:
        assert np.array_equal(picture, painted(backend, changed(read))), "the first that is cut"
    assert not np.array_equal(picture, painted(opens(kind, guidance=4.0), LONG))
    if family.negative_by == "nothing":
        with pytest.raises(ConfigError):
            opens(kind, prompt={"negative": True})
    else:
        unlike = painted(opens(kind, prompt={"negative": True}), LONG, "3333")
        assert not np.array_equal(picture, unlike)


def planned_arguments(kind: str) -> set[str]:
    """The names of the arguments that the table alone leads to, and of `[render.call]`."""
    family = family_named(kind)
    assert family
    plain = config_of(kind, call={}, negative_prompt=None, guidance=0.0)
    planned = call_of(plain, kind, usual_parameters(family), family)
    return planned.arguments.keys() | CALLS.get(kind, {}).keys()


@pytest.mark.parametrize("kind", ["Flux2KleinPipeline", "SanaPipeline", "ErnieImagePipeline"])
def test_a_family_from_a_folder(kind: str, tmp_path: Path) -> None:
    folder = make_family(kind, tmp_path / "pipeline")
    wide = config_of(kind, model=str(folder), width=64, height=32)
    backend = DiffusersBackend(wide, tmp_path / "images")
    items = [{"prompt": "a red fox", "seed": seed} for seed in (1, 2)]
    results = backend.handle("render", {"items": items})["items"]
    assert [(result["width"], result["height"]) for result in results] == [(64, 32)] * 2
    assert results[0]["digest"] != results[1]["digest"]
    assert results[0]["truncated_tokens"] == {}


def test_distilled_models_take_no_guidance(opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, holder, setting in (
        ("Flux2KleinPipeline", "self", {"is_distilled": True}),
        ("FluxPipeline", "transformer", {"guidance_embeds": False}),
    ):
        pipeline = opens(kind)._pipeline
        monkeypatch.setattr(
            pipeline if holder == "self" else getattr(pipeline, holder),
            "_internal_dict",
            {**pipeline.config, **setting},
        )
        with pytest.raises(ConfigError, match="guidance"):
            opens(kind, guidance=4.0)
        plain = opens(kind, guidance=0.0)
        assert "guidance_scale" not in plain._call.arguments
        opens(kind, guidance=RenderConfig().guidance)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("Flux2KleinPipeline", {"negative_prompt": "blur"}, "negative_prompt"),
    ("Flux2KleinPipeline", {"call": {"negative_prompt": "blur"}}, "negative_prompt"),
    ("Flux2KleinPipeline", {"call": {"true_cfg_scale": 2.0}}, "true_cfg_scale"),
    ("Flux2KleinPipeline", {"call": {"steps": 2}}, "num_inference|steps"),
    ("Flux2KleinPipeline", {"call": {"num_inference_steps": 2}}, r"\[render\] steps"),
    ("Flux2KleinPipeline", {"call": {"prompt_embeds": [1.0]}}, "prompt_embeds"),
    ("Flux2KleinPipeline", {"call": {"image": "a.png"}}, "image"),
    ("Flux2KleinPipeline", {"width": 17, "height": 16}, "divisible"),
    ("QwenImagePipeline", {"negative_prompt": None}, "without a negative prompt"),
    ("QwenImagePipeline", {"guidance": 1.0}, "true_cfg_scale above 1"),
    ("QwenImagePipeline", {"call": {"true_cfg_scale": 2.0}}, r"\[render\] guidance"),
    ("QwenImagePipeline", {"call": {ARGUMENT: 2048}}, "1024"),
    ("FluxPipeline", {"call": {}}, "true_cfg_scale"),
    ("FluxPipeline", {"negative_prompt": None}, "without a negative prompt"),
    ("FluxPipeline", {"call": {"prompt_2": "a fox"}}, "prompt_2"),
    ("LongCatImagePipeline", {"call": {"enable_prompt_rewrite": True}}, "rewrite"),
    ("ErnieImagePipeline", {"call": {"use_pe": True}}, "rewrite"),
    ("SanaPipeline", {"call": {"complex_human_instruction": ["x"]}}, "rewrite"),
    ("SanaPipeline", {"width": 48, "height": 32}, "divisible"),
    ("GlmImagePipeline", {"deterministic": False}, "deterministic"),
    ("StableDiffusionPipeline", {"call": {ARGUMENT: 512}}, ARGUMENT),
    ("StableDiffusionPipeline", {"guidance": 1.0, "negative_prompt": "blur"}, "guidance"),
]


@pytest.mark.parametrize(("kind", "settings", "word"), REFUSED, ids=str)
def test_what_does_not_reach_a_pipeline_is_refused(
    opens: Opens, kind: str, settings: dict[str, Any], word: str
) -> None:
    with pytest.raises(ConfigError, match=word):
        opens(kind, **settings)


@pytest.mark.parametrize(
    ("settings", "given"),
    [
        ({"model": "black-forest-labs/FLUX.2-dev"}, ["guidance_scale", "caption_upsample_temp"]),
        ({"model": "embedded"}, ["guidance_scale=3.0"]),
        ({"model": "Qwen/Qwen-Image", "negative_prompt": " "}, ["true_cfg_scale=3.0"]),
        ({"model": "mine/model"}, None),
        ({"backend": "a1111"}, None),
    ],
    ids=str,
)
def test_calls_are_planned_by_name(settings: dict[str, Any], given: list[str] | None) -> None:
    plan = planned_call(RenderConfig.model_validate(settings))
    assert (plan is None) == (given is None)
    assert plan is None or all(text in plan.described() for text in given or ())


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "black-forest-labs/FLUX.2-dev", "negative_prompt": "blur"},
        {"model": "black-forest-labs/FLUX.2-dev", "call": {"true_cfg_scale": 2.0}},
        {"model": "Qwen/Qwen-Image"},
        {"call": {"caption": 1}},
        {"negative_prompt": "blur", "guidance": 0.0},
    ],
    ids=str,
)
def test_plans_that_do_not_reach_a_pipeline_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        planned_call(RenderConfig.model_validate(settings))


def test_a_distilled_folder_is_known_before_it_is_loaded(tmp_path: Path) -> None:
    index = {"_class_name": "Flux2KleinPipeline", "is_distilled": True}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    config = RenderConfig(model=str(tmp_path), guidance=4.0)
    with pytest.raises(ConfigError, match="guidance"):
        planned_call(config)
    plan = planned_call(config.model_copy(update={"guidance": 1.0}))
    assert plan and "guidance_scale" not in plan.arguments


def test_the_call_is_part_of_the_fingerprint(opens: Opens) -> None:
    plain = opens("OvisImagePipeline")
    assert "arguments" not in plain.fingerprint_inputs
    assert not {"call", "sides"} & plain.fingerprint_inputs["settings"].keys()
    shorter = opens("OvisImagePipeline", call={ARGUMENT: 64})
    assert shorter.fingerprint_inputs["arguments"] == {ARGUMENT: 64}
    assert shorter.fingerprint() != plain.fingerprint()
    limits = [sum(b._truncation.cut(LONG).values()) for b in (plain, shorter)]
    assert limits[1] - limits[0] == 256 - 64
    # What keeps a pipeline from rewriting changes its pictures.
    ernie = opens("ErnieImagePipeline")
    assert ernie.fingerprint_inputs["arguments"] == {"use_pe": False}


def test_pictures_of_another_size_than_the_configured_one_are_an_error(opens: Opens) -> None:
    with pytest.raises(ConfigError, match="32x32 in place of"):
        backend = opens("HiDreamImagePipeline", width=32, height=32)
        backend._pipeline.default_sample_size = 32
        opens("HiDreamImagePipeline", width=64, height=64).handle(
            "render", {"items": [{"prompt": "a fox", "seed": 1}]}
        )


def test_the_page_is_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    made = page()
    if os.environ.get("BIGPE_WRITE_REFERENCE"):
        PAGE.write_text(made, "utf-8")
    assert PAGE.read_text("utf-8") == made, "write the page anew: see this module"


def page() -> str:
    rows = [_row(family) for family in FAMILIES if family.pipelines]
    tried = "| " + " | ".join(("family", "arguments", "limits", "profile", "tried")) + " |"
    return "\n".join((INTRODUCTION, tried, "|---|---|---|---|---|", *rows, ""))


def _row(family: Family) -> str:
    scale = f"guidance is `{family.guidance}`"
    negative = {
        "guidance": f"negative prompts with guidance above {family.off_at:g}",
        "true-cfg": "negative prompts with `true_cfg_scale` above 1",
        "nothing": "no negative prompts",
    }[family.negative_by]
    reads = ", ".join(
        f"{each.tokenizer}: {each.limit or 'its own limit'}" for each in family.reads or ()
    )
    tokens = f", {family.max_tokens:,} tokens" if family.max_tokens else ""
    tried = "yes" if set(family.pipelines) & MAKERS.keys() else "no"
    switched = f"; `{family.rewriting}` is switched off" if family.rewriting else ""
    remark = f"; {family.remark}" if family.remark else ""
    cells = (
        ", ".join(f"`{kind}`" for kind in family.pipelines),
        f"{scale}; {negative}{switched}{remark}",
        reads or "reads the whole prompt",
        f"{family.form}{tokens}",
        tried,
    )
    return f"| {' | '.join(cells)} |"


INTRODUCTION = """# Families of painters

What the pipelines of diffusers 0.42 take, and how bigpe calls them.
A setting that does not reach a pipeline is an error.
The limits are tokens, special tokens and the pipeline's own frame included,
or the argument of the call that sets them.

The tests make this table (`tests/services/render/test_families.py`).
*Tried* means: with a tiny pipeline of the real class and random weights, on a CPU.
There, the last token that is counted as read changes the picture.
The first that is counted as cut does not.
Guidance changes the picture, and so does a negative prompt where the table has one.
No published weights were run.
FLUX.2 dev, LongCat-Image and Qwen-Image 2.1 need the package torchvision for their processor.
They were tried with a tokenizer in its place.
"""
