"""The optimisation loop as a pure fold: a message goes in, the messages that it causes come out.

No clock, no randomness but hashes of the run's seed, no input or output: replaying the messages
that the coordinator handled rebuilds its state exactly, and a run is a function of its plan and
of what the models answered.

Pulls overlap, yet deterministically: pull t is chosen when exactly the pulls up to t - K have been
applied (K = plan.concurrency), with those after them counted as pending, however early any of them
ended. Everything that a round looks back on is what stood at that moment, plus its own results.

A limit withholds a pull, it does not unchoose it: the pull is chosen when it would have been chosen
without the limit, and begins when the limit allows it. So a run whose limits are raised after they
stopped it goes on as if they had never been lower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from pydantic import TypeAdapter

from bigpe.agents.campaign_plan import BUILT_IN_AUTHOR
from bigpe.agents.campaign_state import CampaignState
from bigpe.agents.draws import image_seed, pilot_prompts
from bigpe.agents.evidence import Pair
from bigpe.agents.messages import (
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
from bigpe.agents.pilot import picture_of
from bigpe.agents.plugin_state import Answer, Refused, speaker_of
from bigpe.agents.policies import selection_rng
from bigpe.agents.pool import Pool
from bigpe.agents.role_messages import (
    GateDecided,
    ReviewRequested,
    RoleReported,
    RolesChanged,
)
from bigpe.agents.rounds import Picture, Round
from bigpe.services.values import LlmUsage

CHANGEABLE = ("rounds", "concurrency", "patience", "limits", "prices")
"""What of a plan may change after it began: nothing that earlier results depend on."""


@dataclass(repr=False)
class Campaign(CampaignState):
    """The coordinator's decisions; see the module's text."""

    @staticmethod
    def restore(snapshot: str | bytes) -> Campaign:
        """The campaign that `snapshot` told; pydantic.ValidationError for anything else."""
        return _SNAPSHOT.validate_json(snapshot)

    def snapshot(self) -> str:
        """All of the state as JSON, for the same version of this code (see `fold_version`)."""
        return _SNAPSHOT.dump_json(self).decode("utf-8")

    def replay(self, message: Message) -> None:
        """Take `message` in again: as `apply`, but what follows was said already.

        What is only said and never decided by, the evidence, is left out: it is most of the work.
        """
        self._replaying = True
        try:
            self.apply(message)
        finally:
            self._replaying = False

    def apply(self, message: Message) -> list[Message]:
        """Take `message` in; returns what the coordinator says because of it."""
        match message:
            case RunStarted():
                return self._begin(message)
            case PlanChanged():
                return self._change(message)
            case StopRequested():
                self._asked_to_stop = message.reason
                return self._choose() if self.started else []
            case PromptsRewritten() | GradientsComputed() | InstructionsProposed():
                return self._take_answer(message)
            case ImageScored():
                return self._take_score(message)
            case GateDecided():
                self._count_llm(message.round, message.role, message.usage)
                return self._follow(self._gates.decide(message))
            case RoleReported():
                return self._take_report(message)
            case RolesChanged():
                self.attendance.set(message.observers, self._applied + 1)
                self.attendance.changes += 1
                return self._settle_ready()
            case StepFailed():
                return self._take_failure(message)
            case _:
                raise TypeError(f"the coordinator has no use for a {message.kind}")

    # -- the beginning ------------------------------------------------------------------------

    def _begin(self, start: RunStarted) -> list[Message]:
        self._start = start
        self._plan = plan = start.plan
        self.attendance.set(plan.observers, 1)
        self._pool = Pool(
            [seed.instruction for seed in plan.instructions],
            size=plan.pool_size,
            paper=plan.policy.get("name") == "paper",
        )
        self._pilot.withheld += [
            self._pilot.pictures.ask(start, "pilot", naive, naive, image_seed(plan, naive, k))
            for naive in pilot_prompts(plan)
            for k in range(2)
        ]
        return self._begin_pilot()

    def _begin_pilot(self) -> list[Message]:
        pilot = self._pilot
        reason = self._asked_to_stop or self._account.pilot_refusal(self.plan, pilot.pictures)
        if reason is not None:
            return [self._stop(reason)]
        said, pilot.withheld = pilot.withheld, []
        return [*said]

    def _pilot_step(self) -> list[Message]:
        if not self._pilot.over:
            return []
        self._account.settle_pilot(self._pilot.pictures)
        scale = self._pilot.scale()
        if scale is None:
            self._broken = (
                f"no picture of the pilot could be scored: {self._outlook.last_failure}; "
                "mend that, and start a run of another name"
            )
        else:
            self._scale = scale
        return self._choose()

    # -- choosing a pull ----------------------------------------------------------------------

    def _choose(self) -> list[Message]:
        if not self._pilot.over or self.stopped is not None:
            return []
        exhausted = self._broken or self._outlook.exhausted(self.plan.patience)
        while exhausted is None and self._chosen - self._applied < self.plan.concurrency:
            self._choose_round(self._chosen + 1)
        forbidden = self._broken or self._asked_to_stop
        said, refused = self._account.let_begin(self.plan, self._rounds.values(), forbidden)
        reason = refused or exhausted
        if reason is not None and all(current.withheld for current in self._rounds.values()):
            said.append(self._stop(reason))
        return said

    def _choose_round(self, index: int) -> None:
        plan = self.plan
        arm = self._policy.select(self.pool.arms(), self.sigma, selection_rng(plan.seed, index))
        instruction = self.pool.instruction(arm)
        tasks = self._draws.tasks(plan, instruction)
        request = RewriteRequested.make(
            self._started, round=index, instruction=instruction, tasks=tuple(tasks)
        )
        self.pool.start_pull(arm, index, len(tasks))
        current = self._rounds[index] = Round(
            request,
            history=self._comparisons.total,
            living=tuple(self.pool.living()),
            tried=self.pool.memory(),
            teaches=self.pool.has_room(index),
        )
        current.withhold(plan)
        self._chosen = index

    # -- results come in ----------------------------------------------------------------------

    def _take_answer(self, message: Answer) -> list[Message]:
        self._count_llm(message.round, speaker_of(message), message.usage)
        return self._follow(self._gates.ask(message, self.plan.gates))

    def _count_llm(self, index: int, role: str, usage: LlmUsage) -> None:
        if current := self._rounds.get(index):
            current.ask(role, usage)
        else:
            self._account.add_late(role, usage)

    def _follow(self, message: Answer | ReviewRequested) -> list[Message]:
        """Ask the next gate, or take in what has passed all of them."""
        match message:
            case ReviewRequested():
                return [message]
            case PromptsRewritten():
                return self._take_rewrites(message)
            case GradientsComputed():
                return self._take_gradients(message.author, message)
            case InstructionsProposed():
                self._rounds[message.round].proposed = message
                return self._complete(self._rounds[message.round], message)

    def _take_rewrites(self, message: PromptsRewritten) -> list[Message]:
        current = self._rounds[message.round]
        current.rewrites = {(r.naive, r.image_seed): r for r in message.rewrites}
        paintings = [
            current.pictures.ask(message, "rewrite", r.naive, r.text, r.image_seed)
            for r in message.rewrites
            if r.fallback is None
        ]
        return [*paintings, *self._join(message.round)]

    def _take_score(self, message: ImageScored) -> list[Message]:
        if message.round == 0:
            self._pilot.take(message)
            return self._pilot_step()
        current = self._rounds[message.round]
        current.pictures.awaited.discard(picture_of(message))
        current.scores[picture_of(message)] = message
        return self._join(message.round)

    def _take_failure(self, message: StepFailed) -> list[Message]:
        if message.actor in self.attendance.ever:
            return []  # what observers use is told by their reports
        self._count_llm(message.round, message.actor, message.usage)
        if message.will_retry:
            return []
        self._outlook.last_failure = message.cause
        picture: Picture | None = None
        if message.purpose is not None:
            picture = (message.purpose, message.naive, message.seed)
        if message.round == 0:
            if picture is not None:
                self._pilot.pictures.lose(picture, message.step_kind)
            return self._pilot_step() if picture else []
        current = self._rounds[message.round]
        if picture is not None:
            current.pictures.lose(picture, message.step_kind)
            return self._join(message.round)
        if message.step_kind == "RewriteRequested":
            if not message.naive:  # the whole batch is lost, not one prompt of it
                current.rewrites = {}
            return self._join(message.round)
        if message.step_kind == "CritiqueRequested":
            known = message.actor in self.plan.authors
            return self._take_gradients(message.actor if known else BUILT_IN_AUTHOR, message)
        if message.step_kind == "ReviewRequested":
            return self._take_gate_failure(current, message)
        return self._complete(current, message)

    def _take_gate_failure(self, current: Round, message: StepFailed) -> list[Message]:
        """Go on unjudged; or, of a required gate, stop and lose what it should have judged."""
        outcome = self._gates.fail(message.step)
        if not isinstance(outcome, Refused):
            return self._follow(outcome)
        # Heard when the round is settled, so that it never matters which failure came first.
        current.broken = (
            f"the required gate {outcome.gate!r} failed: {message.cause}; mend it, or set "
            f"[roles.{outcome.gate}] required = false, and start a run of another name"
        )
        match outcome.answer:
            case PromptsRewritten():
                current.rewrites = {}
                return self._join(message.round)
            case GradientsComputed(author=author):
                return self._take_gradients(author, message)
            case InstructionsProposed():
                return self._complete(current, message)

    def _take_report(self, message: RoleReported) -> list[Message]:
        if not self.attendance.expects(message.role, message.round):
            # It joined in the middle and reads what went before.
            self._account.add_late(message.role, message.usage)
            return []
        self.attendance.report(message.role, message.round, message.usage)
        return self._settle_ready()

    def _join(self, index: int) -> list[Message]:
        """Once every picture of the round is scored or lost: its result, and what it teaches."""
        current = self._rounds[index]
        if current.rewrites is None or current.pictures.awaited or current.pulled is not None:
            return []
        pulled = current.join()
        if not pulled.gains or not current.teaches:
            return [pulled, *self._complete(current, pulled)]
        current.asked = True
        if self._replaying:
            return [pulled]
        return [pulled, current.critique(self._known(current), self.plan)]

    def _known(self, current: Round) -> list[Pair]:
        """The newest pairs that stood when the pull was chosen, and the pull's own."""
        return [*self._comparisons.known(current.history), *current.own_pairs]

    # -- from gradients to the pool -----------------------------------------------------------

    def _take_gradients(
        self, author: str, message: GradientsComputed | StepFailed
    ) -> list[Message]:
        """Once every author has written or failed: turn all of it into instructions."""
        current = self._rounds[message.round]
        current.replies[author] = message
        authors = self.plan.authors
        if any(author not in current.replies for author in authors):
            return []
        last = current.replies[authors[-1]]
        if not current.asked or not current.gradients(authors):
            return self._complete(current, last)
        if self._replaying:
            return []
        return [current.proposal(last, self._known(current), self.plan)]

    def _complete(self, current: Round, last: Message) -> list[Message]:
        """The round has said its last; apply it as soon as all earlier ones are applied."""
        current.complete = True
        current.last = cast(AnyMessage, last)
        return self._settle_ready()

    def _settle_ready(self) -> list[Message]:
        """Settle the rounds that are complete, in order, once observers reported the one before."""
        said: list[Message] = []
        while (
            (following := self._rounds.get(self._applied + 1))
            and following.complete
            and self.attendance.complete(self._applied)
        ):
            said += self._settle(following)
            said += self._choose()
        return said

    def _settle(self, current: Round) -> list[Message]:
        assert current.pulled is not None or current.last is not None
        index = current.request.round
        gains = [(gain.naive, gain.gain) for gain in current.pulled.gains] if current.pulled else []
        self.pool.finish_pull(current.request.instruction.id, index, gains)
        self._scale = self._scale.with_squares(self.pool.noise())
        for proposal in current.proposed.proposals if current.proposed else ():
            self.pool.propose(
                proposal.instruction,
                parent=current.request.instruction.id,
                round=index,
                gradient_mid=current.proposed.parent if current.proposed else "",
                author=proposal.author,
                improvement=proposal.improvement,
            )
        delta = self.pool.settle(self._policy, self.sigma)
        for role, used in self.attendance.count(index - 1).items():
            self._count_llm(index, role, used)
        self._account.settle(current)
        best = self.pool.best()
        self._outlook.settle(bool(gains), best.lo)
        self._broken = self._broken or current.broken
        self._applied = index
        del self._rounds[index]
        in_flight = (other.history for other in self._rounds.values())
        self._comparisons.add(current.own_pairs, min(in_flight, default=None))
        self._draws.forget({id for id, _ in delta.retired})
        return [
            PoolChanged.make(
                current.last or current.request,
                admitted=tuple(self.pool.instruction(arm) for arm in delta.admitted),
                retired=tuple(RetiredArm(instruction=i, reason=r) for i, r in delta.retired),
                waiting=delta.waiting,
                sigma=self.sigma,
                best=best.instruction.id,
                used=self.used,
                stale=self._outlook.stale_rounds,
            )
        ]

    # -- the end ------------------------------------------------------------------------------

    def _stop(self, reason: str) -> RunStopped:
        best = self.pool.best().instruction.id
        place = str(self.changes) if self.changes else ""
        self.stopped = RunStopped.make(
            self._started, place, round=self._applied, reason=reason, best=best
        )
        return self.stopped

    def _change(self, message: PlanChanged) -> list[Message]:
        """Go on by the changed plan, also after a stop."""
        changed = {name: getattr(message, name) for name in CHANGEABLE}
        self._plan = self.plan.model_copy(update=changed)
        self.changes += 1
        self._asked_to_stop = self.stopped = None
        return self._begin_pilot() if self._pilot.withheld else self._choose()


_SNAPSHOT = TypeAdapter(Campaign)
