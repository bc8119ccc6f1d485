"""A pull in flight: what it waits for, and what its scores say once they are all there."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from bigpe.agents import proposing, rewriting, wording
from bigpe.agents.campaign_plan import CampaignPlan
from bigpe.agents.evidence import EvidenceRow, Pair, tabulate
from bigpe.agents.message_base import Keys, key_of
from bigpe.agents.messages import (
    AnyMessage,
    ArmPulled,
    CritiqueRequested,
    Gradient,
    GradientsComputed,
    ImageScored,
    InstructionsProposed,
    Message,
    PairedGain,
    ProposalRequested,
    Purpose,
    RenderRequested,
    RewriteRequested,
    RewriteTask,
    Rewritten,
    StepFailed,
)
from bigpe.agents.snapshots import ByTuple
from bigpe.agents.usage import Usage, of_role
from bigpe.services.values import Instruction, LlmUsage, derive_seed

Picture = tuple[Purpose, str, int]
"""Which picture of a round: purpose, naive prompt, image seed."""
EVIDENCE_ROWS = 40
EXEMPLAR_PAIRS = 24
"""Comparisons shown to the Modifier, best first: enough choice, bounded messages."""


@dataclass
class Pictures:
    """Pictures asked for together, and what became of them."""

    prompts: ByTuple[Picture, str] = field(default_factory=dict[Picture, str])
    awaited: set[Picture] = field(default_factory=set[Picture])
    lost: ByTuple[Picture, str] = field(default_factory=dict[Picture, str])
    """The kind of the step that failed."""

    def ask(
        self, cause: Message, purpose: Purpose, naive: str, prompt: str, seed: int
    ) -> RenderRequested:
        """One more."""
        picture = (purpose, naive, seed)
        self.prompts[picture] = prompt
        self.awaited.add(picture)
        place = f"{purpose}/{seed}/{naive}"
        return RenderRequested.make(
            cause, place, purpose=purpose, naive=naive, prompt=prompt, seed=seed
        )

    def lose(self, picture: Picture, step_kind: str) -> None:
        """It will not come."""
        self.awaited.discard(picture)
        self.lost[picture] = step_kind

    def fresh(self, painted: Keys) -> set[int]:
        """Keys of what is really painted, a prompt and a seed, that are not in `painted`."""
        return {key for key in self._keys() if key not in painted}  # `-` would walk all of it

    def _keys(self) -> set[int]:
        return {key_of(prompt, picture[2]) for picture, prompt in self.prompts.items()}

    def settle(self, painted: Keys) -> Usage:
        """What they are in renders and scores; those that need no second call come to the end of
        `painted`.

        A failure is in no memo, so a lost picture counts again when it is asked for again.
        """
        fresh = self.fresh(painted)
        lost = {key_of(self.prompts[lost], lost[2]): kind for lost, kind in self.lost.items()}
        for known in sorted(self._keys() - (fresh & lost.keys())):
            painted.pop(known, None)
            painted[known] = None
        unpainted = {painting for painting, kind in lost.items() if kind == "RenderRequested"}
        # Another round in flight may have had a picture that failed here: the failure was paid for.
        asked = fresh | lost.keys()
        return Usage(renders=len(asked), scores=len(asked - unpainted))


@dataclass
class Round:
    """What is known of a pull."""

    request: RewriteRequested
    history: int
    """How many of the run's pairs existed when the pull was chosen."""
    living: tuple[Instruction, ...]
    tried: tuple[str, ...]
    teaches: bool = True
    """Whether it is asked what made the difference: an instruction that comes of it may come in."""
    withheld: list[RewriteRequested | RenderRequested] = field(
        default_factory=list[RewriteRequested | RenderRequested]
    )
    """What opens the round, until the budget lets it begin."""
    pictures: Pictures = field(default_factory=Pictures)
    rewrites: ByTuple[tuple[str, int], Rewritten] | None = None
    scores: ByTuple[Picture, ImageScored] = field(default_factory=dict[Picture, ImageScored])
    pulled: ArmPulled | None = None
    own_pairs: list[Pair] = field(default_factory=list[Pair])
    asked: bool = False
    """Whether the authors of gradients were asked about it."""
    rows: tuple[EvidenceRow, ...] | None = None
    """The evidence, once it was needed."""
    replies: dict[str, GradientsComputed | StepFailed] = field(
        default_factory=dict[str, GradientsComputed | StepFailed]
    )
    """By author: its gradients, or its failure."""
    last: AnyMessage | None = None
    proposed: InstructionsProposed | None = None
    complete: bool = False
    broken: str | None = None
    """Why no round may begin after this one."""
    llm: Usage = Usage()
    """Of language models only."""

    def withhold(self, plan: CampaignPlan) -> None:
        """Make what opens the round: the request to rewrite, and the pictures to compare with."""
        tasks, ask = self.request.tasks, self.pictures.ask
        self.withheld = [self.request]
        self.withheld += [ask(self.request, "naive", t.naive, t.naive, t.image_seed) for t in tasks]
        self.withheld += [
            ask(self.request, "professional", t.naive, professional, t.image_seed)
            for t in tasks
            if (professional := plan.professional.get(t.naive))
        ]

    def at_most(self, plan: CampaignPlan, painted: Keys, dearest: Usage) -> Usage:
        """What the pull may take when no call has to be repeated; `dearest`: what one took."""
        tasks = len(self.request.tasks)
        pictures = len(self.pictures.fresh(painted)) + tasks
        calls = {
            "generator": tasks * rewriting.ATTEMPTS,
            "gradient": plan.improvements * wording.CANDIDATES,
            "modifier": plan.improvements * len(plan.authors) * proposing.CANDIDATES,
        }
        known = {role: LlmUsage(calls=count) for role, count in calls.items()}
        return Usage(renders=pictures, scores=pictures, llm=known).with_llm_of(dearest)

    def ask(self, role: str, used: LlmUsage) -> None:
        """A role asked its language model for this."""
        self.llm += of_role(role, used)

    def join(self) -> ArmPulled:
        """The pull's result, from the scores that came; what is missing is counted."""
        gains = [gain for task in self.request.tasks if (gain := self._gain(task))]
        self.pulled = ArmPulled.make(
            self.request,
            instruction=self.request.instruction.id,
            gains=tuple(gains),
            missing=len(self.request.tasks) - len(gains),
            teaches=self.teaches,
        )
        self.own_pairs = [self._pair(gain) for gain in gains]
        self.own_pairs += [pair for task in self.request.tasks if (pair := self._contrast(task))]
        return self.pulled

    def evidence(self, known: Sequence[Pair]) -> tuple[EvidenceRow, ...]:
        """What made the difference in `known`, the pairs that the pull looks back on."""
        if self.rows is None:
            self.rows = tabulate(known, max_rows=EVIDENCE_ROWS)
        return self.rows

    def critique(self, known: Sequence[Pair], plan: CampaignPlan) -> CritiqueRequested:
        """Asks what made the difference, for a joined pull with gains."""
        assert self.pulled is not None
        own = [pair for pair in self.own_pairs if pair.arm != "professional"]
        professional = [pair for pair in self.own_pairs if pair.arm == "professional"]
        ordered = sorted(own, key=lambda pair: (pair.gain, pair.naive, pair.seed))
        return CritiqueRequested.make(
            self.pulled,
            instruction=self.request.instruction,
            rows=self.evidence(known),
            best=ordered[-1],
            worst=ordered[0] if len(ordered) > 1 else None,
            professional=max(professional, key=lambda p: (p.gain, p.naive), default=None),
            seed=derive_seed(plan.seed, "critique", self.request.round),
            improvements=plan.improvements,
            tried=self.tried,
            best_image=self._image(ordered[-1]),
            worst_image=self._image(ordered[0]) if len(ordered) > 1 else "",
        )

    def proposal(
        self, last: GradientsComputed | StepFailed, known: Sequence[Pair], plan: CampaignPlan
    ) -> ProposalRequested:
        """Asks for instructions that follow the gradients; `last`: the last author's reply."""
        winners = heapq.nsmallest(
            EXEMPLAR_PAIRS,
            (pair for pair in known if pair.gain > 0 and not pair.fallback),
            key=lambda pair: (-pair.gain, pair.naive, pair.seed),
        )
        return ProposalRequested.make(
            last,
            instruction=self.request.instruction,
            gradients=self.gradients(plan.authors),
            rows=self.evidence(known),
            pairs=tuple(winners),
            living=self.living,
            batch=tuple(dict.fromkeys(task.naive for task in self.request.tasks)),
            seed=derive_seed(plan.seed, "proposal", last.round),
        )

    def _image(self, pair: Pair) -> str:
        """The picture of the pair's rewrite."""
        gains = self.pulled.gains if self.pulled else ()
        same = (g.image for g in gains if (g.naive, g.seed) == (pair.naive, pair.seed))
        return next(same, "")

    def gradients(self, authors: Sequence[str]) -> tuple[Gradient, ...]:
        """All that were written. Each round another author comes first: the first of two equal
        proposals is taken, and a full pool takes one a round."""
        turn = self.request.round % len(authors)
        replies = [self.replies.get(author) for author in (*authors[turn:], *authors[:turn])]
        return tuple(
            gradient
            for reply in replies
            if isinstance(reply, GradientsComputed)
            for gradient in reply.gradients
        )

    def _gain(self, task: RewriteTask) -> PairedGain | None:
        naive = self.scores.get(("naive", task.naive, task.image_seed))
        rewritten = (self.rewrites or {}).get((task.naive, task.image_seed))
        if naive is None or rewritten is None:
            return None
        rewrite = naive
        if rewritten.fallback is None:
            rewrite = self.scores.get(("rewrite", task.naive, task.image_seed))
        if rewrite is None:
            return None
        return PairedGain(
            naive=task.naive,
            rewrite=rewritten.text,
            seed=task.image_seed,
            naive_score=naive.score,
            score=rewrite.score,
            gain=rewrite.score - naive.score,
            fallback=rewritten.fallback,
            naive_image=naive.image,
            image=rewrite.image,
        )

    def _pair(self, gain: PairedGain) -> Pair:
        painted = self.scores.get(("rewrite", gain.naive, gain.seed))
        return Pair(
            naive=gain.naive,
            rewrite=gain.rewrite,
            seed=gain.seed,
            gain=gain.gain,
            arm=self.request.instruction.id,
            fallback=gain.fallback is not None,
            truncated=painted.truncated if painted else 0,
        )

    def _contrast(self, task: RewriteTask) -> Pair | None:
        """The professional prompt of the same subject against the naive one."""
        naive = self.scores.get(("naive", task.naive, task.image_seed))
        painted = self.scores.get(("professional", task.naive, task.image_seed))
        if naive is None or painted is None:
            return None
        return Pair(
            naive=task.naive,
            rewrite=painted.prompt,
            seed=task.image_seed,
            gain=painted.score - naive.score,
            arm="professional",
            truncated=painted.truncated,
        )
