"""From a checkpoint in open_clip's layout to a transformers CLIPModel, strictly.

Every key is used once; a key that is missing or left over is an error, for a weight that silently
stays random gives scores that look like scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from bigpe.services.core.errors import ServiceError

State = dict[str, torch.Tensor]
TOWERS = (("transformer", "text_model"), ("visual.transformer", "vision_model"))
SINGLE = {
    "logit_scale": "logit_scale",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
}
TRANSPOSED = {
    "text_projection": "text_projection.weight",
    "visual.proj": "visual_projection.weight",
}
NORMS = {
    "ln_final": "text_model.final_layer_norm",
    "visual.ln_pre": "vision_model.pre_layrnorm",  # so spelled in transformers
    "visual.ln_post": "vision_model.post_layernorm",
}
LAYER = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def convert(checkpoint: State) -> State:
    """The state of a CLIPModel; ServiceError names the keys that are missing or unknown."""
    source = {name.removeprefix("module."): value for name, value in checkpoint.items()}
    source.pop("attn_mask", None)  # a buffer of some releases, rebuilt by the model
    try:
        converted = dict(_renamed(source))
    except KeyError as error:
        raise ServiceError(
            f"the checkpoint is not an open_clip ViT: it has no {error}; get the file named by "
            "`bigpe models list`"
        ) from error
    if source:
        raise ServiceError(
            f"the checkpoint has {len(source)} weights that are not an open_clip ViT's, the first "
            f"is {min(source)!r}; nothing was converted"
        )
    return converted


def _renamed(source: State) -> Iterator[tuple[str, torch.Tensor]]:
    """Takes out of `source` what it yields."""
    layers = {tower: layer_count(source, tower) for tower, _ in TOWERS}
    for old, new in SINGLE.items():
        yield new, source.pop(old)
    for old, new in TRANSPOSED.items():
        yield new, source.pop(old).T.contiguous()
    for kind in ("weight", "bias"):
        for old, new in NORMS.items():
            yield f"{new}.{kind}", source.pop(f"{old}.{kind}")
        for tower, target in TOWERS:
            for index in range(layers[tower]):
                old = f"{tower}.resblocks.{index}"
                new = f"{target}.encoder.layers.{index}"
                stacked = source.pop(f"{old}.attn.in_proj_{kind}")
                for letter, part in zip("qkv", stacked.chunk(3), strict=True):
                    yield f"{new}.self_attn.{letter}_proj.{kind}", part.contiguous()
                for a, b in LAYER.items():
                    yield f"{new}.{b}.{kind}", source.pop(f"{old}.{a}.{kind}")


def layer_count(state: State, tower: str) -> int:
    """Layers of "transformer" or "visual.transformer"."""
    prefix = f"{tower}.resblocks."
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def config_of(converted: State, *, text_head: int, vision_head: int) -> dict[str, Any]:
    """config.json's content, from the weights' shapes and the widths of an attention head.

    open_clip's ViT-H-14 has heads of 64 (text) and 80 (vision), and the exact GELU.
    """
    patch = converted["vision_model.embeddings.patch_embedding.weight"]
    cells = converted["vision_model.embeddings.position_embedding.weight"].shape[0] - 1
    words = converted["text_model.embeddings.token_embedding.weight"]
    places = converted["text_model.embeddings.position_embedding.weight"]

    def tower(name: str, width: int, head: int) -> dict[str, Any]:
        start = f"{name}.encoder.layers."
        layers = {key[len(start) :].split(".")[0] for key in converted if key.startswith(start)}
        return {
            "hidden_size": width,
            "intermediate_size": converted[f"{start}0.mlp.fc1.weight"].shape[0],
            "num_hidden_layers": len(layers),
            "num_attention_heads": width // head,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-5,
        }

    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": converted["text_projection.weight"].shape[0],
        "text_config": tower("text_model", words.shape[1], text_head)
        | {
            "vocab_size": words.shape[0],
            "max_position_embeddings": places.shape[0],
            "bos_token_id": words.shape[0] - 2,
            "eos_token_id": words.shape[0] - 1,
            "pad_token_id": 0,
        },
        "vision_config": tower("vision_model", patch.shape[0], vision_head)
        | {"image_size": round(cells**0.5) * patch.shape[-1], "patch_size": patch.shape[-1]},
    }
