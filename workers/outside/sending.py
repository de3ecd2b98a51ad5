"""Sending: one claimed intent's way to the platform, once.

The order keeps an act from happening twice: claim, lock and grant; then the connection to the platform; then
`begin_send`, whose commit is durable; then, within half a second, the first byte. What fails before that byte
leaves nothing in doubt; what fails after it is settled by the platform's answer, or parked for a person.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final

from coordination import Fleet
from coordination.breakers import Call
from coordination.errors import (
    BreakerOpenError,
    DatabaseBusyError,
    DatabaseUnavailableError,
    FleetError,
    LockLostError,
    TransitionRefusedError,
)
from coordination.intents import Claim, Clearance, Outcome
from workers.errors import NeedNotMetError, NoGrantError
from workers.logs import Log
from workers.outside.fence import Fence
from workers.outside.reads import read
from workers.platforms import x as platform
from workers.platforms.x import Sent, X, XError, find_own_post

POSTING: Final = "posting"
"""The breaker of an account's writes, which a claim asks."""
WRITE_WITHIN_S = 0.5
"""From begin_send to the first byte: later, the gate's answer is too old to act on."""
CLOCK_SKEW = timedelta(seconds=60)
"""How far the platform's clock may differ from the database's when a post is looked for by its time."""
RETRY_S = (15.0, 60.0)
"""Before another try where nothing left the machine; spread, so that posters don't come back in step."""
IDENTITY_RETRY_S = 300.0
"""Before another try of a like by an account that nobody has asked who it is."""
ACCOUNT_TROUBLE_S = {HTTPStatus.UNAUTHORIZED: 900.0, HTTPStatus.PAYMENT_REQUIRED: 3600.0}
"""Refusals that say something about the account, not about the post: it waits, and isn't lost."""
NOT_ENROLLED_RETRY_S = 3600.0
"""Before another try of what the account's access doesn't include: a person sets the tier right meanwhile."""
SETTLE_BACKOFF_CAP_S = 5.0

log = Log("sending")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What an answer means for the intent."""

    outcome: Outcome
    platform_id: str | None = None
    reason: str = ""
    retry_after_s: float | None = None


class _Gate:
    """Asks `begin_send` when the connection stands, and says whether the request may still be written.

    Attributes:
        clearance: its answer; None where it was not asked or gave none.
        passed: whether the first byte may have been written.
    """

    def __init__(self, ask: Callable[[], Clearance], kept: Callable[[int], None]) -> None:
        self._ask = ask
        self._kept = kept
        self.clearance: Clearance | None = None
        self.passed = False

    def __call__(self) -> bool:
        asked_at = _boot_time_s()
        self.clearance = self._ask()
        if self.clearance.sending:
            self._kept(self.clearance.fence)
            self.passed = _boot_time_s() - asked_at < WRITE_WITHIN_S
        return self.passed


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

    def send(self, claim: Claim) -> bool:
        """Send one intent, whatever its action; False when its endpoint can't be asked again now.

        Raises:
            DatabaseUnavailableError, IncarnationLostError: go on as a new incarnation; nothing is in doubt.
            NeedNotMetError: the platform refuses the credentials; the intent waits.
        """
        try:
            with self._fleet.breakers.guard(claim.account, POSTING, claim.passage) as call:
                return self._send(claim, call)
        except BreakerOpenError as refusal:
            self._unclaim(claim, str(refusal), retry_after_s=refusal.retry_after_s)
            log.warning("posting is cut off", intent=claim.intent, reason=str(refusal))
            return False

    def _send(self, claim: Claim, call: Call) -> bool:
        """Send under the breaker, and tell `call` what the platform did."""
        if claim.action == "like" and claim.user_id is None:
            call.untried()
            reason = "who the account is on the platform is not known yet"
            self._unclaim(claim, reason, retry_after_s=IDENTITY_RETRY_S)
            log.warning("a like waits", intent=claim.intent, reason=reason)
            return True
        grant = self._fleet.rate_limits.can_make_request(
            claim.endpoint, self._worker_id, "high", account=claim.account
        )
        if grant.grant_id is None:
            call.untried()
            reason = grant.reason or "the limiter gave no grant"
            self._unclaim(claim, reason, retry_after_s=grant.retry_after_seconds)
            log.warning("the limit says wait", intent=claim.intent, reason=reason)
            return False
        gate = _Gate(lambda: self._begin(claim, grant.grant_id or ""), self._fence.keep)
        try:
            sent = self._write(claim, gate)
        except Exception as error:
            if not gate.passed:
                call.untried()
            self._end_in_order(claim, grant.grant_id, gate, error)
            if isinstance(error, LockLostError | TransitionRefusedError | DatabaseBusyError):
                return True
            raise
        if gate.clearance is None:  # no connection: the gate was never asked
            call.failed(sent.reason)
            self._unclaim(
                claim,
                sent.reason,
                retry_after_s=random.uniform(*RETRY_S),  # noqa: S311  no secret
                grant_id=grant.grant_id,
            )
            log.warning("nothing was sent: tried again later", intent=claim.intent, reason=sent.reason)
            return False
        call.status = sent.status
        if not gate.passed:
            call.untried()
        elif sent.outcome == platform.Outcome.UNKNOWN:
            call.failed(sent.reason)
        if not gate.clearance.sending:  # the gate said no, and moved the intent on itself
            log.warning("not sent", intent=claim.intent, reason=gate.clearance.reason)
            return True
        return self._conclude(claim, gate.clearance, sent)

    def _write(self, claim: Claim, gate: Callable[[], bool]) -> Sent:
        match claim.action:
            case "post":
                return self._x.create_post(claim.text, gate)
            case "reply":
                return self._x.create_post(claim.text, gate, reply_to=claim.target)
            case "quote":
                return self._x.create_post(claim.text, gate, quote_of=claim.target)
            case "like":
                return self._x.like(claim.user_id or "", claim.target, gate)

    def _begin(self, claim: Claim, grant_id: str) -> Clearance:
        return self._fleet.ledger.begin_send(
            claim,
            grant_id,
            self._worker_id,
            http_deadline_s=self._x.deadline_s,
            fence_seen=self._fence.read(),
        )

    def _conclude(self, claim: Claim, clearance: Clearance, sent: Sent) -> bool:
        """Settle what the platform answered; False when the endpoint's next intent should wait."""
        try:
            verdict = self._judge(claim, clearance, sent)
        except Exception as error:
            # Whatever goes wrong in understanding an answer, the request has left.
            reason = f"{sent.reason} Its answer was not understood ({type(error).__name__}: {error})"
            self._settle(claim, clearance.attempt, Verdict(outcome="unknown", reason=reason), sent)
            raise
        self._settle(claim, clearance.attempt, verdict, sent)
        if sent.status == HTTPStatus.UNAUTHORIZED and verdict.outcome == "retry_at":
            raise NeedNotMetError(
                f"X refuses the credentials ({sent.reason}): look at X_CONSUMER_KEY and the others"
            )
        return verdict.outcome in {"posted", "rejected"}

    def _judge(self, claim: Claim, clearance: Clearance, sent: Sent) -> Verdict:  # noqa: C901, PLR0911  one each
        match sent.outcome:
            case platform.Outcome.POSTED:
                return Verdict(outcome="posted", platform_id=sent.platform_id)
            case platform.Outcome.DUPLICATE if claim.action == "like":
                return Verdict(outcome="posted", platform_id=claim.target, reason="it was liked already")
            case platform.Outcome.NOT_SENT:
                return Verdict(outcome="not_written", reason=sent.reason)
            case platform.Outcome.RATE_LIMITED:
                return Verdict(outcome="retry_at", reason=sent.reason, retry_after_s=sent.retry_after_s)
            case platform.Outcome.NOT_ENROLLED:
                reason = f"the account's access includes no {claim.action}: is its tier right? {sent.reason}"
                return Verdict(outcome="retry_at", reason=reason, retry_after_s=NOT_ENROLLED_RETRY_S)
            case platform.Outcome.REJECTED:
                for status, retry_after_s in ACCOUNT_TROUBLE_S.items():
                    if sent.status == status:
                        return Verdict(outcome="retry_at", reason=sent.reason, retry_after_s=retry_after_s)
                return Verdict(outcome="rejected", reason=sent.reason)
            case platform.Outcome.DUPLICATE:
                return self._judge_duplicate(claim, clearance, sent)
            case platform.Outcome.UNKNOWN:
                # A like too. X takes a second like as the first, so a person may resume it without harm;
                # by itself nothing is written again whose outcome nobody knows.
                return Verdict(outcome="unknown", reason=sent.reason)

    def _judge_duplicate(self, claim: Claim, clearance: Clearance, sent: Sent) -> Verdict:
        """The platform knows this text: is it ours from this intent, or just a repetition?

        A reply or a quote counts as ours only with its reference: the same words elsewhere are another act.
        """
        try:
            found = self._find_own(claim, clearance.first_sent_at)
        except (XError, NoGrantError, FleetError) as error:
            return Verdict(
                outcome="unknown", reason=f"{sent.reason} The own timeline can't be read ({error})"
            )
        if found is not None:
            return Verdict(outcome="posted", platform_id=found, reason="found on the own timeline")
        if clearance.attempt > 1:
            return Verdict(outcome="unknown", reason=f"{sent.reason} No post of an earlier attempt was found")
        return Verdict(outcome="rejected", reason=sent.reason)

    def _find_own(self, claim: Claim, first_sent_at: datetime | None) -> str | None:
        """Look for the intent's act among the account's posts since its first attempt; one read."""
        user_id = claim.user_id
        if user_id is None or first_sent_at is None:
            raise NoGrantError("who the account is on the platform is not known yet", retry_after_s=None)
        answer = read(
            self._fleet,
            "user_tweets",
            lambda: self._x.own_posts(user_id),
            account=claim.account,
            worker_id=self._worker_id,
            priority="high",
        )
        found = find_own_post(
            answer.value,
            claim.text,
            first_sent_at - CLOCK_SKEW,
            reply_to=claim.target if claim.action == "reply" else None,
            quote_of=claim.target if claim.action == "quote" else None,
        )
        return found.id if found else None

    def _end_in_order(self, claim: Claim, grant_id: str, gate: _Gate, error: Exception) -> None:
        """Something broke on the way: leave the ledger saying what is known."""
        reason = f"{type(error).__name__}: {error}"
        log.warning("the send broke off", intent=claim.intent, reason=reason, may_have_left=gate.passed)
        if gate.passed:
            verdict = Verdict(outcome="unknown", reason=reason)
            self._settle(claim, claim.attempt + 1, verdict, None)
        else:
            self._take_back(claim, grant_id, reason)

    def _take_back(self, claim: Claim, grant_id: str, reason: str) -> None:
        """Nothing was written, whatever the database holds: the gate's commit may have arrived unheard."""

        def take_back() -> None:
            intent = self._unclaim(claim, reason, grant_id=grant_id)
            if intent.get("state") == "sending" and intent.get("attempt") == claim.attempt + 1:
                self._report(claim, claim.attempt + 1, Verdict(outcome="not_written", reason=reason), None)

        try:
            self._insist(claim, take_back)
        except FleetError as refusal:
            log.warning("not ours to take back", intent=claim.intent, reason=str(refusal))

    def _settle(self, claim: Claim, attempt: int, verdict: Verdict, sent: Sent | None) -> None:
        """Report what came of it: only this process knows."""
        try:
            self._insist(claim, lambda: self._report(claim, attempt, verdict, sent))
        except FleetError as error:
            # What is known must not be lost over how it is told: once more, the bare outcome.
            log.error("the report was refused", error=error, intent=claim.intent, outcome=verdict.outcome)
            bare = Verdict(
                outcome=verdict.outcome, platform_id=verdict.platform_id, retry_after_s=verdict.retry_after_s
            )
            self._insist(claim, lambda: self._report(claim, attempt, bare, None))

    def _report(self, claim: Claim, attempt: int, verdict: Verdict, sent: Sent | None) -> None:
        intent = self._fleet.ledger.settle(
            claim.intent,
            attempt,
            verdict.outcome,
            self._worker_id,
            platform_id=verdict.platform_id,
            status=sent.status if sent else None,
            reason=verdict.reason or None,
            response_headers=sent.headers if sent else None,
            retry_after_s=verdict.retry_after_s,
        )
        log.info(
            verdict.outcome,
            intent=claim.intent,
            state=intent["state"],
            platform_id=verdict.platform_id,
            reason=verdict.reason,
        )

    def _insist(self, claim: Claim, report: Callable[[], None]) -> None:
        """Report, and go on trying while the database is away; the manager's deadline ends it at a drain."""
        wait_s = 0.2
        while True:
            try:
                report()
            except (DatabaseUnavailableError, DatabaseBusyError) as error:
                log.warning("the report waits for the database", intent=claim.intent, reason=str(error))
                if not self._pause(wait_s):
                    time.sleep(wait_s)  # draining: a few tries more; then the act is parked, never repeated
                wait_s = min(wait_s * 2, SETTLE_BACKOFF_CAP_S)
            else:
                return

    def _unclaim(
        self, claim: Claim, reason: str, *, retry_after_s: float | None = None, grant_id: str | None = None
    ) -> dict[str, object]:
        return self._fleet.ledger.unclaim(
            claim, self._worker_id, reason, retry_after_s=retry_after_s, grant_id=grant_id
        )


def _boot_time_s() -> float:
    """Seconds since boot, time asleep or stopped included, where the system knows them."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)
