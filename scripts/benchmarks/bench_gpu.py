"""The render service against a bare pipeline loop on a GPU: one JSON line per figure.

    python scripts benchmarks.bench_gpu [--model sdxl|flux] [--pictures 64]
    python scripts benchmarks.bench_gpu --quick    # a tiny model on a CPU: the code, no figure

Random weights at the full size of SDXL (UNet of 2.6 billion weights, float16) or FLUX.1
(transformer of 12 billion, bfloat16), made once under build/. Pictures per second at batches of 1,
4 and 8; and how busy the painter is while a ViT-H-14 scores its pictures. Needs CUDA, 60 GB of disk
and 40 GB of GPU memory for FLUX. Not run where bigpe was built: no GPU was lent.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers as _diffusers
import torch
import transformers as _transformers

from benchmarks.figures import say
from bigpe.services.core.values import RenderRequest, ScoreRequest
from bigpe.services.models import embedded
from bigpe.services.render.config import RenderConfig
from bigpe.services.render.service import DiffusersRenderer, RenderService
from bigpe.services.score.service import ClipScorer, ScoreConfig, ScoreService
from bigpe.services.store.blobs import BlobStore
from bigpe.services.store.call_cache import InMemoryCallCache

diffusers: Any = _diffusers
transformers: Any = _transformers
WORK = Path(__file__).resolve().parents[2] / "build" / "bench_gpu"
BATCHES = (1, 4, 8)
PROMPT = "a castle on a hill at sunset, oil painting"
STEPS = {"sdxl": 2, "flux": 4, "tiny": 1}
SIDE = {"sdxl": 512, "flux": 1024, "tiny": 16}
SDXL = {"block_out_channels": (320, 640, 1280), "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20), "cross_attention_dim": 2048, "layers_per_block": 2,
        "projection_class_embeddings_input_dim": 2816, "sample_size": 64,
        "addition_time_embed_dim": 256}  # fmt: skip
TINY = {"block_out_channels": (4, 8, 8), "transformer_layers_per_block": (1, 1, 1),
        "attention_head_dim": (1, 2, 2), "cross_attention_dim": 64, "layers_per_block": 1,
        "projection_class_embeddings_input_dim": 6 * 8 + 32, "sample_size": 8,
        "addition_time_embed_dim": 8, "norm_num_groups": 2}  # fmt: skip


def clip(width: int, layers: int, *, projects: bool) -> tuple[Any, Any]:
    """A CLIP text encoder with random weights, and CLIP's tokenizer."""
    words = transformers.CLIPTokenizer.from_pretrained(embedded.pipeline_path() / "tokenizer")
    config = transformers.CLIPTextConfig(
        vocab_size=len(words), hidden_size=width, intermediate_size=4 * width,
        num_hidden_layers=layers, num_attention_heads=max(1, width // 64), projection_dim=width,
        max_position_embeddings=128, bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
    )  # fmt: skip
    kind = transformers.CLIPTextModelWithProjection if projects else transformers.CLIPTextModel
    return kind(config), words


def sdxl(*, tiny: bool) -> Any:
    """A pipeline of SDXL's architecture."""
    encoder, words = clip(32 if tiny else 768, 2 if tiny else 12, projects=False)
    encoder_2, words_2 = clip(32 if tiny else 1280, 2 if tiny else 32, projects=True)
    unet = diffusers.UNet2DConditionModel(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        use_linear_projection=True, addition_embed_type="text_time", **(TINY if tiny else SDXL),
    )  # fmt: skip
    channels = (4, 4) if tiny else (128, 256, 512, 512)
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels), block_out_channels=channels,
        layers_per_block=1 if tiny else 2, norm_num_groups=2 if tiny else 32,
    )  # fmt: skip
    return diffusers.StableDiffusionXLPipeline(
        vae=vae, text_encoder=encoder, text_encoder_2=encoder_2, tokenizer=words,
        tokenizer_2=words_2, unet=unet, scheduler=diffusers.EulerDiscreteScheduler(),
    )  # fmt: skip


def flux() -> Any:
    """A pipeline of FLUX.1's architecture; its T5 is small, for it reads a prompt once."""
    encoder, words = clip(768, 12, projects=False)
    t5 = transformers.T5EncoderModel(
        transformers.T5Config(d_model=4096, d_kv=64, d_ff=256, num_layers=1, num_heads=64)
    )
    words_2 = transformers.CLIPTokenizer.from_pretrained(embedded.pipeline_path() / "tokenizer")
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512), latent_channels=16, layers_per_block=2,
            use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1159,
        ),
        text_encoder=encoder, tokenizer=words, text_encoder_2=t5, tokenizer_2=words_2,
        transformer=diffusers.FluxTransformer2DModel(guidance_embeds=True),
    )  # fmt: skip


def make(model: str, dtype: torch.dtype) -> Path:
    """The folder of the pipeline, made once."""
    folder = WORK / model
    if not (folder / "model_index.json").exists():
        torch.manual_seed(0)
        torch.set_default_dtype(dtype)
        try:
            pipeline = flux() if model == "flux" else sdxl(tiny=model == "tiny")
        finally:
            torch.set_default_dtype(torch.float32)
        pipeline.save_pretrained(folder)
    return folder


def bare_seconds(folder: Path, config: RenderConfig, dtype: torch.dtype, count: int) -> float:
    """Seconds of a loop of batches of the pipeline alone, after one batch to warm up."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, torch_dtype=dtype).to(device)
    pipeline.set_progress_bar_config(disable=True)
    batch = config.max_batch

    def paint(first: int) -> None:
        pipeline(
            prompt=[PROMPT] * batch, num_inference_steps=config.steps, output_type="np",
            guidance_scale=config.guidance, width=config.width, height=config.height,
            generator=[torch.Generator("cpu").manual_seed(first + n) for n in range(batch)],
        )  # fmt: skip

    paint(0)
    start = time.perf_counter()
    for first in range(0, count, batch):
        paint(first)
    return time.perf_counter() - start


async def served_seconds(
    config: RenderConfig, count: int, scorer: ScoreConfig | None = None
) -> float:
    """Seconds of as many pictures through the render service, each scored if there is a scorer."""
    blobs = BlobStore(WORK / "images")
    render = RenderService(DiffusersRenderer(config, blobs), InMemoryCallCache(), blobs, config)
    score = None
    if scorer is not None:
        score = ScoreService(ClipScorer(scorer, blobs), InMemoryCallCache(), scorer)
        await score.open()
    await render.open()

    async def painted(seed: int) -> None:
        image = await render.render(RenderRequest(prompt=PROMPT, seed=seed))
        if score is not None:
            await score.score(ScoreRequest(image=image.digest, prompt=PROMPT))

    try:
        await asyncio.gather(*(painted(10**6 + n) for n in range(config.max_batch)))
        start = time.perf_counter()
        await asyncio.gather(*(painted(n) for n in range(count)))
        return time.perf_counter() - start
    finally:
        await render.close()
        if score is not None:
            await score.close()


def measure(model: str, count: int, scorer: str | None) -> None:
    """Print the figures of one model."""
    dtype = {"sdxl": torch.float16, "flux": torch.bfloat16}.get(model, torch.float32)
    folder, side, alone = make(model, dtype), SIDE[model], 0.0
    for batch in BATCHES:
        config = RenderConfig(
            model=str(folder), steps=STEPS[model], guidance=0.0 if model == "sdxl" else 3.5,
            width=side, height=side, max_batch=batch, dtype=str(dtype).partition(".")[2],  # type: ignore[arg-type]
        )  # fmt: skip
        bare = bare_seconds(folder, config, dtype, count)
        torch.cuda.empty_cache()  # for the service's process
        alone = asyncio.run(served_seconds(config, count))
        how = (
            f"{count / alone:.2f} pictures a second through the render service over "
            f"{count / bare:.2f} of a bare loop; {model}, {side}x{side}, {STEPS[model]} steps"
        )
        name = f"{'quick_' if model == 'tiny' else ''}render_over_bare_loop_b{batch}"
        say(name, round(bare / alone, 3), unit="ratio", n=count, how=how)
        if batch == BATCHES[-1] and scorer is not None:
            scoring = ScoreConfig(model=scorer)
            both = asyncio.run(served_seconds(config, count, scoring))
            how = f"painting alone {alone:.1f} s, with overlapped scoring {both:.1f} s; {model}"
            say("overlapped_busy_share", round(alone / both, 3), unit="share", n=count, how=how)


def main(arguments: Sequence[str]) -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=("sdxl", "flux"), default="sdxl")
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--scorer", help="a folder of a converted ViT-H-14, see bench_scorer")
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        measure("tiny", 8, None)
        return
    if not torch.cuda.is_available():
        sys.exit("bench_gpu needs CUDA; --quick tries its code on a CPU")
    measure(chosen.model, chosen.pictures, chosen.scorer)


if __name__ == "__main__":
    main(sys.argv[1:])
