"""Score odd pictures and prompts with hpsv2's own code, and keep the result for the tests.

    python scripts/scorer_parity.py [--keep]       # what `make parity` runs

The model is hpsv2's open_clip CLIP at a reduced size with fixed weights; the steps are those of
hpsv2/img_score.py. With --keep the golden file is written, without it compared.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden" / "hpsv2_scores.json"
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]

from hpsv2_reference import WHEELS, make_importable  # noqa: E402
from support import open_clip_toy as toy  # noqa: E402


def load() -> tuple[Any, Any, Any]:
    """hpsv2's own CLIP class, picture transform and tokenizer."""
    make_importable()
    from hpsv2.src.open_clip.model import CLIP  # type: ignore[import-not-found]
    from hpsv2.src.open_clip.tokenizer import tokenize  # type: ignore[import-not-found]
    from hpsv2.src.open_clip.transform import image_transform  # type: ignore[import-not-found]

    model = CLIP(
        toy.EMBED,
        {
            "image_size": toy.SIDE, "layers": toy.VISION_LAYERS, "width": toy.VISION_WIDTH,
            "head_width": toy.VISION_HEAD, "patch_size": toy.PATCH,
        },
        {
            "context_length": toy.CONTEXT, "vocab_size": toy.WORDS, "width": toy.TEXT_WIDTH,
            "heads": toy.TEXT_WIDTH // toy.TEXT_HEAD, "layers": toy.TEXT_LAYERS,
        },
        output_dict=True,
    )  # fmt: skip
    model.load_state_dict({name: torch.tensor(value) for name, value in toy.weights().items()})
    return model.eval(), image_transform(toy.SIDE, False, resize_longest_max=True), tokenize


@torch.no_grad()
def measure() -> dict[str, Any]:
    """Scores by picture and prompt (null: hpsv2 fails), and the token ids of each prompt."""
    model, prepare, tokenize = load()
    scores: list[list[float | None]] = []
    for index in range(len(toy.SIZES)):
        image = prepare(Image.open(io.BytesIO(toy.picture(index)))).unsqueeze(0)
        if image.shape[-2:] != (toy.SIDE, toy.SIDE):
            scores.append([None] * len(toy.PROMPTS))
            continue
        row: list[float | None] = []
        for prompt in toy.PROMPTS:
            out = model(image, tokenize([prompt]))
            row.append(float(torch.diagonal(out["image_features"] @ out["text_features"].T)[0]))
        scores.append(row)
    tokens = [tokenize([prompt])[0].tolist() for prompt in toy.PROMPTS]
    return {"wheels": list(WHEELS), "torch": torch.__version__, "scores": scores, "tokens": tokens}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--keep", action="store_true", help="write the golden file")
    options = parser.parse_args()
    found = measure()
    if options.keep:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(found) + "\n", "utf-8")
        print(f"wrote {GOLDEN}")
        return
    kept = json.loads(GOLDEN.read_text("utf-8"))
    gaps = [
        abs(a - b)
        for one, two in zip(found["scores"], kept["scores"], strict=True)
        for a, b in zip(one, two, strict=True)
        if a is not None
    ]
    same = found["tokens"] == kept["tokens"]
    print(json.dumps({"pairs": len(gaps), "largest_difference": max(gaps), "tokens_equal": same}))
    if max(gaps) > 1e-6 or not same:
        sys.exit("hpsv2 no longer gives the golden scores")


if __name__ == "__main__":
    main()
