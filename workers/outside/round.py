"""Round: the candidates that one step took, from the taking until each of them is decided."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from coordination import Fleet
from coordination.accounts import Account
from coordination.candidates import Candidate
from workers.logs import Log
from workers.outside.choosing import ACTIONS, Choice, Choosing
from workers.outside.proposing import Action, Proposed


@dataclass(kw_only=True)
class Round:
    """What one step goes by, and what came of it.

    Attributes:
        now: fleet time.
        choosing: what may be done, while the caps have room.
        texts: recent texts, none of which may come again.
        open: what was taken and not decided yet.
        chosen: what to do with those of them that an act was chosen for.
        outcomes: how many were proposed by action, passed over, and left.
        stopped: why no more acts are proposed in this step; None while they are.
    """

    fleet: Fleet
    log: Log
    account: Account
    now: datetime
    choosing: Choosing
    texts: set[str]
    open: dict[str, Candidate] = field(default_factory=dict[str, Candidate])
    chosen: dict[str, Choice] = field(default_factory=dict[str, Choice])
    outcomes: Counter[str] = field(default_factory=Counter[str])
    stopped: str | None = None

    def settle(self, candidate: Candidate, action: Action, made: Proposed) -> None:
        """An act on it is in the ledger."""
        self._decide(candidate, "proposed", f"{action} proposed", made.intent.id)

    def count(self, candidate: Candidate, action: Action, made: Proposed) -> None:
        """Count a proposal, and let its text not come again."""
        self.texts.add(made.text)
        self.outcomes[action] += 1
        self.log.info(
            "proposed",
            action=action,
            post=candidate.platform_id,
            intent=made.intent.id,
            score=candidate.score,
        )

    def pass_over(self, candidate: Candidate, reason: str) -> None:
        """Nothing is done with it, now or later."""
        self._decide(candidate, "passed", reason)
        self.outcomes["passed"] += 1
        self.log.info("passed", post=candidate.platform_id, reason=reason)

    def leave(self, candidate: Candidate, reason: str) -> None:
        """It waits for a later step."""
        self._decide(candidate, "waiting", reason)
        self.outcomes["left"] += 1

    def put_back(self) -> None:
        """What the step left undecided waits again; what fails for good is passed over."""
        if not self.open:
            return
        held = list(self.open.values())
        failed = self.fleet.failed_items.among(name(one) for one in held for name in ITEM_NAMES)
        for candidate in held:
            dead = [name(candidate) for name in ITEM_NAMES if failed.get(name(candidate)) == "dead"]
            if dead:
                self.pass_over(candidate, f"failed too often: dead letter {dead[0]} says why")
            else:
                self.leave(candidate, self.stopped or "the step ended before its turn")

    def summary(self, taken: int) -> tuple[str, dict[str, int]]:
        """What came of the `taken` candidates, in words and in numbers."""
        counts = {name: self.outcomes[name] for name in (*ACTIONS, "passed", "left")}
        proposed = ", ".join(f"{counts[action]} {_named(action, counts[action])}" for action in ACTIONS)
        words = f"looked at {taken}: {proposed} proposed; {counts['passed']} passed, {counts['left']} left"
        return f"{words} ({self.stopped})" if self.stopped else words, counts

    def _decide(
        self,
        candidate: Candidate,
        decision: Literal["proposed", "passed", "waiting"],
        reason: str,
        intent: str | None = None,
    ) -> None:
        held = self.fleet.candidates.decide(
            self.account.name, candidate.platform_id, decision, reason=reason, intent=intent
        )
        self.open.pop(candidate.platform_id, None)
        if not held:
            self.log.warning("the candidate was lost before", post=candidate.platform_id, decision=decision)


def choice_name(candidate: Candidate) -> str:
    """What a failed choice is kept as: a good one must not clear the failures of the act that follows it."""
    return f"choice:{candidate.platform_id}"


def item_name(candidate: Candidate) -> str:
    """What a failed act is kept as."""
    return f"candidate:{candidate.platform_id}"


ITEM_NAMES = (choice_name, item_name)


def _named(action: Action, number: int) -> str:
    if number == 1:
        return action
    return "replies" if action == "reply" else f"{action}s"
