"""The messages of the core actors. Each message is a frozen value.

Its id depends on the run, its kind, its round and its place in the round, never on time. So a
resumed run emits messages with the same ids, and the transcript ignores the duplicates.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, TypeAdapter

from bigpe.agents.evidence.mixed_model import EvidenceRow, PairedComparison
from bigpe.agents.messages import plugin as roles
from bigpe.agents.messages.answer_counts import AnswerCounts
from bigpe.agents.messages.base import COORDINATOR, ImageMessage, Message
from bigpe.agents.messages.failure_scope import (
    BatchLost,
    FailureScope,
    GradientsLost,
    ImageLost,
    PromptLost,
)
from bigpe.agents.messages.parts import (
    Gradient,
    PairedGain,
    ProposedInstruction,
    RefusedProposal,
    RetiredArm,
    RewriteTask,
    Rewritten,
)
from bigpe.agents.messages.plan import BUILT_IN_AUTHOR, CampaignPlan
from bigpe.agents.messages.search import BatchStudy, Operator, OperatorTally, SearchState
from bigpe.agents.messages.usage import Limits, Prices, Usage
from bigpe.services.core.values import Image, Instruction, Json, LlmUsage, digest


class RunStarted(Message):
    """Starts a run."""

    delivered_to: ClassVar[tuple[str, ...]] = (COORDINATOR,)
    kind: Literal["RunStarted"] = "RunStarted"
    plan: CampaignPlan


class PlanChanged(Message):
    """A change of the settings of a started run. It cancels a StopRequested."""

    delivered_to: ClassVar[tuple[str, ...]] = (COORDINATOR,)
    kind: Literal["PlanChanged"] = "PlanChanged"
    rounds: int = Field(ge=1)
    concurrency: int = Field(ge=1)
    patience: int = Field(ge=0)
    limits: Limits
    prices: Prices


class StopRequested(Message):
    """Request to start no further pull."""

    delivered_to: ClassVar[tuple[str, ...]] = (COORDINATOR,)
    kind: Literal["StopRequested"] = "StopRequested"
    reason: str


class RewriteRequested(Message):
    """Starts a pull: request to rewrite these prompts under this instruction."""

    delivered_to: ClassVar[tuple[str, ...]] = ("generator",)
    lost: ClassVar[FailureScope] = BatchLost()
    kind: Literal["RewriteRequested"] = "RewriteRequested"
    instruction: Instruction
    tasks: tuple[RewriteTask, ...]


class PromptsRewritten(Message):
    """The rewritten prompts of a pull."""

    delivered_to: ClassVar[tuple[str, ...]] = (COORDINATOR,)
    kind: Literal["PromptsRewritten"] = "PromptsRewritten"
    instruction: str
    """The id of the instruction."""
    rewrites: tuple[Rewritten, ...]
    usage: LlmUsage = LlmUsage()


class LlmTurn(Message):
    """An exchange with a language model in the form of AgentChat. No actor receives it."""

    kind: Literal["LlmTurn"] = "LlmTurn"
    role: str
    chat: tuple[Json, ...]
    """Dumps of AgentChat messages without their times."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    effect_keys: tuple[str, ...] = ()
    """Keys of the stored calls, oldest first; answers that could not be used are among them."""


class RenderRequested(ImageMessage):
    """Request to render `prompt` with `seed`."""

    delivered_to: ClassVar[tuple[str, ...]] = ("renderer",)
    kind: Literal["RenderRequested"] = "RenderRequested"

    def failure_scope(self) -> FailureScope:
        """The image, not rendered."""
        return ImageLost(purpose=self.purpose, naive=self.naive, seed=self.seed, rendered=False)


class ImageRendered(ImageMessage):
    """An image is in the blob store."""

    kind: Literal["ImageRendered"] = "ImageRendered"
    image: Image


class ScoreRequested(ImageMessage):
    """Request to score an image against its naive prompt."""

    delivered_to: ClassVar[tuple[str, ...]] = ("scorer",)
    kind: Literal["ScoreRequested"] = "ScoreRequested"
    image: str
    truncated: int = 0
    """Number of tokens of `prompt` that the renderer cut off."""

    def failure_scope(self) -> FailureScope:
        """The image, not scored."""
        return ImageLost(purpose=self.purpose, naive=self.naive, seed=self.seed, rendered=True)


class ImageScored(ImageMessage):
    """The preference score of an image against its naive prompt."""

    delivered_to: ClassVar[tuple[str, ...]] = (COORDINATOR,)
    kind: Literal["ImageScored"] = "ImageScored"
    image: str
    truncated: int = 0
    """Number of tokens of `prompt` that the renderer cut off."""
    naive_truncated: int = 0
    """Number of tokens of `naive` that the scorer cut off."""
    score: float = Field(allow_inf_nan=False)
    scorer: str
    """The fingerprint of the scorer."""


class ArmPulled(Message):
    """The result of a pull: its paired gains, and the number of missing comparisons."""

    kind: Literal["ArmPulled"] = "ArmPulled"
    instruction: str
    gains: tuple[PairedGain, ...]
    missing: int = 0
    """Comparisons lost to failures of a service. Missing data, not zeros."""
    wants_gradient: bool = True
    """False if the pool or the run's rounds leave no use for a new instruction. Then no gradient is
    requested."""
    unchanged: bool = False
    """True if the rewrites equal those of the parent, so that nothing was rendered."""


class CritiqueRequested(Message):
    """Request for gradients, with the contrast of the batch and the evidence of the run."""

    delivered_to: ClassVar[tuple[str, ...]] = ("gradient",)
    lost: ClassVar[FailureScope] = GradientsLost()
    kind: Literal["CritiqueRequested"] = "CritiqueRequested"
    instruction: Instruction
    rows: tuple[EvidenceRow, ...]
    best: PairedComparison | None
    worst: PairedComparison | None
    professional: PairedComparison | None
    seed: int
    improvements: int
    tried: tuple[str, ...] = ()
    """Improvements of recent rounds with their gains, newest last."""
    best_image: str = ""
    worst_image: str = ""
    """Digests of the images of `best` and `worst`, if they exist."""
    study: BatchStudy | None = None
    """The whole batch and the search so far, for styles that reason about them."""


class GradientsComputed(Message):
    """The gradients of the gradient calculator or of a contributor."""

    delivered_to: ClassVar[tuple[str, ...]] = (COORDINATOR,)
    kind: Literal["GradientsComputed"] = "GradientsComputed"
    author: str = BUILT_IN_AUTHOR
    gradients: tuple[Gradient, ...]
    usage: LlmUsage = LlmUsage()


class ProposalRequested(Message):
    """Request to turn gradients into instructions."""

    delivered_to: ClassVar[tuple[str, ...]] = ("modifier",)
    kind: Literal["ProposalRequested"] = "ProposalRequested"
    instruction: Instruction
    """The parent of the new instructions."""
    gradients: tuple[Gradient, ...]
    rows: tuple[EvidenceRow, ...]
    pairs: tuple[PairedComparison, ...]
    """Comparisons that may become exemplars."""
    living: tuple[Instruction, ...]
    batch: tuple[str, ...]
    """Naive prompts of the batch. A proposal that names their subjects is refused."""
    seed: int
    search: SearchState | None = None
    """The search so far, for styles that reason about it."""
    gains: tuple[PairedGain, ...] = ()
    """The results of the batch, for styles that reason about it."""


class InstructionsProposed(Message):
    """The new instructions of a pull."""

    delivered_to: ClassVar[tuple[str, ...]] = (COORDINATOR,)
    kind: Literal["InstructionsProposed"] = "InstructionsProposed"
    parent_instruction: str
    proposals: tuple[ProposedInstruction, ...]
    refused: tuple[RefusedProposal, ...] = ()
    usage: LlmUsage = LlmUsage()


class PoolChanged(Message):
    """The end of a round: admitted, retired and waiting instructions."""

    kind: Literal["PoolChanged"] = "PoolChanged"
    admitted: tuple[Instruction, ...]
    retired: tuple[RetiredArm, ...]
    waiting: int
    sigma: float
    """Estimated noise of one gain, score units."""
    best: str
    """Id of the instruction with the highest lower bound so far."""
    used: Usage = Usage()
    """Usage of the run so far, including the pilot."""
    stale: int = 0
    """Rounds since the best lower bound rose."""
    operators: dict[Operator, OperatorTally] = Field(default_factory=dict[Operator, OperatorTally])
    """The trials of each operator so far, for styles with operators."""
    answers: AnswerCounts = AnswerCounts()
    """What the language model gave in the run so far."""


class RunStopped(Message):
    """The end of a run. Only a PlanChanged can follow, if a limit is raised."""

    kind: Literal["RunStopped"] = "RunStopped"
    reason: str
    best: str


class StepFailed(Message):
    """A step failed: which one, why, and whether it is retried."""

    delivered_to: ClassVar[tuple[str, ...]] = (COORDINATOR,)
    kind: Literal["StepFailed"] = "StepFailed"
    step: str
    """The id of the message whose handling failed."""
    step_kind: str
    actor: str
    error: str
    """The class of the exception."""
    cause: str
    attempt: int
    will_retry: bool
    raw: str | None = None
    """The whole answer of a model, if it was unusable."""
    scope: FailureScope
    """What is lost unless a later attempt succeeds."""
    usage: LlmUsage = LlmUsage()
    """Language model usage of the attempt, without the calls that the next attempt reports."""

    @property
    def naive(self) -> str:
        """The naive prompt that the failure concerns; "" if it concerns more than one."""
        return self.scope.naive if isinstance(self.scope, ImageLost | PromptLost) else ""


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
MESSAGE_TYPES: tuple[type[Message], ...] = get_args(get_args(AnyMessage)[0])
"""The classes of AnyMessage."""


def routes() -> dict[str, tuple[str, ...]]:
    """The recipients of each kind of message that is delivered to core actors."""
    return {
        message.model_fields["kind"].default: message.delivered_to
        for message in MESSAGE_TYPES
        if message.delivered_to
    }


def parse_message(body: str | bytes) -> AnyMessage:
    """The message with the JSON `body`. Raises pydantic.ValidationError for unknown fields."""
    return _UNION.validate_json(body)


def start_run(run: str, plan: CampaignPlan) -> RunStarted:
    """The first message of a run, the only one without a cause."""
    mid = digest([run, "RunStarted", 0, ""])[:32]
    return RunStarted(mid=mid, run=run, parent="", round=0, plan=plan)
