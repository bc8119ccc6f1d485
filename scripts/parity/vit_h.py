"""A checkpoint of the size of the published ones, with random weights."""

from __future__ import annotations

import torch


def random_vit_h() -> dict[str, torch.Tensor]:
    """ViT-H-14 in open_clip's layout, fp16, norms and biases off their neutral values."""
    vision, text, embed = (1280, 32), (1024, 24), 1024
    state = {
        "logit_scale": torch.tensor(4.6),
        "positional_embedding": torch.randn(77, text[0]) * 0.01,
        "text_projection": torch.randn(text[0], embed) * text[0] ** -0.5,
        "token_embedding.weight": torch.randn(49408, text[0]) * 0.02,
        "visual.class_embedding": torch.randn(vision[0]) * vision[0] ** -0.5,
        "visual.positional_embedding": torch.randn(257, vision[0]) * vision[0] ** -0.5,
        "visual.proj": torch.randn(vision[0], embed) * vision[0] ** -0.5,
        "visual.conv1.weight": torch.randn(vision[0], 3, 14, 14) * 0.03,
    }
    norms = {"ln_final": text[0], "visual.ln_pre": vision[0], "visual.ln_post": vision[0]}
    for tower, (width, layers) in (("transformer", text), ("visual.transformer", vision)):
        for layer in range(layers):
            at = f"{tower}.resblocks.{layer}"
            norms |= {f"{at}.ln_1": width, f"{at}.ln_2": width}
            for name, rows, columns in (
                ("attn.in_proj_", 3 * width, width),
                ("attn.out_proj.", width, width),
                ("mlp.c_fc.", 4 * width, width),
                ("mlp.c_proj.", width, 4 * width),
            ):
                state[f"{at}.{name}weight"] = torch.randn(rows, columns) * columns**-0.5
                state[f"{at}.{name}bias"] = torch.randn(rows) * 0.02
    for name, width in norms.items():
        state[f"{name}.weight"] = 1 + 0.1 * torch.randn(width)
        state[f"{name}.bias"] = 0.02 * torch.randn(width)
    return {name: value.half() for name, value in state.items()}
