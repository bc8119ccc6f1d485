"""A pull in flight: the answers that it waits for, and its result once all scores are known."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from bigpe.agents.bandit.pool import Pool
from bigpe.agents.campaign.snapshot import ByTuple
from bigpe.agents.diagnostics.alarm import RewriteOutcome
from bigpe.agents.evidence.contrasts import contrasts, same_rewrites, term_tallies
from bigpe.agents.evidence.mixed_model import EvidenceRow, PairedComparison, fit_evidence_table
from bigpe.agents.messages.base import Keys, key_of
from bigpe.agents.messages.core import (
    AnyMessage,
    ArmPulled,
    CritiqueRequested,
    Gradient,
    GradientsComputed,
    ImageScored,
    InstructionsProposed,
    Message,
    PairedGain,
    PromptsRewritten,
    ProposalRequested,
    RenderRequested,
    RewriteRequested,
    RewriteTask,
    Rewritten,
    StepFailed,
)
from bigpe.agents.messages.failure_scope import ImageLost, PromptLost, Purpose
from bigpe.agents.messages.plan import CampaignPlan
from bigpe.agents.messages.search import BatchStudy, SearchState
from bigpe.agents.messages.usage import Usage, of_role
from bigpe.services.core.errors import ModerationError
from bigpe.services.core.values import Instruction, LlmUsage, derive_seed

Picture = tuple[Purpose, str, int]
"""Key of an image in a round: purpose, naive prompt, image seed."""
EVIDENCE_ROWS = 40
CONTRASTS = 8
"""Maximum number of contrasts in a BatchStudy, the widest first."""
EXEMPLAR_PAIRS = 24
"""Maximum number of won comparisons in a ProposalRequested, best first; bounds its size."""


@dataclass
class PendingImages:
    """Images that are requested together, and their results."""

    prompts: ByTuple[Picture, str] = field(default_factory=dict[Picture, str])
    negatives: ByTuple[Picture, str] = field(default_factory=dict[Picture, str])
    """The negative prompts of those that have one."""
    awaited: set[Picture] = field(default_factory=set[Picture])
    lost: ByTuple[Picture, bool] = field(default_factory=dict[Picture, bool])
    """Images without a score; the value says whether they were rendered."""
    refused: set[Picture] = field(default_factory=set[Picture])  # the painter refuses their content

    def ask(
        self,
        cause: Message,
        purpose: Purpose,
        naive: str,
        prompt: str,
        seed: int,
        negative: str = "",
    ) -> RenderRequested:
        """Request one more image."""
        picture = (purpose, naive, seed)
        self.prompts[picture] = prompt
        if negative:
            self.negatives[picture] = negative
        self.awaited.add(picture)
        place = f"{purpose}/{seed}/{naive}"
        return RenderRequested.make(
            cause, place, purpose=purpose, naive=naive, prompt=prompt, seed=seed, negative=negative
        )

    def lose(self, image: ImageLost, error: str = "") -> None:
        """Record an image as missing. `error`: the class of the failure."""
        picture = (image.purpose, image.naive, image.seed)
        self.awaited.discard(picture)
        self.lost[picture] = image.rendered
        if error == ModerationError.__name__:
            self.refused.add(picture)

    def fresh(self, rendered: Keys) -> set[int]:
        """Keys (prompt, seed, negative prompt) of the images that are not in `rendered`."""
        # Not `self._keys() - rendered.keys()`: that iterates over all of `rendered`.
        return {key for key in self._keys() if key not in rendered}

    def _keys(self) -> set[int]:
        return {self._key(picture) for picture in self.prompts}

    def _key(self, picture: Picture) -> int:
        negative = self.negatives.get(picture)
        apart = () if negative is None else (negative,)
        return key_of(self.prompts[picture], picture[2], *apart)

    def settle(self, rendered: Keys) -> Usage:
        """Count renders and scores. Moves the keys of finished images to the end of `rendered`.

        The call cache keeps no failure, so a lost image counts again when it is requested again.
        """
        fresh = self.fresh(rendered)
        lost = {self._key(picture): was for picture, was in self.lost.items()}
        for key in sorted(self._keys() - (fresh & lost.keys())):
            rendered.pop(key, None)
            rendered[key] = None
        not_rendered = {key for key, was_rendered in lost.items() if not was_rendered}
        # A lost image counts even if another round in flight rendered it: the failure was paid for.
        counted = fresh | lost.keys()
        return Usage(renders=len(counted), scores=len(counted - not_rendered))


@dataclass
class Round:
    """The state of a pull."""

    request: RewriteRequested
    history: int
    """Number of comparisons of the run when the pull was chosen."""
    living: tuple[Instruction, ...]
    """Instructions that a proposal must not repeat; waiting ones only for styles that reason."""
    tried: tuple[str, ...]
    search: SearchState | None = None
    """The search when the pull was chosen, for styles that reason about it."""
    parent: str | None = None
    """Id of the parent of an instruction without results, for styles that reason; else None."""
    unchanged: str = ""
    """Id of the instruction if its rewrites equal its parent's; then none is rendered."""
    wants_gradient: bool = True
    """Whether gradients are requested: the pool has room for a new instruction."""
    blocked_by_budget: list[RewriteRequested | RenderRequested] = field(
        default_factory=list[RewriteRequested | RenderRequested]
    )
    """The first requests of the round, until the budget lets it begin."""
    pictures: PendingImages = field(default_factory=PendingImages)
    rewrites: ByTuple[tuple[str, int], Rewritten] | None = None
    failed_rewrites: ByTuple[tuple[str, int], RewriteOutcome] = field(
        default_factory=dict[tuple[str, int], RewriteOutcome]
    )
    """The prompts that the language model failed to rewrite."""
    batch_failure: RewriteOutcome | None = None
    """The failure of the whole batch."""
    scores: ByTuple[Picture, ImageScored] = field(default_factory=dict[Picture, ImageScored])
    pulled: ArmPulled | None = None
    own_pairs: list[PairedComparison] = field(default_factory=list[PairedComparison])
    critique_requested: bool = False
    rows: tuple[EvidenceRow, ...] | None = None
    """The evidence table, computed on first use."""
    replies: dict[str, GradientsComputed | StepFailed] = field(
        default_factory=dict[str, GradientsComputed | StepFailed]
    )
    """The gradients or the failure of each author."""
    last: AnyMessage | None = None
    proposed: InstructionsProposed | None = None
    complete: bool = False
    broken: str | None = None
    """Why no round may begin after this one."""
    llm: Usage = Usage()
    """Language model usage of the round."""

    def prepare_requests(self, plan: CampaignPlan) -> None:
        """Make the first requests: to rewrite, and to render the images to compare with."""
        tasks, ask = self.request.tasks, self.pictures.ask
        self.blocked_by_budget = [self.request]
        self.blocked_by_budget += [
            ask(self.request, "naive", t.naive, t.naive, t.image_seed) for t in tasks
        ]
        self.blocked_by_budget += [
            ask(self.request, "professional", t.naive, professional, t.image_seed)
            for t in tasks
            if (professional := plan.professional.get(t.naive))
        ]

    def at_most(self, plan: CampaignPlan, rendered: Keys, dearest: Usage) -> Usage:
        """Upper bound of the usage without retries. `dearest`: the largest of a round so far."""
        tasks = len(self.request.tasks)
        pictures = len(self.pictures.fresh(rendered)) + tasks
        texts = {"generator": tasks, **plan.texts}
        calls = {role: count * plan.most_calls[role] for role, count in texts.items()}
        bounds = {role: LlmUsage(calls=count) for role, count in calls.items()}
        return Usage(renders=pictures, scores=pictures, llm=bounds).with_llm_of(dearest)

    def take_rewrites(
        self, message: PromptsRewritten, earlier: Sequence[PairedComparison]
    ) -> list[RenderRequested]:
        """Record the rewrites; returns the requests for their images.

        None is rendered if they equal those of the parent: such an instruction can gain nothing.
        A trial before the pull would ask for rewrites of instructions that no policy chooses.

        Args:
            message: The rewrites of the batch.
            earlier: Comparisons from before the choice of the pull, oldest first.
        """
        self.rewrites = {(r.naive, r.image_seed): r for r in message.rewrites}
        made = [r for r in message.rewrites if r.fallback is None]
        texts = {(r.naive, r.image_seed): (r.text, r.negative) for r in made}
        if self.parent is not None and same_rewrites(earlier, self.parent, texts):
            self.unchanged = self.request.instruction.id
            return []
        return [
            self.pictures.ask(message, "rewrite", r.naive, r.text, r.image_seed, r.negative)
            for r in made
        ]

    def lose_rewrites(self, failure: StepFailed) -> None:
        """Record the failure of a prompt, or of the whole batch."""
        outcome = RewriteOutcome(
            naive=failure.naive, reason=failure.error, cause=failure.cause, failed=True
        )
        if isinstance(failure.scope, PromptLost):
            self.failed_rewrites[failure.scope.naive, failure.scope.seed] = outcome
        else:
            self.batch_failure = outcome
            self.rewrites = {}

    def add_llm(self, role: str, used: LlmUsage) -> None:
        """Add language model usage of a role."""
        self.llm += of_role(role, used)

    def join(self) -> ArmPulled:
        """The result of the pull, with the number of missing comparisons."""
        tasks = () if self.unchanged else self.request.tasks
        gains = [gain for task in tasks if (gain := self._gain(task))]
        self.pulled = ArmPulled.make(
            self.request,
            instruction=self.request.instruction.id,
            gains=tuple(gains),
            missing=len(tasks) - len(gains),
            unchanged=bool(self.unchanged),
            wants_gradient=self.wants_gradient,
        )
        self.own_pairs = [self._pair(gain) for gain in gains]
        self.own_pairs += [pair for task in tasks if (pair := self._contrast(task))]
        return self.pulled

    def evidence(self, pairs: Sequence[PairedComparison]) -> tuple[EvidenceRow, ...]:
        """The evidence table of `pairs`, the comparisons that the pull may use."""
        if self.rows is None:
            self.rows = fit_evidence_table(pairs, max_rows=EVIDENCE_ROWS)
        return self.rows

    def critique(self, pairs: Sequence[PairedComparison], plan: CampaignPlan) -> CritiqueRequested:
        """The request for gradients, for a joined pull with gains."""
        assert self.pulled is not None
        own = [pair for pair in self.own_pairs if pair.arm != "professional"]
        professional = [pair for pair in self.own_pairs if pair.arm == "professional"]
        ordered = sorted(own, key=lambda pair: (pair.gain, pair.naive, pair.seed))
        return CritiqueRequested.make(
            self.pulled,
            instruction=self.request.instruction,
            rows=self.evidence(pairs),
            best=ordered[-1],
            worst=ordered[0] if len(ordered) > 1 else None,
            professional=max(professional, key=lambda p: (p.gain, p.naive), default=None),
            seed=derive_seed(plan.seed, "critique", self.request.round),
            improvements=plan.improvements,
            tried=self.tried,
            best_image=self._image(ordered[-1]),
            worst_image=self._image(ordered[0]) if len(ordered) > 1 else "",
            study=self._study(pairs, professional),
        )

    def _study(
        self, pairs: Sequence[PairedComparison], professional: Sequence[PairedComparison]
    ) -> BatchStudy | None:
        if self.search is None or self.pulled is None:
            return None
        tasks = [(task.naive, task.image_seed) for task in self.request.tasks]
        return BatchStudy(
            batch=self.pulled.gains,
            contrasts=contrasts(pairs, tasks, most=CONTRASTS),
            professionals=tuple(professional),
            tallies=term_tallies(
                pairs, [row.term for row in self.evidence(pairs) if row.kind == "term"]
            ),
            search=self.search,
        )

    def proposal(
        self,
        last: GradientsComputed | StepFailed,
        pairs: Sequence[PairedComparison],
        plan: CampaignPlan,
    ) -> ProposalRequested:
        """The request for instructions. `last`: the reply of the last author."""
        winners = heapq.nsmallest(
            EXEMPLAR_PAIRS,
            (pair for pair in pairs if pair.gain > 0 and not pair.fallback),
            key=lambda pair: (-pair.gain, pair.naive, pair.seed),
        )
        return ProposalRequested.make(
            last,
            instruction=self.request.instruction,
            gradients=self.gradients(plan.authors),
            rows=self.evidence(pairs),
            pairs=tuple(winners),
            living=self.living,
            batch=tuple(dict.fromkeys(task.naive for task in self.request.tasks)),
            seed=derive_seed(plan.seed, "proposal", last.round),
            search=self.search,
            gains=self.pulled.gains if self.pulled and self.search else (),
        )

    def offer_to(self, pool: Pool) -> set[str]:
        """Offer the proposed instructions to the pool. The ids of those that it took."""
        if self.proposed is None:
            return set()
        return {
            proposal.instruction.id
            for proposal in self.proposed.proposals
            if pool.propose(
                proposal.instruction,
                parent=self.request.instruction.id,
                round=self.request.round,
                gradient_mid=self.proposed.parent,
                author=proposal.author,
                improvement=proposal.improvement,
                operator=proposal.operator,
                change=proposal.change,
            )
        }

    def _image(self, pair: PairedComparison) -> str:
        """The digest of the image of the rewrite."""
        gains = self.pulled.gains if self.pulled else ()
        same = (g.image for g in gains if (g.naive, g.seed) == (pair.naive, pair.seed))
        return next(same, "")

    def gradients(self, authors: Sequence[str]) -> tuple[Gradient, ...]:
        """The gradients of all authors. The first author rotates with the round.

        The pool takes the first of two equal proposals, and a full pool takes one per round.
        """
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
            fault=rewritten.fault,
            naive_image=naive.image,
            image=rewrite.image,
            truncated=rewrite.truncated if rewritten.fallback is None else 0,
            negative=rewritten.negative if rewritten.fallback is None else "",
        )

    def _pair(self, gain: PairedGain) -> PairedComparison:
        return PairedComparison(
            naive=gain.naive,
            rewrite=gain.rewrite,
            seed=gain.seed,
            gain=gain.gain,
            arm=self.request.instruction.id,
            fallback=gain.fallback is not None,
            truncated=gain.truncated,
            image=gain.image if self.search else "",
            negative=gain.negative,
        )

    def _contrast(self, task: RewriteTask) -> PairedComparison | None:
        """The professional prompt of the subject against the naive prompt."""
        naive = self.scores.get(("naive", task.naive, task.image_seed))
        rendered = self.scores.get(("professional", task.naive, task.image_seed))
        if naive is None or rendered is None:
            return None
        return PairedComparison(
            naive=task.naive,
            rewrite=rendered.prompt,
            seed=task.image_seed,
            gain=rendered.score - naive.score,
            arm="professional",
            truncated=rendered.truncated,
        )
