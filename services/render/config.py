"""`[render]`: the settings of the text-to-image model."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from bigpe.services.core import plugins
from bigpe.services.core.after_start import AfterStart
from bigpe.services.core.http_client import HttpConfig
from bigpe.services.core.values import Value

BuiltinRenderer = Literal[
    "diffusers", "openai-images", "together", "fal", "replicate", "bfl", "gemini-images", "a1111",
    "comfyui", "jobs", "bigpe",
]  # fmt: skip
"""Names of the built-in renderers; `backends.RENDERERS` describes and opens them."""
PromptForm = Literal["tags", "prose", "json"]

Quantizer = Literal["bitsandbytes_4bit", "bitsandbytes_8bit", "quanto", "torchao"]
CHECKPOINT = ".safetensors"
PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")


def refuse_pickles(name: str) -> str:
    """The name of a file of weights. Raises ValueError for a pickle, which can run code."""
    if name.endswith(PICKLES):
        raise ValueError(
            f"{name!r} is a pickle, which can run any code when it is loaded; name a "
            f"{CHECKPOINT} file, or convert it with a tool that you trust"
        )
    return name


class JobApi(Value):
    """`[render.http.job]`: how a service takes a picture as a job (docs/picture-services.md).

    Texts hold placeholders: {prompt}, {seed}, {model}, {negative_prompt}, {steps}, {guidance},
    {width}, {height} and {size} ("WIDTHxHEIGHT"). A field whose setting is not set is left out.
    Paths into answers have dots: "images.0.url".
    """

    url: Annotated[str, AfterStart.NEEDS_FORK] = ""
    """The usual address; `[render.http] urls` has another one."""
    headers: Annotated[dict[str, str], AfterStart.NEEDS_FORK] = Field(
        default_factory=lambda: {"Authorization": "Bearer {key}"}
    )
    """Of each request; {key} stands for the key."""
    submit: Annotated[str, AfterStart.NEEDS_FORK]
    """The path that a job is posted to, for example "/{model}"."""
    body: Annotated[dict[str, Any], AfterStart.NEEDS_FORK]
    """The posted JSON."""
    look_up: Annotated[str, AfterStart.NEEDS_FORK] = ""
    """Where in the answer the job's address is, or a path with {id}; "": it answers at once."""
    id: Annotated[str, AfterStart.NEEDS_FORK] = "id"
    """Where in the answer the job's id is."""
    state: Annotated[str, AfterStart.NEEDS_FORK] = ""
    """Where the state is; "": it answers at once."""
    done: Annotated[tuple[str, ...], AfterStart.NEEDS_FORK] = ()
    """States of a job that has ended well."""
    failed: Annotated[tuple[str, ...], AfterStart.NEEDS_FORK] = ()
    """States of a job that has failed."""
    refused: Annotated[dict[str, tuple[str | bool, ...]], AfterStart.NEEDS_FORK] = Field(
        default_factory=dict[str, "tuple[str | bool, ...]"]
    )
    """Values, by where they are, which say that the service refuses the content."""
    error: Annotated[str, AfterStart.NEEDS_FORK] = "error"
    """Where the cause of a failure is."""
    result: Annotated[str, AfterStart.NEEDS_FORK] = ""
    """Where the address of the result is, if the job's own answer does not have it."""
    picture: Annotated[tuple[str, ...], AfterStart.NEEDS_FORK]
    """Where the picture is, base64 or an address; the first that is there counts."""
    hosts: Annotated[tuple[str, ...], AfterStart.NEEDS_FORK] = ()
    """Further hosts of the service, for example "*.bfl.ai"; they get the key, too."""
    seeds: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=2**32, ge=2)
    """Number of different seeds that the service takes."""


class PictureServiceConfig(HttpConfig):
    """`[render.http]`: an HTTP service that renders images."""

    extra: Annotated[dict[str, Any], AfterStart.NEEDS_FORK] = Field(default_factory=dict[str, Any])
    """Further fields that are added to every request, by the service's own names."""
    send_seed: Annotated[bool, AfterStart.NEEDS_FORK] = False
    """Whether to send a seed to an "openai-images" server; OpenAI's own server refuses it."""
    workflow: Annotated[str | None, AfterStart.NEEDS_FORK] = None
    """Path of the ComfyUI workflow (API format), relative to the project's folder."""
    picture_hosts: Annotated[tuple[str, ...], AfterStart.CHANGES_NO_RESULT] = ()
    """Hosts whose pictures are fetched where the service answers with an address, for example
    "*.example.com"."""
    job: Annotated[JobApi | None, AfterStart.NEEDS_FORK] = None
    """The service that `backend = "jobs"` asks."""


class PromptConfig(Value):
    """`[render.prompt]`: what the text-to-image model wants its prompt to be.

    The defaults come from a table of models, which `bigpe config check` shows.
    """

    form: Annotated[Literal["auto"] | PromptForm, AfterStart.NEEDS_FORK] = "auto"
    """Comma-separated tags, whole sentences, or a JSON object; "auto": by the table."""
    max_tokens: Annotated[int | None, AfterStart.NEEDS_FORK] = Field(default=None, ge=8, le=100_000)
    """Tokens that the model reads. Default: by the table."""
    max_words: Annotated[int | None, AfterStart.NEEDS_FORK] = Field(default=None, ge=1, le=10_000)
    """Words of a rewrite. Default: estimated from the tokens."""
    negative: Annotated[bool, AfterStart.NEEDS_FORK] = False
    """Whether rewrites come with a negative prompt, which replaces `[render] negative_prompt`.
    Pictures of naive prompts keep that setting."""
    language: Annotated[str, AfterStart.NEEDS_FORK] = Field(default="", max_length=60)
    """The language of rewrites, by its English name. Default: that of the naive prompt."""
    triggers: Annotated[tuple[str, ...], AfterStart.NEEDS_FORK] = ()
    """Trigger words of LoRAs: a rewrite keeps those that its naive prompt has, as they are."""


class LoraConfig(Value):
    """`[[render.lora]]`: weights that adapt the model to a style or a subject."""

    model: Annotated[str, AfterStart.NEEDS_FORK]
    """A `.safetensors` file, a folder or a hub id."""
    file: Annotated[str | None, AfterStart.NEEDS_FORK] = None
    """The file in the folder or the hub's repository, where it has several."""
    revision: Annotated[str | None, AfterStart.NEEDS_FORK] = None
    """Commit of a hub id."""
    weight: Annotated[float, AfterStart.NEEDS_FORK] = Field(default=1.0, ge=-10.0, le=10.0)
    """Its strength; 0 would have no effect."""
    triggers: Annotated[tuple[str, ...], AfterStart.NEEDS_FORK] = ()
    """Its trigger words: a rewrite keeps those that its naive prompt has, as they are."""

    @field_validator("weight")
    @classmethod
    def _not_zero(cls, weight: float) -> float:
        if weight == 0:
            raise ValueError("a LoRA of weight 0 has no effect; take it out")
        return weight

    @field_validator("model", "file")
    @classmethod
    def _no_pickle(cls, name: str | None) -> str | None:
        return None if name is None else refuse_pickles(name)


class QuantizationConfig(Value):
    """`[render.quantization]`: weights of fewer bits, so that a large model fits in memory."""

    backend: Annotated[Quantizer, AfterStart.NEEDS_FORK]
    """As diffusers names it. A `.gguf` file is quantized already: `[render] transformer`."""
    components: Annotated[tuple[str, ...], AfterStart.NEEDS_FORK] = Field(
        default=("transformer",), min_length=1
    )
    """The parts of the pipeline to quantize, for example "unet" or "text_encoder_2"."""
    options: Annotated[dict[str, Any], AfterStart.NEEDS_FORK] = Field(
        default_factory=dict[str, Any]
    )
    """Arguments of the backend's configuration class, by its own names. Default: 4 bits for
    bitsandbytes_4bit, else 8."""


class RenderConfig(Value):
    """`[render]`: the text-to-image model."""

    backend: Annotated[str, AfterStart.NEEDS_FORK] = "diffusers"
    """A name that `bigpe renderers list` prints. `[render.http]` configures HTTP services."""
    options: Annotated[dict[str, Any], AfterStart.NEEDS_FORK] = Field(
        default_factory=dict[str, Any]
    )
    """`[render.options]`: settings of a renderer of another package."""
    model: Annotated[str, AfterStart.NEEDS_FORK] = "embedded"
    """"embedded", a folder, a hub id, a `.safetensors` checkpoint, or the name of a model of an
    HTTP service."""
    base: Annotated[str | None, AfterStart.NEEDS_FORK] = None
    """The folder or hub id whose configuration a checkpoint has; default: diffusers' guess."""
    transformer: Annotated[str | None, AfterStart.NEEDS_FORK] = None
    """A `.safetensors` or `.gguf` file that replaces the model's transformer or UNet."""
    revision: Annotated[str | None, AfterStart.NEEDS_FORK] = None
    """Commit of a hub id, which keeps the model of a run from changing."""
    variant: Annotated[str | None, AfterStart.NEEDS_FORK] = None
    device: Annotated[Literal["auto", "cuda", "mps", "cpu"], AfterStart.NEEDS_FORK] = "auto"
    dtype: Annotated[Literal["auto", "float32", "float16", "bfloat16"], AfterStart.NEEDS_FORK] = (
        "auto"
    )
    steps: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=12, ge=1, le=1000)
    guidance: Annotated[float, AfterStart.NEEDS_FORK] = Field(default=3.0, ge=0.0, le=100.0)
    """Guidance scale; 0 for SDXL-Turbo."""
    size: Annotated[int | None, AfterStart.NEEDS_FORK] = Field(default=None, ge=8, le=4096)
    """Width and height, pixels; None: the model's default."""
    width: Annotated[int | None, AfterStart.NEEDS_FORK] = Field(default=None, ge=8, le=8192)
    """Width, pixels, in place of `size`."""
    height: Annotated[int | None, AfterStart.NEEDS_FORK] = Field(default=None, ge=8, le=8192)
    """Height, pixels."""
    negative_prompt: Annotated[str | None, AfterStart.NEEDS_FORK] = None
    scheduler: Annotated[str | None, AfterStart.NEEDS_FORK] = None
    """Class name of a diffusers scheduler, which replaces the model's scheduler."""
    timestep_spacing: Annotated[
        Literal["leading", "linspace", "trailing"] | None, AfterStart.NEEDS_FORK
    ] = None
    vae: Annotated[str | None, AfterStart.NEEDS_FORK] = None
    """A folder or hub id of another VAE."""
    lora: Annotated[tuple[LoraConfig, ...], AfterStart.NEEDS_FORK] = ()
    quantization: Annotated[QuantizationConfig | None, AfterStart.NEEDS_FORK] = None
    offload: Annotated[Literal["none", "model", "sequential"], AfterStart.NEEDS_FORK] = "none"
    """Keep on the GPU only the part at work ("model"), or only its layer ("sequential")."""
    compile: Annotated[bool, AfterStart.NEEDS_FORK] = False
    """Whether torch compiles the transformer or UNet, which takes minutes at the start."""
    attention_slicing: Annotated[bool, AfterStart.NEEDS_FORK] = False
    """Whether attention works in slices: less memory, slower."""
    vae_slicing: Annotated[bool, AfterStart.NEEDS_FORK] = False
    """Whether the VAE decodes the pictures of a batch one by one."""
    vae_tiling: Annotated[bool, AfterStart.NEEDS_FORK] = False
    """Whether the VAE decodes a picture in tiles."""
    max_batch: Annotated[int, AfterStart.IF_SAME_MODEL] = Field(default=4, ge=1, le=256)
    deterministic: Annotated[bool | None, AfterStart.NEEDS_FORK] = None
    """Whether to render images one by one, so that an image never depends on its batch.
    None: on a CPU only."""
    threads: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=2, ge=1, le=512)
    """CPU threads of the model's process."""
    call_timeout_s: Annotated[float, AfterStart.CHANGES_NO_RESULT] = Field(default=600.0, gt=0)
    call: Annotated[dict[str, Any], AfterStart.NEEDS_FORK] = Field(default_factory=dict[str, Any])
    """`[render.call]`: further arguments of a diffusers pipeline, by its own names."""
    http: PictureServiceConfig = PictureServiceConfig()
    prompt: PromptConfig = PromptConfig()

    @property
    def triggers(self) -> tuple[str, ...]:
        """The trigger words of `[render.prompt]` and of all LoRAs, each once."""
        of_loras = (word for lora in self.lora for word in lora.triggers)
        return tuple(dict.fromkeys((*self.prompt.triggers, *of_loras)))

    @property
    def dimensions(self) -> tuple[int, int] | None:
        """Width and height, pixels; None: the model's default."""
        if self.width is None or self.height is None:
            return None if self.size is None else (self.size, self.size)
        return self.width, self.height

    @model_validator(mode="after")
    def _whole_size(self) -> RenderConfig:
        if (self.width is None) != (self.height is None):
            raise ValueError("set width and height, both; `size` is for squares")
        if self.width is not None and self.size is not None:
            raise ValueError("set either size, or width and height")
        return self

    @model_validator(mode="after")
    def _fitting_base(self) -> RenderConfig:
        if self.backend == "diffusers":
            refuse_pickles(self.model)
        if self.base is not None and not self.model.endswith(CHECKPOINT):
            raise ValueError("base has an effect only where model is a .safetensors file")
        return self

    @field_validator("transformer")
    @classmethod
    def _weights(cls, name: str | None) -> str | None:
        if name is not None and not name.endswith((CHECKPOINT, ".gguf")):
            raise ValueError(f"{name!r} is not a .safetensors or .gguf file")
        return name

    @field_validator("backend")
    @classmethod
    def _existing(cls, name: str) -> str:
        return plugins.require_known("renderers", name, get_args(BuiltinRenderer))
