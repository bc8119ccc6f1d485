"""A small checkpoint in open_clip's layout, odd pictures and odd prompts: the same everywhere.

Made with numpy alone, so that the reference environment and the tests have equal ones.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as Pictures

EMBED, TEXT_WIDTH, TEXT_LAYERS, VISION_WIDTH, VISION_LAYERS = 64, 128, 3, 160, 4
PATCH, SIDE, WORDS, CONTEXT = 14, 224, 49408, 77
TEXT_HEAD, VISION_HEAD = 64, 80

PROMPTS = (
    "",
    "a cat",
    "A Castle on a Hill, oil painting, highly detailed",
    "one two three four five six seven eight nine ten " * 12,
    "ein großer Bär, ÄÖÜ, naïve café, façade",
    "一只猫坐在月亮上",
    "高い山の上の城、夕焼け",
    "🦊 in the snow ❄️ 👩‍🚀",
    "fish &amp; chips &lt;b&gt; &amp;quot;x&amp;quot;",
    "“curly” ‘quotes’ and the cat’s hat",
    "oﬃcial ﬁne ﬂower",
    "ｆｕｌｌ ｗｉｄｔｈ ＡＢＣ１２３",
    "schÃ¶n mojibake â€™ here",
    "tabs\tand\nnew\r\nlines   and blanks",
    "control \x07 bell \x1b[31m red \x00 nul",
    "before <end_of_text> after",
    "<start_of_text> again",
    "what's he'll we've I'm you'd they're",
    "8k 4k 1920x1080, f/1.8, 50mm ---- !!! ???",
    "ﷺ ıİ ß ſ Ǆ",
    "e\u0301 combining \u200b zero \u00a0 hard space",
    "!!<end_of_text>!!",
)
SIZES = (
    (224, 224), (512, 512), (64, 64), (640, 480), (480, 640), (1, 1), (300, 20),
    (223, 225), (1024, 768), (225, 224), (97, 331), (448, 449), (13, 200), (224, 100),
)  # fmt: skip
MODES = ("RGB", "L", "LA", "P", "1", "I;16")


def weights() -> dict[str, np.ndarray]:
    """The state_dict, float32."""
    rng = np.random.default_rng(42)
    shapes: dict[str, tuple[int, ...]] = {
        "positional_embedding": (CONTEXT, TEXT_WIDTH),
        "text_projection": (TEXT_WIDTH, EMBED),
        "token_embedding.weight": (WORDS, TEXT_WIDTH),
        "visual.class_embedding": (VISION_WIDTH,),
        "visual.positional_embedding": ((SIDE // PATCH) ** 2 + 1, VISION_WIDTH),
        "visual.proj": (VISION_WIDTH, EMBED),
        "visual.conv1.weight": (VISION_WIDTH, 3, PATCH, PATCH),
    }
    norms = {"ln_final": TEXT_WIDTH, "visual.ln_pre": VISION_WIDTH, "visual.ln_post": VISION_WIDTH}
    towers = (
        ("transformer", TEXT_WIDTH, TEXT_LAYERS),
        ("visual.transformer", VISION_WIDTH, VISION_LAYERS),
    )
    for tower, width, layers in towers:
        for layer in range(layers):
            at = f"{tower}.resblocks.{layer}"
            norms |= {f"{at}.ln_1": width, f"{at}.ln_2": width}
            for name, out, into in (
                ("mlp.c_fc", 4 * width, width),
                ("mlp.c_proj", width, 4 * width),
                ("attn.out_proj", width, width),
            ):
                shapes |= {f"{at}.{name}.weight": (out, into), f"{at}.{name}.bias": (out,)}
            shapes[f"{at}.attn.in_proj_weight"] = (3 * width, width)
            shapes[f"{at}.attn.in_proj_bias"] = (3 * width,)
    state = {name: rng.normal(0, 0.06, shape) for name, shape in sorted(shapes.items())}
    for name, width in sorted(norms.items()):
        state[f"{name}.weight"] = 1 + rng.normal(0, 0.2, width)
        state[f"{name}.bias"] = rng.normal(0, 0.2, width)
    state["logit_scale"] = np.array(4.6)
    return {name: value.astype(np.float32) for name, value in state.items()}


def picture(index: int) -> bytes:
    """A PNG of SIZES[index], colours and modes in turn."""
    width, height = SIZES[index]
    rng = np.random.default_rng(index)
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    waves = [np.sin(rng.uniform(1, 40) * x + rng.uniform(1, 40) * y) for _ in range(3)]
    noise = rng.normal(0, 0.2, (height, width, 3))
    levels = ((np.stack(waves, -1) + noise + 1.5) * 85).clip(0, 255).astype(np.uint8)
    mode = MODES[index % len(MODES)]
    made = Pictures.fromarray(levels)
    if mode == "I;16":
        made = Pictures.fromarray(levels[..., 0].astype(np.uint16))
    else:
        made = made.convert(mode)
    buffer = io.BytesIO()
    made.save(buffer, "PNG")
    return buffer.getvalue()
