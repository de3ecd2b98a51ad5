"""A correct coordination core in memory, asked by made-up processes: no checker may blame what they say.

Each call takes time before and after it is decided, and commits later still; answers get lost, processes are
cut from their sessions, leases run out. Every decision is right.
"""

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.fault.history import FOREVER, History, Operation

LIMIT = (4, 3.0)
CAPACITY = 3


@dataclass
class Simulated:
    """One world: what is held, what waits, and what was written down."""

    chance: random.Random
    now: float = 1000.0
    token: int = 0
    operations: list[Operation] = field(default_factory=list[Operation])
    leases: dict[str, tuple[int, str, float]] = field(default_factory=dict[str, tuple[int, str, float]])
    waiting: list[tuple[int, float, str]] = field(default_factory=list[tuple[int, float, str]])
    done: set[str] = field(default_factory=set[str])
    gone: set[str] = field(default_factory=set[str])
    pool: dict[int, tuple[str, float, int]] = field(default_factory=dict[int, tuple[str, float, int]])
    attempts: Counter[str] = field(default_factory=Counter[str])
    occupied: dict[int, float] = field(default_factory=dict[int, float])
    mine: dict[str, list[tuple[str, int]]] = field(
        default_factory=lambda: defaultdict[str, list[tuple[str, int]]](list)
    )
    jobs: int = 0

    def run(self, steps: int, lives: int = 5) -> History:
        """Let the processes ask, one decision after the other."""
        names = [f"life {number}" for number in range(lives)]
        for _ in range(steps):
            life = self.chance.choice(names)
            if self.chance.random() < 0.03:  # its session is cut: it goes on as a new one
                self.gone.add(life)
                names[names.index(life)] = f"{life}+"
                continue
            asked = [self._lock, self._lock, self._keep, self._give, self._give, self._put, self._claim]
            asked += [self._grant, self._settle, self._reserve, self._beat, self._beat]
            act = self.chance.choice(asked)
            act(life)
        return History(
            operations=self.operations, limits={"limit:a": [LIMIT]}, capacities={"pool:a": CAPACITY}
        )

    # What is asked

    def _lock(self, life: str) -> None:
        thing = f"lock:{self.chance.randrange(3)}"
        at = self._decide()
        held = self.leases.get(thing)
        if held and not self._is_free(held, life, at):
            self._write(life, "take", thing, {"seconds": 1}, {"reason": "held"}, outcome="refused")
            return
        self._hold(life, thing, "take", thing, {"seconds": 1})

    def _hold(self, life: str, source: str, kind: str, thing: str, given: dict[str, Any]) -> None:
        self.token += 1
        expires = self.now + self.chance.uniform(0.1, 2.0)
        self.leases[thing] = (self.token, life, expires)
        self.attempts[thing] += 1
        held = {"thing": thing, "token": self.token, "expires": expires, "attempt": self.attempts[thing]}
        if self._write(life, kind, source, given, {"holds": [held]}):
            self.mine[life].append((thing, self.token))

    def _keep(self, life: str) -> None:
        at = self._decide()
        if not self.mine[life]:
            return
        thing, token = self.chance.choice(self.mine[life])
        held = self.leases.get(thing)
        given = {"token": token, "seconds": 1.0}
        if held is None or held[0] != token or held[2] <= at or not thing.startswith("lock"):
            self._write(life, "keep", thing, given, {}, outcome="refused")
            return
        self.leases[thing] = (token, life, at + 1.0)
        self._write(life, "keep", thing, given, {"expires": at + 1.0})

    def _give(self, life: str) -> None:
        self._decide()
        if not self.mine[life]:
            return
        thing, token = self.mine[life].pop(self.chance.randrange(len(self.mine[life])))
        if thing.startswith("reservation"):
            outcome = "ok" if self.pool.pop(token, None) else "refused"
            self._write(life, "give", thing, {"token": token}, {}, outcome=outcome)
            return
        held = self.leases.get(thing)
        final = thing.startswith("job")
        given = {"token": token, "final": final}
        if held is None or held[0] != token:
            self._write(life, "give", thing, given, {}, outcome="refused")
            return
        del self.leases[thing]
        if final:
            self.done.add(thing)
        self._write(life, "give", thing, given, {})

    def _put(self, life: str) -> None:
        at = self._decide()
        self.jobs += 1
        thing, rank = f"job:a:{self.jobs}", self.chance.randrange(3)
        self.waiting.append((-rank, at, thing))
        self._write(life, "put", "job:a", {"rank": rank}, {"thing": thing})

    def _claim(self, life: str) -> None:
        at = self._decide()
        for thing, held in list(self.leases.items()):
            if thing.startswith("job") and self._is_free(held, life, at):
                del self.leases[thing]
                self.waiting.append((0, at, thing))
        given = {"source": "job:a", "n": 1}
        if not self.waiting:
            self._write(life, "take", "job:a", given, {"holds": []})
            return
        first = min(self.waiting)
        self.waiting.remove(first)
        self._hold(life, "job:a", "take", first[2], given)

    def _grant(self, life: str) -> None:
        at = self._decide()
        limit, window_s = LIMIT
        if sum(end + window_s > at for end in self.occupied.values()) >= limit:
            self._write(life, "grant", "limit:a", {"worker": life}, {}, outcome="refused")
            return
        number = len(self.occupied)
        self.occupied[number] = FOREVER
        if self._write(life, "grant", "limit:a", {"worker": life}, {"grant": number}):
            self.mine[f"{life} grants"].append(("", number))

    def _settle(self, life: str) -> None:
        at = self._decide()
        mine = self.mine[f"{life} grants"]
        if mine:
            _, number = mine.pop()
            self.occupied[number] = at
            self._write(life, "settle", "limit:a", {"grant": number}, {})

    def _reserve(self, life: str) -> None:
        at = self._decide()
        self.pool = {
            number: held
            for number, held in self.pool.items()
            if not self._is_free((number, *held[:2]), life, at)
        }
        units = self.chance.randint(1, 2)
        given = {"seconds": 1.0, "units": units}
        if sum(held[2] for held in self.pool.values()) + units > CAPACITY:
            self._write(life, "take", "pool:a", given, {"reason": "no_room"}, outcome="refused")
            return
        self.token += 1
        expires = at + 1.0
        self.pool[self.token] = (life, expires, units)
        thing = f"reservation:{self.token}"
        held = {"thing": thing, "token": self.token, "expires": expires, "pool": "pool:a", "units": units}
        if self._write(life, "take", "pool:a", given, {"holds": [held]}):
            self.mine[life].append((thing, self.token))

    def _beat(self, life: str) -> None:
        self._decide()
        self._write(life, "alive", "", {}, {})

    # How it is told

    def _is_free(self, held: tuple[int, str, float], life: str, at: float) -> bool:
        _, holder, expires = held
        return expires <= at or (holder != life and holder in self.gone)

    def _decide(self) -> float:
        self._began = self.now
        self.now += self.chance.uniform(0, 0.2)
        self._decided = self.now
        return self.now

    def _write(
        self,
        life: str,
        kind: str,
        thing: str,
        given: dict[str, Any],
        answer: dict[str, Any],
        *,
        outcome: Any = "ok",
    ) -> bool:
        """Write it down, its answer perhaps lost; say whether the process knows."""
        self.now += 1e-6
        ended = self.now
        lost = self.chance.random() < 0.05
        self.operations.append(
            Operation(
                life=life,
                process=life,
                kind=kind,
                thing=thing,
                given=given,
                outcome="unknown" if lost else outcome,
                began=self._began,
                ended=FOREVER if lost else ended,
                after=FOREVER if lost else ended + 1e-6,
                answer={} if lost else answer,
            )
        )
        self.now += 2e-6
        return not lost
