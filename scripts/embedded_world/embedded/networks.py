"""The networks, all in the ordinary diffusers and transformers shapes."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch.nn.functional as F
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
)

from embedded_world.embedded.dataset import CONTEXT
from embedded_world.embedded.latents import CHANNELS, GRID
from embedded_world.embedded.phases import write_phases
from embedded_world.embedded.world import SIZE

TEXT_WIDTH = 128
TEXT_LAYERS = 3
LATENT_SCALE = 4.0
"""What the pipeline divides latents by before they are decoded."""


def _text_settings(tokenizer: CLIPTokenizer, layers: int) -> dict[str, int | str]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 4 * TEXT_WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": CONTEXT,
        "projection_dim": TEXT_WIDTH,
        "hidden_act": "gelu",
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def build_text(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(CLIPTextConfig(**_text_settings(tokenizer, layers=TEXT_LAYERS)))


def build_unet(widths: tuple[int, int] = (96, 192)) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=GRID,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    """v-prediction; 16 steps are enough at guidance 3."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


def build_vae() -> AutoencoderTiny:
    """Learned pictures for the fixed linear latents.

    The decoder begins with a soft clamp at 3, so the pipeline hands it latents scaled down.
    """
    vae = AutoencoderTiny(
        encoder_block_out_channels=(24, 24, 24, 24),
        decoder_block_out_channels=(48, 48, 48, 48),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(3, 2, 1, 1),
        latent_channels=CHANNELS,
        upsampling_scaling_factor=2,
        scaling_factor=LATENT_SCALE,
    )
    write_phases(vae)
    return vae


class Tower(NamedTuple):
    """The size of a CLIPModel's vision tower, and how many layers its text tower has."""

    width: int
    layers: int
    patch: int
    text_layers: int


SCORER = Tower(width=160, layers=5, patch=8, text_layers=3)
GUARD = Tower(width=160, layers=4, patch=16, text_layers=2)


def build_scorer(tokenizer: CLIPTokenizer, tower: Tower = SCORER) -> CLIPModel:
    vision = {
        "hidden_size": tower.width,
        "intermediate_size": 4 * tower.width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": 4,
        "image_size": SIZE,
        "patch_size": tower.patch,
        "projection_dim": TEXT_WIDTH,
        "hidden_act": "gelu",
    }
    return CLIPModel(
        CLIPConfig(
            text_config=_text_settings(tokenizer, layers=tower.text_layers),
            vision_config=vision,
            projection_dim=TEXT_WIDTH,
            logit_scale_init_value=math.log(20.0),
        )
    )


def embeddings(scorer: CLIPModel, pixels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Unit image and text embeddings."""
    image = scorer.visual_projection(scorer.vision_model(pixel_values=pixels).pooler_output)
    text = scorer.text_projection(scorer.text_model(input_ids=ids).pooler_output)
    return F.normalize(image, dim=-1), F.normalize(text, dim=-1)


def millions(network: nn.Module) -> float:
    return sum(p.numel() for p in network.parameters()) / 1e6
