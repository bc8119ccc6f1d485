"""Tiny pipelines of the families' real classes, with random weights and tokenizers made here."""

from __future__ import annotations

from typing import Any

import diffusers as _diffusers
import transformers as _transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

diffusers: Any = _diffusers
transformers: Any = _transformers
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
SPECIALS = (
    "<pad>", "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|endoftext|>",
    "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "[IMG]", "[IMG_BREAK]",
    "[IMG_END]", "[INST]", "[/INST]", "<|image|>", "<|begin_of_image|>", "<|end_of_image|>",
    "<|dit_token_16384|>", "<|dit_token_16385|>", "<sop>",
)  # fmt: skip
VOCABULARY = {text: number for number, text in enumerate((*SPECIALS, *BYTES))}
WORDS = 300
"""Rows of the encoders' embeddings: a letter is a token."""
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for c in m['content'] %}{{ c['text'] }}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(*, ends: bool = False, begins: bool = False, length: int = 512, **more: Any) -> Any:
    """A tokenizer whose tokens are bytes; `ends` and `begins` are its special tokens."""
    raw = Tokenizer(models.BPE(vocab=VOCABULARY, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(list(SPECIALS))
    if ends or begins:
        single = f"{'<s> ' if begins else ''}$A{' </s>' if ends else ''}"
        ids = [(text, VOCABULARY[text]) for text in ("<s>", "</s>")]
        raw.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=CHAT,
        model_max_length=length,
        **more,
    )


def clip(width: int = 32, *, projects: bool = False) -> tuple[Any, Any]:
    """A CLIP text encoder and its tokenizer."""
    from bigpe.services.models import embedded

    words = transformers.CLIPTokenizer.from_pretrained(embedded.pipeline_path() / "tokenizer")
    config = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=width,
        max_position_embeddings=128,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    kind = transformers.CLIPTextModelWithProjection if projects else transformers.CLIPTextModel
    return kind(config), words


def t5(width: int = 32) -> Any:
    """A T5 encoder."""
    return transformers.T5EncoderModel(
        transformers.T5Config(
            d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=WORDS
        )
    )


def language_model(kind: str, width: int = 16, layers: int = 2, **more: Any) -> Any:
    """A decoder of transformers, by the prefix of its classes, for example "Qwen3"."""
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        vocab_size=WORDS,
        max_position_embeddings=2048,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **more,
    )
    return config


def qwen_vl(kind: str, width: int = 16) -> Any:
    """The configuration of a Qwen vision-language model."""
    halves = width // 2 // 2
    return getattr(transformers, f"{kind}Config")(
        text_config={
            "hidden_size": width,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": width // 2,
            "vocab_size": WORDS,
            "rope_scaling": {
                "mrope_section": [halves - 2 * (halves // 3), halves // 3, halves // 3],
                "rope_type": "default",
                "type": "default",
            },
            "rope_theta": 1000000.0,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": width,
        },
        vocab_size=WORDS,
        image_token_id=VOCABULARY["<|image_pad|>"],
        video_token_id=VOCABULARY["<|video_pad|>"],
        vision_start_token_id=VOCABULARY["<|vision_start|>"],
        vision_end_token_id=VOCABULARY["<|vision_end|>"],
    )


def vae(latents: int = 4, blocks: int = 1, **more: Any) -> Any:
    """An AutoencoderKL that halves the size `blocks - 1` times."""
    return diffusers.AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=(4,) * blocks,
        layers_per_block=1,
        latent_channels=latents,
        norm_num_groups=1,
        sample_size=32,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.06,
        scaling_factor=1.5,
        **more,
    )


def flow() -> Any:
    """The scheduler of flow matching."""
    return diffusers.FlowMatchEulerDiscreteScheduler()
