"""A run, from opening to its end.

    async with Session.open("my-run", config) as session:
        async for message in session.run():
            ...
        print(session.pool.best())

Neither leaving the block nor `pause` loses anything: open the session again to continue.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from bigpe.agents.actors.base import UnhandledMessageError
from bigpe.agents.actors.coordinator import Coordinator
from bigpe.agents.actors.journal import Journal
from bigpe.agents.bandit.pool import Pool
from bigpe.agents.messages.core import Message, RunStopped, StopRequested, routes, start_run
from bigpe.agents.messages.plan import CampaignPlan
from bigpe.agents.plugins.config import FoundRole, find_roles
from bigpe.runtime.project.config import BigpeConfig, config_given_to
from bigpe.runtime.project.lock import run_lock
from bigpe.runtime.project.paths import Project
from bigpe.runtime.project.professional import library_for, store_professional
from bigpe.runtime.run.clock import RunClock
from bigpe.runtime.run.plan import make_plan, naive_set
from bigpe.runtime.run.probe.first_question import BeforeStart
from bigpe.runtime.run.resume.begin_again import begin_again
from bigpe.runtime.run.resume.fork import NewRun, require_forkable, with_best
from bigpe.runtime.run.resume.model_identity import (
    Records,
    record_statement,
    records_now,
    require_same_models,
)
from bigpe.runtime.run.resume.setting_changes import Change
from bigpe.runtime.run.resume.settle import RunResumer
from bigpe.runtime.run.resume.stored_run import find_stored_run, load_stored_run
from bigpe.runtime.run.services import Services, open_services
from bigpe.runtime.run.state import RunState
from bigpe.runtime.run.style import checked_seeds
from bigpe.runtime.run.wiring.actors import core_actors, kinds_for, quiet_runtime
from bigpe.runtime.run.wiring.plugins import PluginActors, names_of, with_plugin_actors
from bigpe.runtime.transcript.replay import replayed_campaign
from bigpe.services.core.errors import BigpeError
from bigpe.services.core.outages.watch import OutageWatch
from bigpe.services.core.retrying import RetryRule
from bigpe.services.core.version import VERSION
from bigpe.services.prompt_data.library import SearchedPrompts
from bigpe.services.render.service import Renderer
from bigpe.services.score.service import Scorer
from bigpe.services.store.answer_memory import AnswerMemory
from bigpe.services.store.call_cache import CallCache
from bigpe.services.store.database import Store
from bigpe.services.store.held_out import TrainOnlyCallCache

log = structlog.get_logger("bigpe.session")

STOP_WAIT_S = 30.0


class Session:
    """One run of a project, open for writing in this process.

    Make it with `Session.open`. It lasts as long as the `async with` block; the run itself is
    stored and can be opened again.
    """

    def __init__(
        self,
        name: str,
        config: BigpeConfig,
        project: Project,
        store: Store,
        services: Services,
        scores: TrainOnlyCallCache,
        resumer: RunResumer | None = None,
    ) -> None:
        """`resumer`: only for a run that is stored already."""
        self.name = name
        self.config = config
        self.project = project
        self.services = services
        self._store = store
        self._scores = scores
        self._resumer = resumer
        self._models: Records = resumer.stored.models if resumer else {}
        self._journal = Journal(store, name)
        self._coordinator: Coordinator | None = None
        self._plugin_actors = PluginActors()
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.begins_again = False  # see `begin_again`
        self._clock: RunClock | None = None
        self._state = RunState(store, name, services.watch)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        name: str,
        config: BigpeConfig | Mapping[str, Any] | None = None,
        *,
        project: Path | str = ".",
        llms: Mapping[str, Any] | None = None,
        renderer: Renderer | None = None,
        scorer: Scorer | None = None,
        retry: RetryRule | None = None,
        watch: OutageWatch | None = None,
        parent: str = "",
        from_best: bool = False,
        before_start: BeforeStart | None = None,
        fresh: bool = False,
    ) -> AsyncGenerator[Session]:
        """Open a run of the folder `project` for writing: a new run, or the stored run `name`.

        Args:
            name: The name of the run in its project.
            config: The configuration. For a stored run it may change what `AfterStart` allows; a
                run that a raised limit has stopped goes on. None: as stored, else the defaults.
            project: The project's folder.
            llms: Language model clients by role, "default" for the others. They replace what
                `config` names; so do `renderer` and `scorer`.
            renderer: See `Renderer`.
            scorer: See `Scorer`.
            retry: How often and how soon a failed step is retried.
            watch: How long services are waited for; it replaces `[run] outage_minutes`.
            parent: The run that a new run is a fork of; "" for no fork.
            from_best: Whether the parent's best instruction is one of the fork's seed instructions.
            before_start: Called before a new run is stored; its error leaves no run behind.
            fresh: Whether the run forgets earlier answers of language models.

        Yields:
            The session. Its actors are wired; `run` starts them.

        Raises:
            RunLockedError: Another process writes the run.
            ConfigError: `config` is wrong, or changes what the results of the run depend on.
        """
        place = Project(Path(project))
        place.check_run_name(name)
        async with AsyncExitStack() as stack:
            stack.enter_context(run_lock(place.lock(name), name))
            stored = await load_stored_run(place, name) if config is None else None
            wanted = config_given_to(config, place.folder) if stored is None else stored.config
            # Sealed: a run cannot read any result of held-out prompts.
            store = await stack.enter_async_context(
                Store(place.database, durability=wanted.run.durability, sealed=True)
            )
            if parent:
                await require_forkable(store, parent, name)
            stored = stored or await find_stored_run(store, name)
            anew = config is not None and await begin_again(store, stored, wanted)
            resumer = RunResumer.of(stored, wanted) if stored and not anew else None
            stack.push_async_callback((effects := CallCache(store)).close)
            scores = TrainOnlyCallCache(effects)
            opened = open_services(
                wanted, place, effects, scores,
                run=name, memory=await AnswerMemory.of_run(store, name, fresh=fresh),
                llms=llms, renderer=renderer, scorer=scorer, watch=watch,
            )  # fmt: skip
            services = await stack.enter_async_context(opened)
            session = cls(name, wanted, place, store, services, scores, resumer)
            session.begins_again = anew
            await session._prepare(retry or RetryRule(), NewRun(parent, from_best, before_start))
            stack.push_async_callback(session._close)
            yield session

    @property
    def coordinator(self) -> Coordinator:
        """The coordinator actor, with the campaign's state."""
        assert self._coordinator is not None, "open the session with `Session.open`"
        return self._coordinator

    @property
    def pool(self) -> Pool:
        """The pool of instructions in its current state; `pool.best()` is the best arm."""
        return self.coordinator.campaign.pool

    @property
    def changes(self) -> tuple[Change, ...]:
        """Differences between `config` and the stored configuration of the run."""
        return self._resumer.changes if self._resumer else ()

    @property
    def started(self) -> bool:
        """Whether the coordinator has handled the run's first message."""
        return self.coordinator.campaign.started

    @property
    def complete(self) -> bool:
        """Whether the run has reached its end."""
        return self.coordinator.campaign.stopped is not None

    @property
    def seconds(self) -> float:
        """Working time of the run over all its processes, seconds; 0 before `run`."""
        return self._clock.seconds if self._clock else 0.0

    async def run(self) -> AsyncIterator[Message]:
        """Run until the end or a pause.

        Yields:
            Each message, after it is stored.

        Raises:
            ConfigError: Renderer or scorer differ from those that the run began with.
            OutageError: A service has not answered for `[run] outage_minutes`. The run is paused.
            QuotaError: The account of a service has no quota left. The run is paused.
            BigpeError: An error stopped the run, for example a full disk. Stored messages stay.
        """
        if self.complete:
            await self._plugin_actors.catch_up()
            while not self._events.empty():
                yield self._events.get_nowait()
            return
        await self._start_clock()
        await self._require_same_models()
        self._runtime.start()
        await self._state.begin()
        await self._journal.publish("", await self._journal.pending())
        ended = asyncio.create_task(self._ended())
        self._tasks.add(ended)
        while True:
            waiting = asyncio.create_task(self._events.get())
            await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                yield waiting.result()
                continue
            waiting.cancel()
            break
        while not self._events.empty():
            yield self._events.get_nowait()
        await self._note_end(ended)

    @property
    def pausing(self) -> bool:
        """Whether a pause was requested."""
        return self._journal.draining

    def pause(self) -> None:
        """Handle no further message. Steps in progress end and are stored."""
        self._journal.draining = True
        if not self._pausing.done():
            self._pausing.set_result(None)

    async def request_stop(self, reason: str) -> None:
        """Start no further round. Rounds in progress end, then the run is complete.

        Args:
            reason: The reason, for people; it is stored in the transcript.
        """
        changes = self.coordinator.campaign.changes
        place = str(changes or "")  # a change of the plan lifts the stop; another stop may follow
        message = StopRequested.make(self._first, place, reason=reason)
        await self._journal.commit("", [message])
        await self._journal.publish("", [message])

    async def _require_same_models(self) -> None:
        now = await records_now(self.services)
        require_same_models(self.name, self._models, now)

    async def _prepare(self, retry: RetryRule, new: NewRun) -> None:
        self._pausing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        campaign = await replayed_campaign(self._store, self.name)
        self._runtime = quiet_runtime()
        roles = find_roles(self.config.roles)
        self._journal.attach(self._runtime, with_plugin_actors(routes(), roles))
        self._coordinator = Coordinator(self._journal, campaign)
        library = library_for(self.config, self._store)
        actors = core_actors(self._journal, self._coordinator, self.services, library, retry)
        for name, actor in actors.items():
            await actor.join(self._runtime, name, kinds_for(name))
        pending = await self._journal.pending()
        await self._plugin_actors.join(roles, self._runtime, self._journal, self.services, retry)
        if self._resumer is not None and (campaign.started or pending):
            if self._resumer.needs_same_models:
                await self._require_same_models()  # before the change is stored
            plan = await self._resumer.settle(
                self._store, self._journal, self._coordinator, pending, names_of(roles, "observer")
            )
        else:
            plan = await self._start(library, roles, new)
        self._first = start_run(self.name, plan)
        self._scores.admit(plan.train)
        self._journal.listen(self._events.put_nowait)

    async def _start(
        self, library: SearchedPrompts, roles: Sequence[FoundRole], new: NewRun
    ) -> CampaignPlan:
        """Store the run's first message, with its plan; returns the plan."""
        await store_professional(self.config, self._store, self.project.folder)
        prompts = naive_set(self.config, self.project.folder)
        if prompts.warning:
            log.warning("naive prompts", note=prompts.warning)
        seeds = checked_seeds(self.config, self.project.folder)
        seeds = await with_best(self._store, new.parent, seeds) if new.from_best else seeds
        train, fields = prompts.of("train"), self.services.plan_fields
        plan = await make_plan(self.config, train, seeds, library, roles, **fields)
        if new.before_start is not None:
            await new.before_start(self.name, self.services, self.config.roles_with_llm)
        # Load the models before the run exists, so that a failure leaves no run behind.
        self._models = await records_now(self.services)
        await self.services.memory.begin_again()
        config = {"name": self.name, "config": self.config.model_dump_json()}
        await self._store.write(
            [
                ("add_run", {**config, "created": time.time(), "version": VERSION}),
                ("set_run_config", config),  # `add_run` keeps the row of a process that died here
                ("set_run_parent", {"name": self.name, "parent": new.parent}),
                record_statement(self.name, self._models),
            ]
        )
        await self._journal.commit("", [start_run(self.name, plan)])
        return plan

    async def _start_clock(self) -> None:
        before_s = self._resumer.stored.seconds if self._resumer else 0.0
        self._clock = RunClock(self._store, self.name, before_s)
        self._tasks.add(asyncio.create_task(self._clock.keep()))
        if minutes := self.config.budget.minutes:
            self._tasks.add(asyncio.create_task(self._stop_in_time(self._clock, minutes)))

    async def _stop_in_time(self, clock: RunClock, minutes: float) -> None:
        await clock.reach(minutes)
        reason = f"the budget of {minutes:g} minutes is used; raise [budget] minutes to go on"
        await self.request_stop(reason)

    async def _ended(self) -> None:
        """Return when the run is complete, paused and idle, or broken."""
        stopped = asyncio.create_task(self._wait_for_stop())
        try:
            await asyncio.wait(
                {stopped, self._pausing, self._journal.broken},
                return_when=asyncio.FIRST_COMPLETED,
            )
            if stopped.done():
                await self._plugin_actors.catch_up()
        finally:
            stopped.cancel()
        self._journal.draining = True
        self.services.watch.abandon()
        await self._journal.drained()

    async def _wait_for_stop(self) -> None:
        arrived = asyncio.Event()

        def notice(message: Message) -> None:
            if isinstance(message, RunStopped):
                arrived.set()

        self._journal.listen(notice)
        if not self.complete:
            await arrived.wait()

    async def _note_end(self, ended: asyncio.Task[None]) -> None:
        await ended
        broken = self._journal.broken
        error = broken.exception() if broken.done() else None
        await self._state.end(error, self.coordinator.campaign.stopped)

    async def _close(self) -> None:
        self._journal.draining = True
        self._state.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._clock is not None:
            with contextlib.suppress(BigpeError):
                await self._clock.note()
        idle = True
        try:
            await asyncio.wait_for(self._journal.drained(), STOP_WAIT_S)
        except TimeoutError:
            idle = False
        await self._plugin_actors.close()
        if self._journal.broken.done():
            self._journal.broken.exception()
        else:
            self._journal.broken.cancel()
        await self._stop_actors(idle=idle)

    async def _stop_actors(self, *, idle: bool) -> None:
        """Stop the runtime; `idle`: no step is running."""
        # stop() drops the queue, and a handler that ends later raises an error because of it.
        stop = self._runtime.stop_when_idle if idle else self._runtime.stop
        # Suppressed: the runtime was never started, or the journal has reported its error.
        with contextlib.suppress(RuntimeError, UnhandledMessageError, TimeoutError):
            await asyncio.wait_for(stop(), STOP_WAIT_S)
