"""The optimisation loop as a pure fold: each message leads to the messages that it causes.

The fold has no clock, no input or output, and no randomness except hashes of the seed. Replaying
the messages that the coordinator handled rebuilds its state exactly. A run is a function of its
plan and of the answers of the models.

Pulls overlap deterministically. Pull t is chosen when exactly the pulls up to t - K are applied
(K = plan.concurrency); later pulls count as pending, even if they have ended. A round uses the
comparisons that existed when its pull was chosen, and its own.

A limit delays a pull and does not change the choice. The pull is chosen as without the limit, and
begins when the limit allows it. So a run that a limit stopped continues after a raise of the limit
as if it had always been higher.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from pydantic import TypeAdapter

from bigpe.agents.bandit.policies import selection_rng
from bigpe.agents.bandit.pool import Pool, admission_of
from bigpe.agents.campaign.pilot import picture_of
from bigpe.agents.campaign.plugin_state import Answer, Refused, speaker_of
from bigpe.agents.campaign.prompt_schedule import image_seed, pilot_prompts
from bigpe.agents.campaign.round import Round
from bigpe.agents.campaign.state import CampaignState
from bigpe.agents.campaign.stopping import same_picture
from bigpe.agents.evidence.mixed_model import PairedComparison
from bigpe.agents.messages.core import (
    AnyMessage,
    GradientsComputed,
    ImageScored,
    InstructionsProposed,
    Message,
    PlanChanged,
    PoolChanged,
    PromptsRewritten,
    RetiredArm,
    RewriteRequested,
    RunStarted,
    RunStopped,
    StepFailed,
    StopRequested,
)
from bigpe.agents.messages.failure_scope import (
    BatchLost,
    GradientsLost,
    ImageLost,
    PromptLost,
    ReviewLost,
    StepLost,
)
from bigpe.agents.messages.plan import BUILT_IN_AUTHOR
from bigpe.agents.messages.plugin import GateDecided, ReviewRequested, RoleReported, RolesChanged
from bigpe.services.core.values import LlmUsage

CHANGEABLE = ("rounds", "concurrency", "patience", "limits", "prices")
"""Settings that may change after the start: no earlier result depends on them."""


@dataclass(repr=False)
class Campaign(CampaignState):
    """The transitions of the state: `apply` takes a message and returns its consequences."""

    @staticmethod
    def restore(snapshot: str | bytes) -> Campaign:
        """The campaign of a snapshot. Raises pydantic.ValidationError if it is not valid."""
        return _SNAPSHOT.validate_json(snapshot)

    def snapshot(self) -> str:
        """The state as JSON, readable by the same version of this code (see `fold_version`)."""
        return _SNAPSHOT.dump_json(self).decode("utf-8")

    def replay(self, message: Message) -> None:
        """Apply a stored message again. Its consequences are stored already.

        Requests with evidence are not made: no decision depends on them, and they are most of the
        work.
        """
        self.replaying = True
        try:
            self.apply(message)
        finally:
            self.replaying = False

    def apply(self, message: Message) -> list[Message]:
        """Apply `message` and return the messages that it causes."""
        match message:
            case RunStarted():
                return self._begin(message)
            case PlanChanged():
                return self._change(message)
            case StopRequested():
                self.stop_request = message.reason
                return self._choose() if self.started else []
            case PromptsRewritten() | GradientsComputed() | InstructionsProposed():
                return self._take_answer(message)
            case ImageScored():
                return self._take_score(message)
            case GateDecided():
                self._count_llm(message.round, message.role, message.usage)
                return self._follow(self.gates.decide(message))
            case RoleReported():
                return self._take_report(message)
            case RolesChanged():
                self.observer_reports.set(message.observers, self.applied + 1)
                self.observer_reports.changes += 1
                return self._settle_ready()
            case StepFailed():
                return self._take_failure(message)
            case _:
                raise TypeError(f"the coordinator does not handle {message.kind}")

    # -- the beginning ------------------------------------------------------------------------

    def _begin(self, start: RunStarted) -> list[Message]:
        self.start_message = start
        self.current_plan = plan = start.plan
        self.observer_reports.set(plan.observers, 1)
        self.current_pool = Pool(
            [seed.instruction for seed in plan.instructions],
            size=plan.pool_size,
            admission=admission_of(plan.policy.get("name")),
        )
        self.pilot.blocked_by_budget += [
            self.pilot.pictures.ask(start, "pilot", naive, naive, image_seed(plan, naive, k))
            for naive in pilot_prompts(plan)
            for k in range(2)
        ]
        return self._begin_pilot()

    def _begin_pilot(self) -> list[Message]:
        pilot = self.pilot
        reason = self.stop_request or self.budget.pilot_refusal(self.plan, pilot.pictures)
        if reason is not None:
            return [self._stop(reason)]
        requests, pilot.blocked_by_budget = pilot.blocked_by_budget, []
        return [*requests]

    def _pilot_step(self) -> list[Message]:
        if not self.pilot.over:
            return []
        self.budget.settle_pilot(self.pilot.pictures)
        scale = self.pilot.scale()
        if scale is None:
            self.broken = (
                f"no image of the pilot could be scored: {self.stopping.last_failure}; "
                "fix the cause, and start a run with another name"
            )
        elif self.pilot.has_one_picture:
            self.broken = same_picture("all prompts of the pilot gave one and the same picture")
        else:
            self.scale = scale
        return self._choose()

    # -- choosing a pull ----------------------------------------------------------------------

    def _choose(self) -> list[Message]:
        if not self.pilot.over or self.stopped is not None:
            return []
        exhausted = self.broken or self.stopping.exhausted(self.plan.patience)
        while exhausted is None and self.chosen - self.applied < self.plan.concurrency:
            self._choose_round(self.chosen + 1)
        forbidden = self.broken or self.stop_request
        opening, refused = self.budget.let_begin(self.plan, self.rounds.values(), forbidden)
        reason = refused or exhausted
        if reason is not None and all(
            current.blocked_by_budget for current in self.rounds.values()
        ):
            opening.append(self._stop(reason))
        return opening

    def _choose_round(self, index: int) -> None:
        plan = self.plan
        arm = self.policy.select(self.pool.arms(), self.sigma, selection_rng(plan.seed, index))
        instruction = self.pool.instruction(arm)
        tasks = self.schedule.tasks(plan, instruction)
        request = RewriteRequested.make(
            self.start, round=index, instruction=instruction, tasks=tuple(tasks)
        )
        wants_gradient = self.wants_gradient(index)
        search = self.search_of(index, instruction, wants_gradient)
        self.pool.start_pull(arm, index, len(tasks))
        current = self.rounds[index] = Round(
            request,
            history=self.comparisons.total,
            living=(*self.pool.living(), *(self.pool.waiting() if search else ())),
            tried=self.pool.memory(),
            search=search,
            parent=self.pool.untried_parent(arm) if search else None,
            wants_gradient=wants_gradient,
        )
        current.prepare_requests(plan)
        self.chosen = index

    # -- results ------------------------------------------------------------------------------

    def _take_answer(self, message: Answer) -> list[Message]:
        self._count_llm(message.round, speaker_of(message), message.usage)
        return self._follow(self.gates.ask(message, self.plan.gates))

    def _count_llm(self, index: int, role: str, usage: LlmUsage) -> None:
        if current := self.rounds.get(index):
            current.add_llm(role, usage)
        else:
            self.budget.add_late(role, usage)

    def _follow(self, message: Answer | ReviewRequested) -> list[Message]:
        """Emit the request to the next gate, or apply an answer that has passed all gates."""
        match message:
            case ReviewRequested():
                return [message]
            case PromptsRewritten():
                return self._take_rewrites(message)
            case GradientsComputed():
                return self._take_gradients(message.author, message)
            case InstructionsProposed():
                self.rounds[message.round].proposed = message
                return self._complete(self.rounds[message.round], message)

    def _take_rewrites(self, message: PromptsRewritten) -> list[Message]:
        current = self.rounds[message.round]
        earlier = self.comparisons.first(current.history) if current.parent else ()
        return [*current.take_rewrites(message, earlier), *self._join(message.round)]

    def _take_score(self, message: ImageScored) -> list[Message]:
        if message.round == 0:
            self.pilot.take(message)
            return self._pilot_step()
        current = self.rounds[message.round]
        current.pictures.awaited.discard(picture_of(message))
        current.scores[picture_of(message)] = message
        return self._join(message.round)

    def _take_failure(self, message: StepFailed) -> list[Message]:
        if message.actor in self.observer_reports.ever:
            return []  # observers report their usage themselves
        self._count_llm(message.round, message.actor, message.usage)
        if message.will_retry:
            return []
        self.stopping.last_failure = message.cause
        if message.round == 0:
            if not isinstance(message.scope, ImageLost):
                return []
            self.pilot.pictures.lose(message.scope)
            return self._pilot_step()
        current = self.rounds[message.round]
        match message.scope:
            case ImageLost() as image:
                current.pictures.lose(image, message.error)
                return self._join(message.round)
            case PromptLost() | BatchLost():
                current.lose_rewrites(message)
                return self._join(message.round)
            case GradientsLost():
                author = message.actor if message.actor in self.plan.authors else BUILT_IN_AUTHOR
                return self._take_gradients(author, message)
            case ReviewLost():
                return self._take_gate_failure(current, message)
            case StepLost():
                return self._complete(current, message)

    def _take_gate_failure(self, current: Round, message: StepFailed) -> list[Message]:
        """Continue unjudged; or, for a required gate, stop the run and drop the answer."""
        outcome = self.gates.fail(message.step)
        if not isinstance(outcome, Refused):
            return self._follow(outcome)
        # Takes effect when the round is settled, so the order of failures does not matter.
        current.broken = outcome.reason(message.cause)
        match outcome.answer:
            case PromptsRewritten():
                current.rewrites = {}
                return self._join(message.round)
            case GradientsComputed(author=author):
                return self._take_gradients(author, message)
            case InstructionsProposed():
                return self._complete(current, message)

    def _take_report(self, message: RoleReported) -> list[Message]:
        if not self.observer_reports.expects(message.role, message.round):
            # The observer joined later and reads the messages of earlier rounds.
            self.budget.add_late(message.role, message.usage)
            return []
        self.observer_reports.report(message.role, message.round, message.usage)
        return self._settle_ready()

    def _join(self, index: int) -> list[Message]:
        """The result of the round and the request for gradients, once no image is missing."""
        current = self.rounds[index]
        if current.rewrites is None or current.pictures.awaited or current.pulled is not None:
            return []
        pulled = current.join()
        if not pulled.gains or not current.wants_gradient:
            return [pulled, *self._complete(current, pulled)]
        current.critique_requested = True
        if self.replaying:
            return [pulled]
        return [pulled, current.critique(self._comparisons_for(current), self.plan)]

    def _comparisons_for(self, current: Round) -> list[PairedComparison]:
        """The newest comparisons from before the choice of the pull, and those of the pull."""
        return [*self.comparisons.first(current.history), *current.own_pairs]

    # -- from gradients to the pool -----------------------------------------------------------

    def _take_gradients(
        self, author: str, message: GradientsComputed | StepFailed
    ) -> list[Message]:
        """The request for instructions, once every author has written or failed."""
        current = self.rounds[message.round]
        current.replies[author] = message
        authors = self.plan.authors
        if any(author not in current.replies for author in authors):
            return []
        last = current.replies[authors[-1]]
        if not current.critique_requested or not current.gradients(authors):
            return self._complete(current, last)
        if self.replaying:
            return []
        return [current.proposal(last, self._comparisons_for(current), self.plan)]

    def _complete(self, current: Round, last: Message) -> list[Message]:
        """Mark the round as complete; settle it once all earlier rounds are settled."""
        current.complete = True
        current.last = cast(AnyMessage, last)
        return self._settle_ready()

    def _settle_ready(self) -> list[Message]:
        """Settle complete rounds in order. Each waits for the reports on the previous round."""
        emitted: list[Message] = []
        while (
            (following := self.rounds.get(self.applied + 1))
            and following.complete
            and self.observer_reports.complete(self.applied)
        ):
            emitted += self._settle(following)
            emitted += self._choose()
        return emitted

    def _settle(self, current: Round) -> list[Message]:
        assert current.pulled is not None or current.last is not None
        index = current.request.round
        gains = [(gain.naive, gain.gain) for gain in current.pulled.gains] if current.pulled else []
        self.pool.finish_pull(current.request.instruction.id, index, gains)
        self.scale = self.scale.with_squares(self.pool.noise())
        self.operators.take(index, current.search, current.proposed, current.offer_to(self.pool))
        delta = self.pool.settle(self.policy, self.sigma, unchanged=current.unchanged)
        for role, used in self.observer_reports.count(index - 1).items():
            self._count_llm(index, role, used)
        self.budget.settle(current)
        best = self.pool.best()
        self.stopping.settle(bool(gains or current.unchanged), best.lo)
        alarmed = self.answers.settle(current)
        self.prompt_effect.add(current.pulled.gains if current.pulled else ())
        self.broken = self.broken or current.broken or alarmed or self.prompt_effect.fault
        self.applied = index
        del self.rounds[index]
        in_flight = (other.history for other in self.rounds.values())
        self.comparisons.add(current.own_pairs, min(in_flight, default=None))
        self.operators.settle(self.plan, self.pool, self.pairs, unchanged=current.unchanged)
        self.schedule.forget({id for id, _ in delta.retired})
        return [
            PoolChanged.make(
                current.last or current.request,
                admitted=tuple(self.pool.instruction(arm) for arm in delta.admitted),
                retired=tuple(RetiredArm(instruction=i, reason=r) for i, r in delta.retired),
                waiting=delta.waiting,
                sigma=self.sigma,
                best=best.instruction.id,
                used=self.used,
                stale=self.stopping.stale_rounds,
                answers=self.answers.counts,
                operators=dict(self.operators.choice.tallies),
            )
        ]

    # -- the end ------------------------------------------------------------------------------

    def _stop(self, reason: str) -> RunStopped:
        place, end = str(self.changes or ""), {"best": self.pool.best().instruction.id}
        self.stopped = RunStopped.make(self.start, place, round=self.applied, reason=reason, **end)
        return self.stopped

    def _change(self, message: PlanChanged) -> list[Message]:
        """Continue with the changed plan, also after a stop."""
        changed = {name: getattr(message, name) for name in CHANGEABLE}
        self.current_plan = self.plan.model_copy(update=changed)
        self.changes += 1
        self.stop_request = self.stopped = None
        return self._begin_pilot() if self.pilot.blocked_by_budget else self._choose()


_SNAPSHOT = TypeAdapter(Campaign)
