"""Real HTTP servers on this machine that take pictures as jobs, as services document it."""

from __future__ import annotations

import base64
from typing import Any

from support.http_pictures import Answer, Asked, PictureServer, json_answer, picture

BLOCKED = "forbidden"
"""A word for which the services refuse a prompt."""


class JobServer(PictureServer):
    """A service: `submit`, then `look` until the job is done, then its picture at /made/NUMBER."""

    key_header = ("Authorization", "Bearer secret")
    looks_until_done = 2

    def __init__(self) -> None:
        self.jobs: list[Any] = []
        self.looks = 0
        super().__init__()

    def answer(self, request: Asked) -> Answer:
        if request.path.startswith("/made/"):
            assert self.key_header[0] not in request.headers, "pictures are fetched without the key"
            prompt, seed, size = self.wanted(self.jobs[int(request.path.split("/")[2])])
            return Answer(picture(prompt, seed, size=size), headers={"Content-Type": "image/png"})
        name, value = self.key_header
        if request.headers.get(name) != value:
            return json_answer({"detail": "no valid key"}, 401)
        if request.method == "POST":
            self.jobs.append(request.json)
            self.looks = 0
            return self.submit(request, len(self.jobs) - 1)
        self.looks += 1
        return self.look(request, int(request.path.split("/")[-1]))

    def wanted(self, body: Any) -> tuple[str, int, int]:
        """Prompt, seed and size of a job."""
        return body["prompt"], body["seed"], body.get("width", 16)

    def submit(self, request: Asked, job: int) -> Answer:
        raise NotImplementedError

    def look(self, request: Asked, job: int) -> Answer:
        raise NotImplementedError

    def is_done(self) -> bool:
        return self.looks >= self.looks_until_done

    def is_blocked(self, job: int) -> bool:
        return BLOCKED in self.wanted(self.jobs[job])[0]


class Together(JobServer):
    """POST /images/generations; answers at once, in base64 or with an address."""

    def submit(self, request: Asked, job: int) -> Answer:
        if self.is_blocked(job):
            error = {"message": "NSFW content detected", "type": "invalid_request_error"}
            return json_answer({"error": error}, 422)
        if request.json["response_format"] == "url":
            return json_answer({"data": [{"url": f"{self.url}/made/{job}"}]})
        prompt, seed, size = self.wanted(request.json)
        data = base64.b64encode(picture(prompt, seed, size=size)).decode()
        return json_answer({"id": "o", "data": [{"index": 0, "b64_json": data}]})


class Fal(JobServer):
    """POST /MODEL, then status_url and response_url; a filter blackens pictures and says so."""

    key_header = ("Authorization", "Key secret")

    def wanted(self, body: Any) -> tuple[str, int, int]:
        return body["prompt"], body["seed"], body.get("image_size", {}).get("width", 16)

    def submit(self, request: Asked, job: int) -> Answer:
        at = f"{self.url}/requests"
        urls = {"status_url": f"{at}/status/{job}", "response_url": f"{at}/{job}"}
        return json_answer({"status": "IN_QUEUE", "request_id": str(job), **urls})

    def look(self, request: Asked, job: int) -> Answer:
        if "status" in request.path:
            status = "COMPLETED" if self.is_done() else "IN_PROGRESS"
            return json_answer({"status": status}, 200 if self.is_done() else 202)
        image = {"url": f"{self.url}/made/{job}", "content_type": "image/png"}
        return json_answer({"images": [image], "has_nsfw_concepts": [self.is_blocked(job)]})


class Replicate(JobServer):
    """POST /models/OWNER/NAME/predictions, then urls.get."""

    def wanted(self, body: Any) -> tuple[str, int, int]:
        given = body["input"]
        return given["prompt"], given["seed"], given.get("width", 16)

    def submit(self, request: Asked, job: int) -> Answer:
        return json_answer(self._prediction(job, "starting"), 201)

    def look(self, request: Asked, job: int) -> Answer:
        if not self.is_done():
            return json_answer(self._prediction(job, "processing"))
        if self.is_blocked(job):
            error = "NSFW content detected. Try running it again, or try a different prompt."
            return json_answer(self._prediction(job, "failed") | {"error": error})
        output = [f"{self.url}/made/{job}"]
        return json_answer(self._prediction(job, "succeeded") | {"output": output})

    def _prediction(self, job: int, status: str) -> dict[str, Any]:
        get = f"{self.url}/v1/predictions/{job}"
        return {"id": str(job), "status": status, "output": None, "urls": {"get": get}}


class Bfl(JobServer):
    """POST /MODEL, then polling_url."""

    key_header = ("x-key", "secret")

    def submit(self, request: Asked, job: int) -> Answer:
        return json_answer({"id": str(job), "polling_url": f"{self.url}/v1/get_result/{job}"})

    def look(self, request: Asked, job: int) -> Answer:
        if not self.is_done():
            return json_answer({"id": str(job), "status": "Pending", "result": None})
        if self.is_blocked(job):
            return json_answer({"id": str(job), "status": "Request Moderated", "result": None})
        sample = {"sample": f"{self.url}/made/{job}"}
        return json_answer({"id": str(job), "status": "Ready", "result": sample})


class Gemini(JobServer):
    """POST /models/MODEL:generateContent; a refused prompt has an answer without content."""

    key_header = ("x-goog-api-key", "secret")

    def wanted(self, body: Any) -> tuple[str, int, int]:
        return body["contents"][0]["parts"][0]["text"], body["generationConfig"]["seed"], 16

    def submit(self, request: Asked, job: int) -> Answer:
        if self.is_blocked(job):
            return json_answer({"candidates": [{"finishReason": "IMAGE_SAFETY", "index": 0}]})
        prompt, seed, _ = self.wanted(request.json)
        data = base64.b64encode(picture(prompt, seed)).decode()
        parts = [{"text": "Here it is."}, {"inlineData": {"mimeType": "image/png", "data": data}}]
        return json_answer({"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]})
