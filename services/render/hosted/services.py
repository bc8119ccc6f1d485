"""Hosted services that take pictures as jobs, as their documentation describes them.

None of them was asked from here: the tests run servers that speak their protocols.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from bigpe.services.render.config import JobApi

JobService = Literal["together", "fal", "replicate", "bfl", "gemini-images"]

SERVICES: Mapping[JobService, JobApi] = {
    # docs.together.ai/reference/post-images-generations
    "together": JobApi(
        url="https://api.together.xyz/v1",
        submit="/images/generations",
        body={
            "model": "{model}", "prompt": "{prompt}", "seed": "{seed}", "steps": "{steps}",
            "guidance_scale": "{guidance}", "negative_prompt": "{negative_prompt}",
            "width": "{width}", "height": "{height}", "n": 1, "response_format": "base64",
        },
        picture=("data.0.b64_json", "data.0.url"),
        hosts=("*.together.ai", "*.together.xyz"),
    ),
    # docs.fal.ai/model-apis/inference/queue; a model's page names its fields
    "fal": JobApi(
        url="https://queue.fal.run",
        headers={"Authorization": "Key {key}"},
        submit="/{model}",
        body={
            "prompt": "{prompt}", "seed": "{seed}", "num_inference_steps": "{steps}",
            "guidance_scale": "{guidance}", "negative_prompt": "{negative_prompt}",
            "image_size": {"width": "{width}", "height": "{height}"}, "num_images": 1,
        },
        look_up="status_url",
        state="status",
        done=("COMPLETED",),
        failed=("FAILED", "CANCELED"),
        refused={"has_nsfw_concepts.0": (True,)},
        result="response_url",
        picture=("images.0.url", "image.url"),
        hosts=("*.fal.media", "fal.media", "*.fal.run"),
    ),
    # replicate.com/docs/topics/predictions/create-a-prediction; models name their own inputs
    "replicate": JobApi(
        url="https://api.replicate.com/v1",
        submit="/models/{model}/predictions",
        body={
            "input": {
                "prompt": "{prompt}", "seed": "{seed}", "num_inference_steps": "{steps}",
                "guidance_scale": "{guidance}", "negative_prompt": "{negative_prompt}",
                "width": "{width}", "height": "{height}",
            }
        },
        look_up="urls.get",
        state="status",
        done=("succeeded", "successful"),
        failed=("failed", "canceled", "aborted"),
        picture=("output.0", "output"),
        hosts=("replicate.delivery", "*.replicate.delivery", "api.replicate.com"),
        seeds=2**31,
    ),
    # docs.bfl.ai: the polling address may be of another region
    "bfl": JobApi(
        url="https://api.bfl.ai/v1",
        headers={"x-key": "{key}"},
        submit="/{model}",
        body={
            "prompt": "{prompt}", "seed": "{seed}", "steps": "{steps}", "guidance": "{guidance}",
            "width": "{width}", "height": "{height}", "prompt_upsampling": False,
            "output_format": "png",
        },
        look_up="polling_url",
        state="status",
        done=("Ready",),
        failed=("Error", "Failed", "Task not found"),
        refused={"status": ("Request Moderated", "Content Moderated")},
        error="details",
        picture=("result.sample",),
        hosts=("*.bfl.ai", "*.blob.core.windows.net"),
    ),
    # ai.google.dev/gemini-api/docs/image-generation
    "gemini-images": JobApi(
        url="https://generativelanguage.googleapis.com/v1beta",
        headers={"x-goog-api-key": "{key}"},
        submit="/models/{model}:generateContent",
        body={
            "contents": [{"parts": [{"text": "{prompt}"}]}],
            "generationConfig": {"responseModalities": ["IMAGE"], "seed": "{seed}"},
        },
        refused={
            "candidates.0.finishReason": (
                "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "SAFETY",
                "PROHIBITED_CONTENT", "BLOCKLIST",
            ),
            "promptFeedback.blockReason": (
                "SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY",
            ),
        },
        picture=(
            "candidates.0.content.parts.0.inlineData.data",
            "candidates.0.content.parts.1.inlineData.data",
        ),
        seeds=2**31,
    ),
}  # fmt: skip
"""By the name of the backend. `[render.http.extra]` adds fields, object by object."""
