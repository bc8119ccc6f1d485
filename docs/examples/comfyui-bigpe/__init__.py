"""A ComfyUI node that rewrites a prompt under an instruction that bigpe has found.

Copy this folder into ComfyUI/custom_nodes. bigpe may live in another environment: it is asked as a
program, `bigpe refine`, found on the path or named by the environment variable BIGPE.
"""

import json
import os
import shutil
import subprocess
import sys

PATIENCE_S = 300


def command():
    """How bigpe is started; without a shell, so that nothing in a workflow is a command."""
    found = os.environ.get("BIGPE") or shutil.which("bigpe")
    return [found] if found else [sys.executable, "-P", "-m", "bigpe"]


def refined(text, source, seed):
    """The rewrite, or the text itself where bigpe keeps it. RuntimeError says what went wrong."""
    line = " ".join(text.split())
    if not line:
        return text
    # A workflow may be a stranger's: what it names is data to bigpe, never an option of its own.
    words = [*command(), "refine", f"--from={source}", f"--seed={seed}", "--json", "-"]
    done = subprocess.run(
        words, input=line, capture_output=True, encoding="utf-8", timeout=PATIENCE_S, check=False
    )
    rows = json.loads(done.stdout or "[]")
    if len(rows) != 1 or rows[0]["cause"] == "call":
        raise RuntimeError(f"bigpe refine: {done.stderr.strip()[-500:]}")
    if not rows[0]["refined"]:
        sys.stderr.write(f"bigpe keeps the prompt: {rows[0]['reason']}\n")
    return rows[0]["text"]


class BigpeRefine:
    """Text in, refined text out: put it before CLIPTextEncode."""

    CATEGORY = "conditioning/bigpe"
    FUNCTION = "refine"
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("refined",)

    @classmethod
    def INPUT_TYPES(cls):
        """The node's inputs, as ComfyUI asks for them."""
        return {
            "required": {
                "text": ("STRING", {"multiline": True}),
                "source": ("STRING", {"default": "hf://user/instruction"}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**31 - 1}),
            }
        }

    def refine(self, text, source, seed):
        """ComfyUI keeps the answer until an input changes."""
        return (refined(text, source, seed),)


NODE_CLASS_MAPPINGS = {"BigpeRefine": BigpeRefine}
NODE_DISPLAY_NAME_MAPPINGS = {"BigpeRefine": "Refine prompt (bigpe)"}
