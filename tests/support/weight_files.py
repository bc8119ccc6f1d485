"""Weights in one file: a tiny SDXL checkpoint with the names of its format, LoRAs, GGUF."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from support.tiny_painters import clip, diffusers, transformers

Tensors = dict[str, torch.Tensor]
LAYERS = 10
"""By the tenth layer of its second encoder, diffusers knows an SDXL checkpoint."""
RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
HEADS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip
OPEN_CLIP = {
    "text_model.final_layer_norm": "ln_final",
    "text_model.encoder.layers.": "transformer.resblocks.", "layer_norm": "ln_",
    "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
}  # fmt: skip


def tiny_sdxl() -> Any:
    """A pipeline with SDXL's blocks, and random weights."""
    torch.manual_seed(0)
    encoder, words = clip(16)  # diffusers tells the encoders apart by their width
    encoder_2, words_2 = clip(projects=True)
    deep = transformers.CLIPTextConfig.from_dict(
        encoder_2.config.to_dict() | {"num_hidden_layers": LAYERS}
    )
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(4, 8, 8),
        layers_per_block=2,
        norm_num_groups=2,
        cross_attention_dim=16 + 32,
        attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32,
    )
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 4),
        layers_per_block=2,
        norm_num_groups=2,
        sample_size=32,
    )
    return diffusers.StableDiffusionXLPipeline(
        text_encoder=encoder.eval(), tokenizer=words,
        text_encoder_2=transformers.CLIPTextModelWithProjection(deep).eval(), tokenizer_2=words_2,
        unet=unet.eval(), vae=vae.eval(), scheduler=diffusers.EulerDiscreteScheduler(),
    )  # fmt: skip


def save_checkpoint(pipeline: Any, file: Path) -> Path:
    """The weights of a `tiny_sdxl` in one file."""
    tensors = {f"model.diffusion_model.{_unet(k)}": v for k, v in _state(pipeline.unet)}
    tensors |= {f"first_stage_model.{_vae(k)}": _conv(k, v) for k, v in _state(pipeline.vae)}
    tensors |= {
        f"conditioner.embedders.0.transformer.{_prefixed(k)}": v
        for k, v in _state(pipeline.text_encoder)
    }
    second = {_prefixed(k): v for k, v in _state(pipeline.text_encoder_2)}
    tensors |= {f"conditioner.embedders.1.model.{k}": v for k, v in _open_clip(second).items()}
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, file)
    return file


def save_lora(pipeline: Any, file: Path, *, kohya: bool = False) -> Path:
    """A LoRA of the UNet's attention with random weights, as diffusers or kohya-ss write it."""
    from diffusers.utils import convert_state_dict_to_kohya
    from peft import LoraConfig, get_peft_model_state_dict

    torch.manual_seed(1)
    unet = pipeline.unet
    unet.add_adapter(
        LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "to_k", "to_v"]), "made"
    )
    state = {
        f"unet.{k}": v for k, v in get_peft_model_state_dict(unet, adapter_name="made").items()
    }
    unet.delete_adapters("made")
    if kohya:
        state = {
            name.replace("lora_te_", "lora_unet_", 1) if name.startswith("lora_te_") else name: v
            for name, v in convert_state_dict_to_kohya(state).items()
        }
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
    return file


def save_gguf(net: Any, file: Path) -> Path:
    """A transformer in 8 bits, by diffusers' names of its tensors."""
    import gguf

    kind = gguf.GGMLQuantizationType.Q8_0
    writer: Any = gguf.GGUFWriter(file, "flux")
    for name, weights in net.state_dict().items():
        if weights.ndim == 2 and weights.shape[1] % 32 == 0:
            writer.add_tensor(name, gguf.quantize(weights.numpy(), kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, weights.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _state(module: Any) -> list[tuple[str, torch.Tensor]]:
    return list(module.state_dict().items())


def _prefixed(name: str) -> str:
    """transformers leaves out a prefix that checkpoints have."""
    bare = name.startswith(("encoder.", "embeddings.", "final_layer_norm."))
    return f"text_model.{name}" if bare else name


def _replaced(name: str, table: dict[str, str]) -> str:
    for ours, theirs in table.items():
        name = name.replace(ours, theirs)
    return name


def _unet(name: str) -> str:
    """The name in the blocks that are numbered through, three for each resolution."""
    for ours, theirs in HEADS.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    if match := re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name):
        way, block, part, number, rest = match.groups()
        down = way == "down"
        if part == "downsamplers":
            return f"input_blocks.{3 * int(block) + 3}.0.{rest.replace('conv.', 'op.', 1)}"
        if part == "upsamplers":
            return f"output_blocks.{3 * int(block) + 2}.2.{rest}"
        place = 3 * int(block) + int(number) + down
        head = f"{'input' if down else 'output'}_blocks.{place}"
        return f"{head}.{int(part == 'attentions')}.{_inner(part, rest)}"
    part, number, rest = re.match(r"mid_block\.(\w+)\.(\d)\.(.*)", name).groups()  # type: ignore[union-attr]
    place = 1 if part == "attentions" else 2 * int(number)
    return f"middle_block.{place}.{_inner(part, rest)}"


def _inner(part: str, rest: str) -> str:
    return _replaced(rest, RESNET) if part == "resnets" else rest


def _vae(name: str) -> str:
    """The name in a VAE whose decoder numbers its blocks from the last to the first."""
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
    name = _replaced(name, {"to_q.": "q.", "to_k.": "k.", "to_v.": "v.", "to_out.0.": "proj_out."})
    name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(
        r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{1 - int(m[1])}.block.{m[2]}", name
    )
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{1 - int(m[1])}.upsample", name)
    return name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")


def _conv(name: str, weights: torch.Tensor) -> torch.Tensor:
    """Checkpoints hold the linear layers of a VAE's attention as convolutions."""
    linear = ".attentions." in name and weights.ndim == 2
    return weights[:, :, None, None] if linear else weights


def _open_clip(state: Tensors) -> Tensors:
    """OpenCLIP joins queries, keys and values, and transposes the projection."""
    joined: Tensors = {}
    for name, weights in state.items():
        if match := re.fullmatch(r"(.*)self_attn\.q_proj\.(weight|bias)", name):
            head, kind = match.groups()
            parts = [state[f"{head}self_attn.{p}_proj.{kind}"] for p in "qkv"]
            joined[f"{_replaced(head, OPEN_CLIP)}attn.in_proj_{kind}"] = torch.cat(parts)
        elif name == "text_projection.weight":
            joined["text_projection"] = weights.T
        elif not re.search(r"self_attn\.[kv]_proj", name) and "position_ids" not in name:
            joined[_replaced(name, OPEN_CLIP)] = weights
    return joined
