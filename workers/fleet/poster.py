"""Poster: sends what is due."""

from functools import cached_property

from pydantic import Field

from coordination.errors import InvalidValueError
from workers.base import Worker, WorkerSettings
from workers.context import Platform
from workers.errors import NeedNotMetError
from workers.intervals import minutes
from workers.platforms.x import XError, XRefused, XUnauthorized
from workers.sending import Fence, Sending


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
        """Ask whose credentials these are; where they are refused, end at once and say so."""
        self._identify()

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
            if claim is None:
                return
            goes_on = self._sending.post(claim)
            self.progress.item_done()
            if not goes_on:
                return

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
            XError: it can't be asked now; the step fails and the next one asks again.
        """
        if self._identified:
            return
        account = self.context.account
        grant = self.fleet.rate_limits.can_make_request("users_me", self.worker_id, account=account)
        if grant.grant_id is None:
            self.log.warning("can't ask who the credentials belong to", reason=grant.reason)
            return
        try:
            answer = self.context.x.me()
        except XError as error:
            status = error.status if isinstance(error, XRefused) else None
            self.fleet.rate_limits.record_usage(grant.grant_id, False, error.headers, status=status)
            if isinstance(error, XUnauthorized):
                raise NeedNotMetError(str(error)) from error
            raise
        self.fleet.rate_limits.record_usage(grant.grant_id, True, answer.headers, status=200)
        try:
            self.fleet.accounts.confirm_identity(account, answer.value.id, answer.value.username)
        except InvalidValueError as error:
            raise NeedNotMetError(str(error)) from error
        self._identified = True
        self.log.info("acts for", account=account, handle=answer.value.username)

    _identified = False
