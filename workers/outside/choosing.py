"""Choosing: what is done with a candidate: the best act that its score, the tier, policy and caps allow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from coordination.candidates import Candidate
from coordination.policy import Policy
from workers.outside.proposing import Action

ACTIONS: Final[tuple[Action, ...]] = ("quote", "reply", "like")
"""The acts by what they are worth: the first that is allowed is taken."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What to do with a candidate, and why not each better action."""

    action: Action
    refused: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class NoChoice:
    """Nothing is to be done with it.

    Attributes:
        reason: why not each of the actions.
        waits: whether only a cap is in the way, so that it may be done later.
    """

    reason: str
    waits: bool


@dataclass(frozen=True, kw_only=True)
class Choosing:
    """Chooses for one candidate after the other, while the caps have room.

    Attributes:
        policy: what the fleet says about an act.
        account: for which it is done.
        min_scores: the score from which each action is done.
        denied: the actions that the account's tier never allows here, with the reason.
        left: how many of each action that the tier allows may still be chosen.
    """

    policy: Policy
    account: str
    min_scores: Mapping[Action, float]
    denied: Mapping[Action, str]
    left: dict[Action, int]

    def choose(self, candidate: Candidate) -> Choice | NoChoice:
        """The first action that is allowed; it counts once it is `taken`."""
        refused: dict[str, str] = {}
        waits = False
        for action in ACTIONS:
            wanted = self.min_scores[action]
            if action in self.denied:
                refused[action] = self.denied[action]
            elif candidate.score < wanted:
                refused[action] = f"score {candidate.score:.1f}, wanted are {wanted:g}"
            else:
                verdict = self.policy.check(self.account, action, candidate.platform_id, candidate.author_id)
                if not verdict.allowed:
                    refused[action] = verdict.reason
                elif self.left[action] <= 0:
                    refused[action] = "its cap is reached"
                    waits = True
                else:
                    return Choice(action=action, refused=refused)
        return NoChoice(reason="; ".join(f"{action}: {why}" for action, why in refused.items()), waits=waits)

    def taken(self, choice: Choice) -> None:
        """Count a choice against its cap."""
        self.left[choice.action] -= 1


def denied_by_tier(policy: Policy, account: str) -> dict[Action, str]:
    """The actions that the tier never allows towards a candidate, and why.

    An act for those alone who called the account is among them: whoever did is answered by mentions.
    """
    rules = policy.of(account)
    return {
        action: policy.check(account, action).reason
        for action in ACTIONS
        if rules.get(action, "deny") != "allow"
    }
