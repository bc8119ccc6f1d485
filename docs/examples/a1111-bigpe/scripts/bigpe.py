"""An AUTOMATIC1111 web UI script that refines prompts before they are painted.

Copy the folder a1111-bigpe into stable-diffusion-webui/extensions. bigpe may live in another
environment: it is asked as a program, found on the path or named by the variable BIGPE.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import gradio as gr
from modules import scripts

PATIENCE_S = 300
NETWORKS = re.compile(r"<[^<>]+>")
"""`<lora:name:0.8>` and its like are the web UI's own, and no words of the prompt."""


def refined(prompts, source):
    """What becomes of each prompt, by prompt. RuntimeError says what went wrong."""
    plain = {prompt: " ".join(NETWORKS.sub(" ", prompt).split()) for prompt in prompts}
    lines = sorted({text for text in plain.values() if text})
    if not lines:
        return {}
    found = os.environ.get("BIGPE") or shutil.which("bigpe")
    command = [found] if found else [sys.executable, "-P", "-m", "bigpe"]
    done = subprocess.run(
        [*command, "refine", f"--from={source}", "--json", "-"],
        input="\n".join(lines),
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )
    rows = json.loads(done.stdout or "[]")
    if len(rows) != len(lines) or all(row["cause"] == "call" for row in rows):
        raise RuntimeError(f"bigpe refine: {done.stderr.strip()[-500:]}")
    for row in rows:
        if not row["refined"]:
            sys.stderr.write(f"bigpe keeps {row['naive']!r}: {row['reason']}\n")
    texts = {line: row["text"] for line, row in zip(lines, rows, strict=True)}
    return {
        prompt: " ".join([texts[text], *NETWORKS.findall(prompt)])
        for prompt, text in plain.items()
        if text in texts
    }


class Script(scripts.Script):
    """In txt2img and img2img, always visible, off until it is ticked."""

    def title(self):
        """Its name in the web UI."""
        return "bigpe: refine prompts"

    def show(self, is_img2img):
        """On every tab."""
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        """Their values go to `process`."""
        with gr.Accordion(self.title(), open=False):
            enabled = gr.Checkbox(False, label="Refine prompts")
            source = gr.Textbox("hf://user/instruction", label="Instruction (folder or hf://)")
        return [enabled, source]

    def process(self, p, enabled, source):
        """Before painting: every prompt once, those of the second pass too; negatives are left."""
        if not enabled:
            return
        texts = refined(p.all_prompts, source)
        if p.all_prompts and p.all_prompts[0] in texts:
            p.extra_generation_params["Naive prompt"] = p.all_prompts[0]
        p.all_prompts = [texts.get(prompt, prompt) for prompt in p.all_prompts]
        if getattr(p, "all_hr_prompts", None):
            p.all_hr_prompts = [texts.get(prompt, prompt) for prompt in p.all_hr_prompts]
