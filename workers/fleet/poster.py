"""Poster: sends what is due."""

from functools import cached_property

from pydantic import Field

from coordination.accounts import Account
from workers.base import Worker, WorkerSettings
from workers.context import Platform
from workers.intervals import minutes
from workers.outside.fence import Fence
from workers.outside.identity import confirm
from workers.outside.sending import Sending


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

    def first_run(self) -> None:
        """Send what became due while no poster was there to be woken."""
        self.step()

    def step(self) -> None:
        """Park what dead senders left, then send up to a batch of what is due, in order."""
        ledger, account = self.fleet.ledger, self.context.account
        _ = self._account
        while parked := ledger.park_orphan(account, grace_s=self.settings.park_grace_s):
            self.log.error("parked: its sender ended in mid-send", intent=parked)
        ledger.tidy(account)
        exhausted: set[str] = set()
        for _ in range(self.settings.batch_size):
            if self.draining.is_set():
                return
            claim = ledger.claim(account, self.worker_id, self.settings.lease_s, besides=exhausted)
            if claim is None:
                return
            if self._sending.send(claim):
                self.progress.item_done()
            else:
                exhausted.add(claim.endpoint)  # a like that must wait holds up no answer

    @cached_property
    def _sending(self) -> Sending:
        return Sending(
            fleet=self.fleet,
            x=self.context.x,
            worker_id=self.worker_id,
            fence=Fence(self.context.state_dir / "fence"),
            pause=self.pause,
        )

    @cached_property
    def _account(self) -> Account:
        """Whose credentials these are, asked once a life before anything is sent with them."""
        account = confirm(self.fleet, self.context.x, self.context.account, self.worker_id)
        self.log.info("acts for", account=account.name, handle=account.handle)
        return account
