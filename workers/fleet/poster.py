"""Poster: sends what is due."""

from functools import cached_property

from pydantic import Field

from coordination.errors import InvalidValueError
from workers.base import Worker, WorkerSettings
from workers.context import Platform
from workers.errors import NeedNotMetError
from workers.fence import Fence
from workers.intervals import minutes
from workers.platforms.x import XUnauthorized
from workers.reads import read
from workers.sending import Sending


class PosterSettings(WorkerSettings):
    """The poster's live settings.

    Attributes:
        lease_s: how long a claimed intent and its lock are held.
        park_grace_s: how long after a dead sender's lease its act is parked.
    """

    lease_s: float = Field(default=60, ge=20, le=3600)
    park_grace_s: float = Field(default=30, ge=0, le=86_400)


class Poster(Worker):
    """Send what is due, each intent once; park what nobody can know."""

    name = "poster"
    every = minutes(5)
    needs = (Platform.X,)
    settings_model = PosterSettings
    settings: PosterSettings  # pyright: ignore[reportIncompatibleVariableOverride]  the same, narrower

    _identified = False

    def first_run(self) -> None:
        """Send what became due while no poster was there to be woken."""
        self.step()

    def step(self) -> None:
        """Park what dead senders left, then send up to a batch of what is due, in order."""
        ledger, account = self.fleet.ledger, self.context.account
        self._identify()
        while parked := ledger.park_orphan(account, grace_s=self.settings.park_grace_s):
            self.log.error("parked: its sender ended in mid-send", intent=parked)
        ledger.tidy(account)
        for _ in range(self.settings.batch_size):
            if self.draining.is_set():
                return
            claim = ledger.claim(account, self.worker_id, self.settings.lease_s)
            if claim is None or not self._sending.send(claim):
                return
            self.progress.item_done()

    @cached_property
    def _sending(self) -> Sending:
        return Sending(
            fleet=self.fleet,
            x=self.context.x,
            worker_id=self.worker_id,
            fence=Fence(self.context.state_dir / "fence"),
            pause=self.pause,
        )

    def _identify(self) -> None:
        """Ask the platform once a life whose credentials these are, before anything is sent with them.

        Raises:
            NeedNotMetError: they are refused, or somebody else's than before.
            XError, NoGrantError: it can't be asked now; the step fails, sends nothing, and the next one asks.
        """
        if self._identified:
            return
        account = self.context.account
        try:
            answer = read(
                self.fleet, "users_me", self.context.x.me, account=account, worker_id=self.worker_id
            )
            self.fleet.accounts.confirm_identity(account, answer.value.id, answer.value.username)
        except (XUnauthorized, InvalidValueError) as error:
            raise NeedNotMetError(str(error)) from error
        self._identified = True
        self.log.info("acts for", account=account, handle=answer.value.username)
