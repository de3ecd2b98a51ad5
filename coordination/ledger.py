"""The ledger: every act on the outside world is an intent that happens once, or is parked for a person.

Protocol: docs/architecture.md, "The life of one post". The states and who may change them are enforced by
`coordination/sql/ledger.sql`.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from coordination.breakers import Passage
from coordination.database import Database, Json
from coordination.ids import number_of
from coordination.intents import Action, Claim, Clearance, Decision, Intent, Outcome, Queue
from coordination.plain import plain
from coordination.rate_limits import limit_headers
from coordination.session import Session


class Ledger:
    """The ledger's calls for workers. Each is one round trip and one flushed transaction.

    One more where a lock goes back that somebody waits for: that wakes it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def propose(
        self,
        account: str,
        action: Action,
        target: str,
        text: str,
        at: datetime | None = None,
        deadline: datetime | None = None,
        *,
        origin: Mapping[str, Any] | None = None,
    ) -> Intent:
        """Propose an act, to be sent at `at` (fleet time), not after `deadline`.

        The same (account, action, target) again gives the intent that is there. For an account that is not
        the sandbox's it waits for a person's approval. A due one wakes the poster. What the policy refuses
        comes back as `rejected`, with the reason; the same refusal again is the same intent.

        Args:
            account: who acts.
            action: `post`, or `reply`, `quote` or `like` of another's post.
            target: a post's own name, such as its place in a plan; for the others that post's id.
            text: the exact text; "" for a like.
            at: the earliest time; now where it is None.
            deadline: the latest time; None is never.
            origin: where it came from; for all but a post with `author_id`, the target's author, without
                whom the policy refuses what it can't judge.

        Raises:
            InvalidValueError: names the field and what is allowed.
        """
        answer = self._session.call(
            "propose",
            account=account,
            action=action,
            target=target,
            text=text,
            at=at,
            deadline=deadline,
            origin=Json(dict(origin or {})),
        )
        return _proposed(self._session.database, answer)

    def get(self, intent_id: str) -> dict[str, Any] | None:
        """Give one intent as a dict; None when there is none."""
        return self._session.database.call("get_intent", intent=number_of(intent_id, "intent"))

    def queue(self, account: str, targets: str = "", *, texts_of_days: float = 30) -> Queue:
        """Say what waits among the targets that begin so, until when; and which texts not to repeat.

        What was proposed more than `texts_of_days` of fleet time ago is left out of all of it.
        """
        answer = self._session.database.call(
            "get_queue", account=account, targets=targets, texts_of_days=float(texts_of_days)
        )
        moments = {
            name: datetime.fromisoformat(answer[name]) if answer[name] else None
            for name in ("planned_until", "last_posted_at")
        }
        return Queue(
            waiting=answer["waiting"],
            now=datetime.fromisoformat(answer["now"]),
            texts=frozenset(answer["texts"]),
            **moments,
        )

    def wake_sender(self) -> None:
        """Tell whoever sends that an act is due; nothing where nobody listens. One round trip."""
        wake_sender(self._session.database)

    def tidy(self, account: str) -> int:
        """Expire what is overdue; make due retries and claims of the dead ready. Gives how many moved."""
        return int(self._session.call("tidy_intents", account=account))

    def claim(
        self, account: str, worker_id: str, lease_s: float = 60, *, besides: Iterable[str] = ()
    ) -> Claim | None:
        """Take the next due intent and the lock on its content, or None.

        Where another claim took it meanwhile it asks for the next: one more round trip.

        Args:
            account: whose.
            worker_id: the label of who takes it.
            lease_s: how long claim and lock last, in real seconds.
            besides: endpoints that can't be asked now: their acts are passed over.
        """
        passed_over = sorted(besides)

        def ask() -> dict[str, Any]:
            return self._session.call(
                "claim_intent",
                account=account,
                worker_id=worker_id,
                lease_s=float(lease_s),
                besides=passed_over,
            )

        answer = ask()
        while "again" in answer:
            answer = ask()
        intent = answer["intent"]
        if intent is None:
            return None
        return Claim(
            intent=intent["id"],
            account=intent["account"],
            action=intent["action"],
            target=intent["target"],
            text=intent["text"],
            attempt=intent["attempt"],
            content=answer["content"],
            fencing_token=answer["fencing_token"],
            lease_expires_at=datetime.fromisoformat(answer["lease_expires_at"]),
            passage=Passage(**answer["passage"]),
            user_id=answer["user_id"],
        )

    def unclaim(
        self,
        claim: Claim,
        worker_id: str,
        reason: str,
        *,
        retry_after_s: float | None = None,
        grant_id: str | None = None,
    ) -> dict[str, Any]:
        """Give a claim back before anything was sent: ready now or after `retry_after_s`; grant returned.

        Gives the intent as it is then: where it was not claimed by this incarnation any more, unchanged.
        """
        answer = self._session.call(
            "unclaim_intent",
            intent=int(claim.intent),
            token=claim.fencing_token,
            worker_id=worker_id,
            reason=plain(reason),
            retry_after_s=retry_after_s,
            grant_id=None if grant_id is None else number_of(grant_id, "grant_id"),
        )
        return self._woken(answer)

    def begin_send(
        self, claim: Claim, grant_id: str, worker_id: str, *, http_deadline_s: float, fence_seen: int
    ) -> Clearance:
        """Pass the last gate. Write to the socket only if it says `sending`, and within 500 ms of this call.

        Raises:
            NotAcknowledgedError, DatabaseUnavailableError: the intent may stand as sending: write nothing,
                settle it as not written.
            LockLostError, IncarnationLostError, TransitionRefusedError: not ours any more: write nothing.
        """
        answer = self._session.call(
            "begin_send",
            acknowledged=True,
            intent=int(claim.intent),
            token=claim.fencing_token,
            grant_id=number_of(grant_id, "grant_id"),
            worker_id=worker_id,
            http_deadline_s=float(http_deadline_s),
            fence_seen=fence_seen,
        )
        if not answer["sending"]:
            self._session.wake(answer["wake"])
            return Clearance(sending=False, reason=answer["reason"])
        return Clearance(
            sending=True,
            attempt=answer["attempt"],
            text=answer["text"],
            fence=answer["fence"],
            first_sent_at=datetime.fromisoformat(answer["first_sent_at"]),
        )

    def settle(
        self,
        intent: str,
        attempt: int,
        outcome: Outcome,
        worker_id: str,
        *,
        platform_id: str | None = None,
        status: int | None = None,
        reason: str | None = None,
        response_headers: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> dict[str, Any]:
        """Report what came of a send; give the intent as it is then. Reporting it twice changes nothing."""
        return self._woken(
            self._session.call(
                "settle",
                intent=number_of(intent, "intent"),
                attempt=attempt,
                outcome=outcome,
                worker_id=worker_id,
                platform_id=platform_id,
                status=status,
                reason=plain(reason),
                response_headers=Json(limit_headers(response_headers)),
                retry_after_s=retry_after_s,
            )
        )

    def _woken(self, answer: dict[str, Any] | None) -> dict[str, Any]:
        """Wake who waits for the lock that went back; give the intent without that."""
        intent = dict(answer or {})
        self._session.wake(intent.pop("wake", None))
        return intent

    def park_orphan(self, account: str, *, grace_s: float) -> str | None:
        """Park one act whose sender died in mid-send; give its id, or None when there is none.

        Acts that this incarnation itself left unsettled count too: call it between sends, never during one.
        """
        return self._session.call("park_orphan", account=account, grace_s=float(grace_s))


def propose_by_person(
    database: Database,
    account: str,
    action: Action,
    target: str,
    text: str,
    *,
    actor: str,
    at: datetime | None = None,
    deadline: datetime | None = None,
    origin: Mapping[str, Any] | None = None,
) -> Intent:
    """A person proposes an act by hand, which is its approval too; audited. For the console role.

    It passes the same policy as a worker's: see `Ledger.propose`.
    """
    answer = database.call(
        "propose_by_person",
        actor=actor,
        account=account,
        action=action,
        target=target,
        text=text,
        at=at,
        deadline=deadline,
        origin=Json(dict(origin or {})),
    )
    return _proposed(database, answer)


def decide(
    database: Database,
    intent_id: str,
    decision: Decision,
    *,
    actor: str,
    reason: str,
    platform_id: str | None = None,
) -> dict[str, Any]:
    """A person approves, cancels, resumes or marks an intent as posted; audited. Gives the intent.

    Raises:
        TransitionRefusedError: its present state doesn't allow that.
    """
    answer = database.call(
        "decide_intent",
        intent=number_of(intent_id, "intent"),
        decision=decision,
        actor=actor,
        reason=reason,
        platform_id=platform_id,
    )
    if answer["state"] == "ready":
        wake_sender(database)
    return dict(answer)


def wake_sender(database: Database) -> None:
    """Tell whoever sends that an act is due; nothing where nobody listens. One round trip."""
    database.call("wake", worker="poster")


def _proposed(database: Database, answer: dict[str, Any]) -> Intent:
    # The wake-up stands outside the proposal's transaction: NOTIFY inside would serialise every commit.
    if answer["created"] and answer["state"] == "ready" and answer["due"]:
        wake_sender(database)
    return Intent(id=answer["id"], state=answer["state"], created=answer["created"], reason=answer["reason"])
