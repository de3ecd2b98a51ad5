"""Sending: one claimed intent's way to the platform, once.

The order keeps an act from happening twice: claim, lock and grant; then the connection to the platform; then
`begin_send`, whose commit is durable; then, within half a second, the first byte. What fails before that byte
leaves nothing in doubt; what fails after it is settled by the platform's answer, or parked for a person.
"""

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from coordination import Fleet
from coordination.errors import (
    DatabaseBusyError,
    DatabaseUnavailableError,
    FleetError,
    LockLostError,
    NotAcknowledgedError,
    TransitionRefusedError,
)
from coordination.ledger import Claim, Clearance, Outcome
from workers.logs import Log
from workers.platforms import x as platform
from workers.platforms.x import Sent, X, XError, XRefused, find_own_post

WRITE_WITHIN_S = 0.5
"""From begin_send to the first byte: later, the gate's answer is too old to act on."""
CLOCK_SKEW = timedelta(seconds=60)
"""How far the platform's clock may differ from the database's when a post is looked for by its time."""
RETRY_S = (15.0, 60.0)
"""Before another try where nothing left the machine; spread, so that posters don't come back in step."""
SETTLE_BACKOFF_CAP_S = 5.0

log = Log("sending")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What an answer means for the intent."""

    outcome: Outcome
    platform_id: str | None = None
    reason: str = ""
    retry_after_s: float | None = None


class Fence:
    """The highest fencing token seen, kept in the state directory: a database below it was restored."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> int:
        """The number kept; 0 when there is none yet.

        Raises:
            ValueError: the file holds something else.
        """
        try:
            text = self._path.read_text("ascii").strip()
        except FileNotFoundError:
            return 0
        if not text.isdigit():
            raise ValueError(f"{self._path} holds {text[:40]!r}: allowed is a whole number")
        return int(text)

    def keep(self, fence: int) -> None:
        """Keep a higher number, durably; a lower one changes nothing."""
        if fence <= self.read():
            return
        new = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with new.open("w", encoding="ascii") as file:
            file.write(f"{fence}\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)


class _Gate:
    """Asks `begin_send` when the connection stands, and says whether the request may still be written."""

    def __init__(self, ask: Callable[[], Clearance]) -> None:
        self._ask = ask
        self.clearance: Clearance | None = None

    def __call__(self) -> bool:
        asked_at = _boot_time_s()
        self.clearance = self._ask()
        return self.clearance.sending and _boot_time_s() - asked_at < WRITE_WITHIN_S


class Sending:
    """Sends claimed intents of one account.

    Args:
        fleet: this incarnation.
        x: the platform.
        worker_id: who sends, for the record.
        fence: the state directory's.
        pause: waits some seconds; False when the worker drains.
    """

    def __init__(
        self, *, fleet: Fleet, x: X, worker_id: str, fence: Fence, pause: Callable[[float], bool]
    ) -> None:
        self._fleet = fleet
        self._x = x
        self._worker_id = worker_id
        self._fence = fence
        self._pause = pause

    def post(self, claim: Claim) -> bool:
        """Send one intent; False when there is no sense in trying the next one now.

        Raises:
            DatabaseUnavailableError, IncarnationLostError: go on as a new incarnation; nothing is in doubt.
        """
        grant = self._fleet.rate_limits.can_make_request(
            "post_tweet", self._worker_id, "high", account=claim.account
        )
        if not grant.allowed or grant.grant_id is None:
            reason = grant.reason or "the limiter gave no grant"
            self._unclaim(claim, reason, retry_after_s=grant.retry_after_seconds)
            log.warning("the limit says wait", intent=claim.intent, reason=reason)
            return False
        grant_id = grant.grant_id
        gate = _Gate(lambda: self._begin(claim, grant_id))
        try:
            sent = self._x.create_post(claim.text, before_write=gate)
        except FleetError as error:
            self._take_back(claim, grant_id, error)
            if isinstance(error, LockLostError | TransitionRefusedError | DatabaseBusyError):
                return True
            raise
        if gate.clearance is None:  # no connection: the gate was never asked
            self._unclaim(claim, sent.reason, retry_after_s=random.uniform(*RETRY_S), grant_id=grant_id)  # noqa: S311  no secret
            log.warning("nothing was sent: tried again later", intent=claim.intent, reason=sent.reason)
            return False
        if not gate.clearance.sending:  # the gate said no, and moved the intent on itself
            log.warning("not sent", intent=claim.intent, reason=gate.clearance.reason)
            return True
        self._settle(claim, gate.clearance, sent, self._judge(claim, gate.clearance, sent))
        return sent.outcome not in {platform.Outcome.RATE_LIMITED, platform.Outcome.UNKNOWN}

    def _begin(self, claim: Claim, grant_id: str) -> Clearance:
        clearance = self._fleet.ledger.begin_send(
            claim,
            grant_id,
            self._worker_id,
            http_deadline_s=self._x.deadline_s,
            fence_seen=self._fence.read(),
        )
        if clearance.sending:
            self._fence.keep(clearance.fence)
        return clearance

    def _unclaim(
        self, claim: Claim, reason: str, *, retry_after_s: float | None = None, grant_id: str | None = None
    ) -> None:
        self._fleet.ledger.unclaim(
            claim, self._worker_id, reason, retry_after_s=retry_after_s, grant_id=grant_id
        )

    def _take_back(self, claim: Claim, grant_id: str, error: FleetError) -> None:
        """The gate's answer is missing or a refusal: nothing was written, whatever the database holds."""
        log.warning("nothing was sent", intent=claim.intent, reason=str(error))
        attempt = claim.attempt + 1
        while True:
            try:
                intent = self._fleet.ledger.get(claim.intent) or {}
                if (
                    isinstance(error, DatabaseUnavailableError | NotAcknowledgedError)
                    and intent.get("state") == "sending"
                    and intent.get("attempt") == attempt
                ):
                    # The commit arrived after all; its acknowledgement did not.
                    self._fleet.ledger.settle(
                        claim.intent, attempt, "not_written", self._worker_id, reason=str(error)
                    )
                else:
                    self._unclaim(claim, str(error), grant_id=grant_id)
            except (DatabaseUnavailableError, DatabaseBusyError):
                if not self._pause(random.uniform(0.5, SETTLE_BACKOFF_CAP_S)):  # noqa: S311  no secret
                    return  # drained: the claim runs out, or the act is parked; it is never resent by itself
            except FleetError as refusal:
                log.warning("not ours to take back", intent=claim.intent, reason=str(refusal))
                return
            else:
                return

    def _judge(self, claim: Claim, clearance: Clearance, sent: Sent) -> Verdict:
        match sent.outcome:
            case platform.Outcome.POSTED:
                return Verdict(outcome="posted", platform_id=sent.platform_id)
            case platform.Outcome.NOT_SENT:
                return Verdict(outcome="not_written", reason=sent.reason)
            case platform.Outcome.RATE_LIMITED:
                return Verdict(outcome="retry_at", reason=sent.reason, retry_after_s=sent.retry_after_s)
            case platform.Outcome.REJECTED:
                return Verdict(outcome="rejected", reason=sent.reason)
            case platform.Outcome.DUPLICATE:
                return self._judge_duplicate(claim, clearance, sent)
            case platform.Outcome.UNKNOWN:
                return Verdict(outcome="unknown", reason=sent.reason)

    def _judge_duplicate(self, claim: Claim, clearance: Clearance, sent: Sent) -> Verdict:
        """The platform knows this text: is it ours from this intent, or just a repetition?"""
        try:
            found = self._find_own(claim, clearance.first_sent_at)
        except (XError, FleetError) as error:
            return Verdict(
                outcome="unknown", reason=f"{sent.reason} The own timeline can't be read ({error})"
            )
        if found is not None:
            return Verdict(outcome="posted", platform_id=found, reason="found on the own timeline")
        if clearance.attempt > 1:
            return Verdict(outcome="unknown", reason=f"{sent.reason} No post of an earlier attempt was found")
        return Verdict(outcome="rejected", reason=sent.reason)

    def _find_own(self, claim: Claim, first_sent_at: datetime | None) -> str | None:
        """Look for the intent's text among the account's posts since its first attempt; one read."""
        account = self._fleet.accounts.get(claim.account)
        if account.platform_user_id is None or first_sent_at is None:
            return None
        grant = self._fleet.rate_limits.can_make_request(
            "user_tweets", self._worker_id, "high", account=claim.account
        )
        if grant.grant_id is None:
            raise DatabaseBusyError(grant.reason or "no grant to read it")
        try:
            answer = self._x.own_posts(account.platform_user_id)
        except XError as error:
            status = error.status if isinstance(error, XRefused) else None
            self._fleet.rate_limits.record_usage(grant.grant_id, False, error.headers, status=status)
            raise
        self._fleet.rate_limits.record_usage(grant.grant_id, True, answer.headers, status=200)
        found = find_own_post(answer.value, claim.text, first_sent_at - CLOCK_SKEW)
        return found.id if found else None

    def _settle(self, claim: Claim, clearance: Clearance, sent: Sent, verdict: Verdict) -> None:
        """Report, and go on trying while the database is away: only this process knows what came of it."""
        wait_s = 0.2
        while True:
            try:
                intent = self._fleet.ledger.settle(
                    claim.intent,
                    clearance.attempt,
                    verdict.outcome,
                    self._worker_id,
                    platform_id=verdict.platform_id,
                    status=sent.status,
                    reason=verdict.reason or None,
                    response_headers=sent.headers,
                    retry_after_s=verdict.retry_after_s,
                )
            except (DatabaseUnavailableError, DatabaseBusyError) as error:
                log.warning("the answer waits for the database", intent=claim.intent, reason=str(error))
                if not self._pause(wait_s):
                    time.sleep(wait_s)  # draining: a last few tries before the deadline ends the process
                wait_s = min(wait_s * 2, SETTLE_BACKOFF_CAP_S)
            else:
                log.info(
                    verdict.outcome,
                    intent=claim.intent,
                    state=intent["state"],
                    platform_id=verdict.platform_id,
                    reason=verdict.reason,
                )
                return


def _boot_time_s() -> float:
    """Seconds since boot, time asleep or stopped included, where the system knows them."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)
