"""One tiny pipeline of each family, by the name of its class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from support.tiny_painters import (
    SPECIALS,
    WORDS,
    clip,
    diffusers,
    flow,
    language_model,
    qwen_vl,
    t5,
    tokenizer,
    transformers,
    vae,
)  # fmt: skip

Parts = dict[str, Any]


def family_pipeline(name: str) -> Any:
    """A pipeline of the class `name`."""
    torch.manual_seed(0)
    pipeline = getattr(diffusers, name)(**MAKERS[name]())
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
            for weights in part.parameters():
                if not weights.any():  # what starts at zero would hide the text
                    torch.nn.init.normal_(weights, std=0.05)
    return pipeline


def make_family(name: str, folder: Path) -> Path:
    """The same in a folder."""
    family_pipeline(name).save_pretrained(folder)
    return folder


def _unet(cross: int, **more: Any) -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=cross,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        **more,
    )


def _sd() -> Parts:
    encoder, words = clip()
    return {
        "text_encoder": encoder, "tokenizer": words, "unet": _unet(32), "vae": vae(blocks=2),
        "scheduler": diffusers.DDIMScheduler(), "safety_checker": None, "feature_extractor": None,
        "requires_safety_checker": False,
    }  # fmt: skip


def _sdxl() -> Parts:
    encoder, words = clip()
    encoder_2, words_2 = clip(projects=True)
    unet = _unet(
        64,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32,
    )
    return {
        "text_encoder": encoder, "tokenizer": words, "text_encoder_2": encoder_2,
        "tokenizer_2": words_2, "unet": unet, "vae": vae(blocks=2),
        "scheduler": diffusers.EulerDiscreteScheduler(),
    }  # fmt: skip


def _sd3() -> Parts:
    encoder, words = clip(projects=True)
    encoder_2, words_2 = clip(projects=True)
    net = diffusers.SD3Transformer2DModel(
        sample_size=32, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=4, caption_projection_dim=32, joint_attention_dim=32 + 32,
        pooled_projection_dim=64, out_channels=4,
    )  # fmt: skip
    return {
        "text_encoder": encoder, "tokenizer": words, "text_encoder_2": encoder_2,
        "tokenizer_2": words_2, "text_encoder_3": t5(64), "tokenizer_3": tokenizer(ends=True),
        "transformer": net, "vae": vae(), "scheduler": flow(),
    }  # fmt: skip


def _flux() -> Parts:
    encoder, words = clip()
    net = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8], guidance_embeds=True,
    )  # fmt: skip
    return {
        "text_encoder": encoder, "tokenizer": words, "text_encoder_2": t5(),
        "tokenizer_2": tokenizer(ends=True), "transformer": net, "vae": vae(1), "scheduler": flow(),
    }  # fmt: skip


def _flux2_net(width: int, *, guided: bool) -> Any:
    return diffusers.Flux2Transformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=3 * width, axes_dims_rope=[4, 4, 4, 4],
        guidance_embeds=guided,
    )  # fmt: skip


def _flux2_vae(latents: int = 1) -> Any:
    return diffusers.AutoencoderKLFlux2(
        sample_size=32, down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",), block_out_channels=(4,), layers_per_block=1,
        latent_channels=latents, norm_num_groups=1, use_quant_conv=False,
        use_post_quant_conv=False,
    )  # fmt: skip


def _mistral(layers: int) -> Any:
    return transformers.Mistral3Config(
        text_config=language_model("Mistral", layers=layers).to_dict(),
        vision_config={
            "model_type": "pixtral", "hidden_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 16, "image_size": 30, "patch_size": 6,
        },
        vision_feature_layer=-1, image_token_index=SPECIALS.index("[IMG]"),
    )  # fmt: skip


def _flux2() -> Parts:
    # Its processor needs torchvision; of it, the pipeline calls what tokenizers have, too.
    return {
        "text_encoder": transformers.Mistral3ForConditionalGeneration(_mistral(31)),
        "tokenizer": tokenizer(length=2048), "transformer": _flux2_net(16, guided=True),
        "vae": _flux2_vae(), "scheduler": flow(),
    }  # fmt: skip


def _klein() -> Parts:
    encoder = transformers.Qwen3ForCausalLM(language_model("Qwen3", layers=28))
    return {
        "text_encoder": encoder, "tokenizer": tokenizer(), "vae": _flux2_vae(),
        "transformer": _flux2_net(16, guided=False), "scheduler": flow(),
    }  # fmt: skip


def _qwen_vae() -> Any:
    return diffusers.AutoencoderKLQwenImage(
        base_dim=24, z_dim=4, dim_mult=[1, 2, 4], num_res_blocks=1,
        temperal_downsample=[False, True], latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip


def _qwen() -> Parts:
    net = diffusers.QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=16, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    encoder = transformers.Qwen2_5_VLForConditionalGeneration(qwen_vl("Qwen2_5_VL"))
    return {
        "text_encoder": encoder, "tokenizer": tokenizer(length=4096), "transformer": net,
        "vae": _qwen_vae(), "scheduler": flow(),
    }  # fmt: skip


class Processor:
    """What a pipeline calls of a processor of texts; the real one needs torchvision."""

    def __init__(self, words: Any) -> None:
        self.tokenizer = words

    def __call__(self, text: list[str], **settings: Any) -> Any:
        return self.tokenizer(text, **settings)

    def apply_chat_template(self, messages: Any, **settings: Any) -> Any:
        return [self.tokenizer.apply_chat_template(messages, **settings)]


def _qwen21() -> Parts:
    net = diffusers.QwenImage21Transformer2DModel(
        in_channels=4, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        context_in_dim=16, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    decoder = diffusers.AutoencoderKLQwenImage21(
        base_dim=8, decoder_base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1, 1], num_res_blocks=1,
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    return {
        "text_encoder": transformers.Qwen3VLForConditionalGeneration(qwen_vl("Qwen3VL")),
        "processor": Processor(tokenizer(length=4096)), "transformer": net, "scheduler": flow(),
        "vae": decoder,
    }  # fmt: skip


def _zimage() -> Parts:
    net = diffusers.ZImageTransformer2DModel(
        all_patch_size=(2,), all_f_patch_size=(1,), in_channels=4, dim=32, n_layers=1,
        n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16, axes_dims=[8, 4, 4],
        axes_lens=[1024, 64, 64],
    )  # fmt: skip
    with torch.no_grad():  # made with torch.empty
        net.x_pad_token.fill_(1.0)
        net.cap_pad_token.fill_(1.0)
    return {
        "text_encoder": transformers.Qwen3Model(language_model("Qwen3")),
        "tokenizer": tokenizer(), "transformer": net, "vae": vae(), "scheduler": flow(),
    }  # fmt: skip


def _gemma(width: int = 8) -> Any:
    return transformers.Gemma2Model(language_model("Gemma2", width, attn_implementation="eager"))


def _sana() -> Parts:
    net = diffusers.SanaTransformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2,
        attention_head_dim=4, num_cross_attention_heads=2, cross_attention_head_dim=4,
        cross_attention_dim=8, caption_channels=8, sample_size=32,
    )  # fmt: skip
    decoder = diffusers.AutoencoderDC(
        in_channels=3, latent_channels=4, attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8), encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)), encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=[1, 1], downsample_block_type="conv",
        upsample_block_type="interpolate", decoder_norm_types="rms_norm", decoder_act_fns="silu",
        scaling_factor=0.41407,
    )  # fmt: skip
    return {
        "text_encoder": _gemma(), "tokenizer": tokenizer(begins=True), "transformer": net,
        "vae": decoder, "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
    }  # fmt: skip


def _hunyuan() -> Parts:
    net = diffusers.HunyuanImageTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=1,
        num_single_layers=1, num_refiner_layers=1, patch_size=(1, 1), guidance_embeds=False,
        text_embed_dim=16, text_embed_2_dim=16, rope_axes_dim=(4, 4),
    )  # fmt: skip
    decoder = diffusers.AutoencoderKLHunyuanImage(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32, 32),
        layers_per_block=1, scaling_factor=0.476986, spatial_compression_ratio=2, sample_size=16,
    )  # fmt: skip
    return {
        "text_encoder": transformers.Qwen2_5_VLForConditionalGeneration(qwen_vl("Qwen2_5_VL")),
        "tokenizer": tokenizer(length=4096), "text_encoder_2": t5(16),
        "tokenizer_2": transformers.ByT5Tokenizer(), "transformer": net, "vae": decoder,
        "scheduler": flow(), "guider": diffusers.AdaptiveProjectedMixGuidance(),
        "ocr_guider": diffusers.AdaptiveProjectedMixGuidance(),
    }  # fmt: skip


def _hidream() -> Parts:
    encoder, words = clip(projects=True)
    encoder_2, words_2 = clip(projects=True)
    net = diffusers.HiDreamImageTransformer2DModel(
        patch_size=2, in_channels=4, out_channels=4, num_layers=1, num_single_layers=1,
        attention_head_dim=8, num_attention_heads=4, caption_channels=[32, 16], text_emb_dim=64,
        num_routed_experts=2, num_activated_experts=1, axes_dims_rope=(4, 2, 2),
        max_resolution=(32, 32), llama_layers=(0, 1),
    )  # fmt: skip
    llama = language_model("Llama", attn_implementation="eager")
    return {
        "text_encoder": encoder, "tokenizer": words, "text_encoder_2": encoder_2,
        "tokenizer_2": words_2, "text_encoder_3": t5(), "tokenizer_3": tokenizer(ends=True),
        "text_encoder_4": transformers.LlamaForCausalLM(llama),
        "tokenizer_4": tokenizer(begins=True), "transformer": net, "vae": vae(),
        "scheduler": flow(),
    }  # fmt: skip


def _lumina2() -> Parts:
    net = diffusers.Lumina2Transformer2DModel(
        sample_size=4, patch_size=2, in_channels=4, hidden_size=8, num_layers=1,
        num_attention_heads=1, num_kv_heads=1, multiple_of=16, axes_dim_rope=[4, 2, 2],
        axes_lens=[1024, 64, 64], cap_feat_dim=8,
    )  # fmt: skip
    return {
        "text_encoder": _gemma(), "tokenizer": tokenizer(begins=True), "transformer": net,
        "vae": vae(blocks=4), "scheduler": flow(),
    }  # fmt: skip


def _cogview4() -> Parts:
    net = diffusers.CogView4Transformer2DModel(
        patch_size=2, in_channels=4, num_layers=1, attention_head_dim=4, num_attention_heads=4,
        out_channels=4, text_embed_dim=16, time_embed_dim=8, condition_dim=4, sample_size=16,
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
        base_shift=0.25, max_shift=0.75, base_image_seq_len=256, use_dynamic_shifting=True,
        time_shift_type="linear",
    )  # fmt: skip
    return {
        "text_encoder": transformers.GlmModel(language_model("Glm")),
        "tokenizer": tokenizer(begins=True, length=2048), "transformer": net, "vae": vae(),
        "scheduler": scheduler,
    }  # fmt: skip


def _chroma() -> Parts:
    net = diffusers.ChromaTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, axes_dims_rope=[4, 4, 8],
        approximator_hidden_dim=32, approximator_layers=1, approximator_num_channels=16,
    )  # fmt: skip
    return {
        "text_encoder": t5(), "tokenizer": tokenizer(ends=True), "transformer": net,
        "vae": vae(1), "scheduler": flow(),
    }  # fmt: skip


def _longcat() -> Parts:
    net = diffusers.LongCatImageTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=16, pooled_projection_dim=16,
        axes_dims_rope=[4, 4, 8],
    )  # fmt: skip
    return {
        "text_encoder": transformers.Qwen2_5_VLForConditionalGeneration(qwen_vl("Qwen2_5_VL")),
        # Only its own rewriting needs the processor, which needs torchvision.
        "tokenizer": tokenizer(length=4096), "text_processor": tokenizer(), "transformer": net,
        "vae": vae(16),
        "scheduler": flow(),
    }  # fmt: skip


def _ernie() -> Parts:
    net = diffusers.ErnieImageTransformer2DModel(
        hidden_size=32, num_attention_heads=2, num_layers=1, ffn_hidden_size=32, in_channels=16,
        out_channels=16, patch_size=1, text_in_dim=16, rope_axes_dim=(4, 6, 6),
    )  # fmt: skip
    enhancer = transformers.Ministral3ForCausalLM(language_model("Ministral3"))
    return {
        "text_encoder": transformers.Mistral3Model(_mistral(2)), "tokenizer": tokenizer(length=64),
        "transformer": net, "vae": _flux2_vae(4), "scheduler": flow(), "pe": enhancer,
        "pe_tokenizer": tokenizer(length=64),
    }  # fmt: skip


def _glm() -> Parts:
    own = {"image_token": "<|image|>", "grid_bos_token": "<s>", "grid_eos_token": "</s>"}
    words = tokenizer(length=4096, extra_special_tokens=own)
    processor = transformers.GlmImageProcessor(
        transformers.GlmImageImageProcessor(), words, chat_template=words.chat_template
    )
    config = transformers.GlmImageConfig(
        text_config={
            "vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 32,
            "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
            "max_position_embeddings": 512, "vision_vocab_size": 128, "pad_token_id": 0,
            "rope_parameters": {"mrope_section": (4, 2, 2)},
        },
        vision_config={
            "depth": 1, "hidden_size": 32, "num_heads": 2, "image_size": 32, "patch_size": 8,
            "intermediate_size": 32,
        },
        vq_config={"embed_dim": 32, "num_embeddings": 128, "latent_channels": 32},
    )  # fmt: skip
    language = transformers.GlmImageForConditionalGeneration(config)
    with torch.no_grad():  # it draws tokens; these weights make the text decide which
        for weights in language.parameters():
            weights.mul_(20.0)
    net = diffusers.GlmImageTransformer2DModel(
        patch_size=2, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=2, text_embed_dim=32, time_embed_dim=16, condition_dim=8,
        prior_vq_quantizer_codebook_size=128,
    )  # fmt: skip
    return {
        "tokenizer": tokenizer(ends=True), "processor": processor, "text_encoder": t5(),
        "vision_language_encoder": language,
        "vae": vae(blocks=4, latents_mean=[0.0] * 4, latents_std=[1.0] * 4), "transformer": net,
        "scheduler": flow(),
    }  # fmt: skip


def _ovis() -> Parts:
    net = diffusers.OvisImageTransformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=1, num_single_layers=1,
        attention_head_dim=16, num_attention_heads=2, joint_attention_dim=16,
        axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    return {
        "text_encoder": transformers.Qwen3Model(language_model("Qwen3")), "tokenizer": tokenizer(),
        "transformer": net, "vae": vae(1), "scheduler": flow(),
    }  # fmt: skip


def _prx() -> Parts:
    net = diffusers.PRXTransformer2DModel(
        patch_size=1, in_channels=4, context_in_dim=8, hidden_size=8, mlp_ratio=2.0, num_heads=2,
        depth=1, axes_dim=[2, 2],
    )  # fmt: skip
    encoder = transformers.T5GemmaModuleConfig(
        vocab_size=WORDS, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=4, max_position_embeddings=64,
        layer_types=["full_attention"], dropout_rate=0.0,
    )  # fmt: skip
    return {
        "text_encoder": diffusers.pipelines.prx.pipeline_prx.T5GemmaEncoder(encoder),
        "tokenizer": tokenizer(begins=True, length=64), "transformer": net, "vae": vae(),
        "scheduler": flow(),
    }  # fmt: skip


def _krea2() -> Parts:
    net = diffusers.Krea2Transformer2DModel(
        in_channels=16, num_layers=1, attention_head_dim=8, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=32, timestep_embed_dim=8, text_hidden_dim=16,
        num_text_layers=3, text_num_attention_heads=2, text_num_key_value_heads=1,
        text_intermediate_size=16, num_layerwise_text_blocks=1, num_refiner_text_blocks=1,
        axes_dims_rope=(4, 2, 2), rope_theta=1000.0,
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256,
        max_image_seq_len=6400,
    )  # fmt: skip
    return {
        "text_encoder": transformers.Qwen3VLModel(qwen_vl("Qwen3VL")), "tokenizer": tokenizer(),
        "transformer": net, "vae": _qwen_vae(), "scheduler": scheduler,
        "text_encoder_select_layers": (0, 1, 2),
    }  # fmt: skip


MAKERS: dict[str, Callable[[], Parts]] = {
    "StableDiffusionPipeline": _sd,
    "StableDiffusionXLPipeline": _sdxl,
    "StableDiffusion3Pipeline": _sd3,
    "FluxPipeline": _flux,
    "Flux2Pipeline": _flux2,
    "Flux2KleinPipeline": _klein,
    "QwenImagePipeline": _qwen,
    "QwenImage21Pipeline": _qwen21,
    "ZImagePipeline": _zimage,
    "SanaPipeline": _sana,
    "HunyuanImagePipeline": _hunyuan,
    "HiDreamImagePipeline": _hidream,
    "Lumina2Pipeline": _lumina2,
    "CogView4Pipeline": _cogview4,
    "ChromaPipeline": _chroma,
    "LongCatImagePipeline": _longcat,
    "ErnieImagePipeline": _ernie,
    "GlmImagePipeline": _glm,
    "OvisImagePipeline": _ovis,
    "PRXPipeline": _prx,
    "Krea2Pipeline": _krea2,
}
