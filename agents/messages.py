"""Everything that actors say. Each message is a frozen value with an id that depends on the run,
its kind, its round and its place in the round, never on when it was said; so a resumed run says
the same messages again and the transcript absorbs them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from bigpe.agents import role_messages as roles
from bigpe.agents.campaign_plan import BUILT_IN_AUTHOR, CampaignPlan
from bigpe.agents.evidence import EvidenceRow, Pair
from bigpe.agents.message_base import Message
from bigpe.agents.usage import Limits, Prices, Usage
from bigpe.services.values import Image, Instruction, Json, LlmUsage, Value, digest

Purpose = Literal["pilot", "naive", "rewrite", "professional"]
"""Why a picture is painted: to learn the noise, or as one side of a paired comparison."""

RefusalCode = Literal["near-copy", "invalid", "vetoed"]
"""Why a proposal is refused: it resembles a living instruction, breaks a rule, or has a veto."""


class RewriteTask(Value):
    """One naive prompt to rewrite, and the seeds that go with it."""

    naive: str
    image_seed: int
    llm_seed: int


class Rewritten(Value):
    """What became of a task."""

    naive: str
    image_seed: int
    text: str
    """The rewritten prompt; the naive one where `fallback` says why."""
    fallback: str | None = None
    attempts: int = 1


class PairedGain(Value):
    """A paired comparison: the same naive prompt and seed, painted with and without the rewrite."""

    naive: str
    rewrite: str
    seed: int
    naive_score: float
    score: float
    gain: float
    """score - naive_score; exactly 0 for a fallback."""
    fallback: str | None = None
    naive_image: str
    image: str


class Gradient(Value):
    """A textual gradient: what made the difference, what to change, and what it rests on."""

    inference: str
    improvement: str
    evidence: tuple[str, ...]
    """Ids of the evidence rows that the improvement really cites."""
    composed: bool
    """True when no wording of the LLM was valid and the computed sentence was used."""
    dropped_citations: int = 0
    author: str = BUILT_IN_AUTHOR


class ProposedInstruction(Value):
    """An instruction that the Modifier puts forward, and the gradient it follows."""

    instruction: Instruction
    improvement: str
    composed: bool
    author: str = BUILT_IN_AUTHOR
    """Whose gradient it was."""


class RefusedProposal(Value):
    """A proposal that was not put forward, and why."""

    improvement: str
    code: RefusalCode
    reasons: tuple[str, ...]
    """The reasons for people, one for each candidate."""


class RetiredArm(Value):
    """An arm that left the pool, and why."""

    instruction: str
    reason: str


class RunStarted(Message):
    """Opens a run; to the coordinator."""

    kind: Literal["RunStarted"] = "RunStarted"
    plan: CampaignPlan


class PlanChanged(Message):
    """What people changed of a run that has begun; to the coordinator. It lifts a StopRequested."""

    kind: Literal["PlanChanged"] = "PlanChanged"
    rounds: int = Field(ge=1)
    concurrency: int = Field(ge=1)
    patience: int = Field(ge=0)
    limits: Limits
    prices: Prices


class StopRequested(Message):
    """Asks the coordinator to start no further pull."""

    kind: Literal["StopRequested"] = "StopRequested"
    reason: str


class RewriteRequested(Message):
    """Opens a pull: rewrite these prompts under this instruction; to the generator."""

    kind: Literal["RewriteRequested"] = "RewriteRequested"
    instruction: Instruction
    tasks: tuple[RewriteTask, ...]


class PromptsRewritten(Message):
    """The generator's answer."""

    kind: Literal["PromptsRewritten"] = "PromptsRewritten"
    instruction: str
    """The instruction's id."""
    rewrites: tuple[Rewritten, ...]
    usage: LlmUsage = LlmUsage()
    """Of the language model, for the whole answer."""


class LlmTurn(Message):
    """One exchange with a language model in AgentChat's form; nobody acts on it."""

    kind: Literal["LlmTurn"] = "LlmTurn"
    role: str
    chat: tuple[Json, ...]
    """Dumps of AgentChat messages, less their times (see transcript.replay)."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    effect_keys: tuple[str, ...] = ()
    """Keys of the stored calls, oldest first; answers that could not be used are among them."""


class RenderRequested(Message):
    """Paint `prompt` with `seed`; to the renderer."""

    kind: Literal["RenderRequested"] = "RenderRequested"
    purpose: Purpose
    naive: str
    prompt: str
    seed: int


class ImageRendered(Message):
    """A picture lies in the blob store."""

    kind: Literal["ImageRendered"] = "ImageRendered"
    purpose: Purpose
    naive: str
    prompt: str
    seed: int
    image: Image


class ScoreRequested(Message):
    """Score a picture against its naive prompt; to the scorer."""

    kind: Literal["ScoreRequested"] = "ScoreRequested"
    purpose: Purpose
    naive: str
    prompt: str
    seed: int
    image: str
    truncated: int = 0
    """Tokens of `prompt` that the renderer's tokenizers cut off."""


class ImageScored(Message):
    """A picture's preference score against its naive prompt."""

    kind: Literal["ImageScored"] = "ImageScored"
    purpose: Purpose
    naive: str
    prompt: str
    seed: int
    image: str
    truncated: int = 0
    """Tokens of `prompt` that the renderer's tokenizers cut off."""
    naive_truncated: int = 0
    """Tokens of `naive` that the scorer's tokenizer cut off: it did not judge by them."""
    score: float = Field(allow_inf_nan=False)
    scorer: str
    """The scorer's fingerprint."""


class ArmPulled(Message):
    """A pull's result: its paired gains, and the comparisons that are missing."""

    kind: Literal["ArmPulled"] = "ArmPulled"
    instruction: str
    gains: tuple[PairedGain, ...]
    missing: int = 0
    """Comparisons lost to failures of a service: missing data, not zeros."""
    teaches: bool = True
    """False where no newcomer is due: then no gradient is asked for."""


class CritiqueRequested(Message):
    """The batch's contrast and the run's evidence; to the gradient calculator."""

    kind: Literal["CritiqueRequested"] = "CritiqueRequested"
    instruction: Instruction
    rows: tuple[EvidenceRow, ...]
    best: Pair | None
    worst: Pair | None
    professional: Pair | None
    seed: int
    improvements: int
    tried: tuple[str, ...] = ()
    """Improvements of recent rounds and what they won, newest last."""
    best_image: str = ""
    worst_image: str = ""
    """Digests of the pictures of `best` and `worst`, if there are."""


class GradientsComputed(Message):
    """An answer of the gradient calculator, or of a role that competes with it."""

    kind: Literal["GradientsComputed"] = "GradientsComputed"
    author: str = BUILT_IN_AUTHOR
    gradients: tuple[Gradient, ...]
    usage: LlmUsage = LlmUsage()
    """Of the language model, for the whole answer."""


class ProposalRequested(Message):
    """Turn gradients into instructions; to the instruction modifier."""

    kind: Literal["ProposalRequested"] = "ProposalRequested"
    instruction: Instruction
    """The parent."""
    gradients: tuple[Gradient, ...]
    rows: tuple[EvidenceRow, ...]
    pairs: tuple[Pair, ...]
    """Comparisons that exemplars may be taken from."""
    living: tuple[Instruction, ...]
    batch: tuple[str, ...]
    """The batch's naive prompts; a proposal that names their subjects is refused."""
    seed: int


class InstructionsProposed(Message):
    """The instruction modifier's answer."""

    kind: Literal["InstructionsProposed"] = "InstructionsProposed"
    parent_instruction: str
    proposals: tuple[ProposedInstruction, ...]
    refused: tuple[RefusedProposal, ...] = ()
    usage: LlmUsage = LlmUsage()
    """Of the language model, for the whole answer."""


class PoolChanged(Message):
    """A round's end: who entered the pool, who left it and why, who waits."""

    kind: Literal["PoolChanged"] = "PoolChanged"
    admitted: tuple[Instruction, ...]
    retired: tuple[RetiredArm, ...]
    waiting: int
    sigma: float
    """Estimated noise of one gain, score units."""
    best: str
    """Id of the instruction with the highest lower bound so far."""
    used: Usage = Usage()
    """What the run has asked for so far, the pilot included."""
    stale: int = 0
    """Rounds since the best lower bound rose."""


class RunStopped(Message):
    """The run is at its end; nothing follows but a PlanChanged, if a limit is raised."""

    kind: Literal["RunStopped"] = "RunStopped"
    reason: str
    best: str


class StepFailed(Message):
    """A step failed: what, why, and whether it is tried again."""

    kind: Literal["StepFailed"] = "StepFailed"
    step: str
    """The id of the message whose handling failed."""
    step_kind: str
    actor: str
    error: str
    """The exception's class."""
    cause: str
    attempt: int
    will_retry: bool
    raw: str | None = None
    """A model's whole answer, when it could not be used."""
    purpose: Purpose | None = None
    naive: str = ""
    seed: int = 0
    """With `purpose` and `naive`: the picture that is lost, when the step was about one. Without
    `purpose`: the prompt of a batch that was not rewritten, when others were."""
    usage: LlmUsage = LlmUsage()
    """What the attempt asked language models for, less what the next attempt will be told again."""


AnyMessage = Annotated[
    RunStarted
    | PlanChanged
    | StopRequested
    | RewriteRequested
    | PromptsRewritten
    | LlmTurn
    | RenderRequested
    | ImageRendered
    | ScoreRequested
    | ImageScored
    | ArmPulled
    | CritiqueRequested
    | GradientsComputed
    | ProposalRequested
    | InstructionsProposed
    | PoolChanged
    | RunStopped
    | StepFailed
    | roles.RolesChanged
    | roles.RoleSaid
    | roles.RoleReported
    | roles.ReviewRequested
    | roles.GateDecided,
    Field(discriminator="kind"),
]
_UNION: TypeAdapter[AnyMessage] = TypeAdapter(AnyMessage)


def parse_message(body: str | bytes) -> AnyMessage:
    """The message whose JSON `body` is; pydantic.ValidationError for an unknown kind or field."""
    return _UNION.validate_json(body)


def start_run(run: str, plan: CampaignPlan) -> RunStarted:
    """A run's first message; its only one without a cause."""
    mid = digest([run, "RunStarted", 0, ""])[:32]
    return RunStarted(mid=mid, run=run, parent="", round=0, plan=plan)
