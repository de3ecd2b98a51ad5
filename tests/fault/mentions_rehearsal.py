"""A fleet whose mentions worker is killed again and again, before the real X sandbox and a real poster.

The people of the sandbox's world write what this script says, through the sandbox's own store. What must be
answered is known when it is written; what was, `GET /_sandbox/writes` says.
"""

import itertools
import json
import os
import random
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import requests

from coordination import Fleet, accounts, settings
from coordination.database import Json
from sandbox.x import snowflakes
from sandbox.x.posts import Post, User
from sandbox.x.store.store import Store
from sandbox.x.world.worlds import user_id
from tests.integration.conftest import FleetDatabase
from workers.crash_points import CRASH_POINTS, VARIABLE
from workers.tasks import PostAnalysed

ROOT = Path(__file__).parents[2]
ACCOUNT = "sandbox"
POINTS = tuple(point for point in CRASH_POINTS if point.startswith("mentions."))
AUTHORS = 3000
QUIET_LOOKS = 3
"""A page may be read and not yet stored, a message sent and not yet handled."""
WINDOW_S = 900.0
FEW_LEFT = 5
"""Requests left of the account's 15 minutes at which time moves on by such a window."""
LIVE = {
    "mentions_interval_s": 1,
    "mentions_batch_size": 1000,
    "mentions_delegation_s": 86_400,
    "mentions_deadline_s": 604_800,
    "poster_interval_s": 1,
    "poster_batch_size": 100,
}
SUMMONING = (
    "@{us} what about gardens?",
    "@{us} how do you brew coffee when you travel?",
    "hey @{us}, which book would you read twice?",
    "Asking for a friend, @{us}: do you weigh or guess?",
    "@{us} please don't stop, I like it",
)
NOT_SUMMONING = (
    "I agree with @{us} about gardens: compost is patience.",
    "Interesting what @{us} writes about bread.",
    "People like @{us} say that rye keeps for a week.",
)
OPT_OUTS = ("@{us} stop", "@{us} please don't reply to me", "@{us} please stop replying to me.")


@dataclass(kw_only=True)
class Result:
    """What a run came to.

    Attributes:
        kills: how often the worker was killed, by crash point.
        summoned: the mentions that had to be answered.
        silent: those that must not be.
        answers: how often each post was answered, by the sandbox's record.
        open: interactions that were not settled at the end.
        states: how many intents ended in each state.
    """

    kills: Counter[str] = field(default_factory=Counter[str])
    summoned: set[str] = field(default_factory=set[str])
    silent: set[str] = field(default_factory=set[str])
    answers: Counter[str] = field(default_factory=Counter[str])
    open: int = 0
    states: dict[str, int] = field(default_factory=dict[str, int])

    def __str__(self) -> str:
        return (
            f"{self.kills.total()} kills, {len(self.summoned)} summons, {len(self.silent)} others; lost "
            f"{self.lost}, double {self.double}, uncalled {self.uncalled}, open {self.open}, {self.states}"
        )

    @property
    def double(self) -> list[str]:
        """Answered more than once."""
        return sorted(one for one, count in self.answers.items() if count > 1)

    @property
    def lost(self) -> list[str]:
        """Summoning and never answered."""
        return sorted(self.summoned - set(self.answers))

    @property
    def uncalled(self) -> list[str]:
        """Answered though they did not summon."""
        return sorted(set(self.answers) & self.silent)

    @property
    def clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.double or self.lost or self.uncalled or self.open)


APART = 1 << 20
"""Of a millisecond's ids the sandbox gives the first ones to what the fleet posts in it."""


class Life:
    """One forked worker, from its start to its end."""

    def __init__(self, forks: subprocess.Popen[bytes], order: dict[str, Any]) -> None:
        assert forks.stdin
        assert forks.stdout
        self._out = forks.stdout
        forks.stdin.write(json.dumps(order).encode() + b"\n")
        forks.stdin.flush()
        self._pid = int(self._out.readline())
        self._status: int | None = None

    @property
    def killed(self) -> bool:
        """Whether it ended by SIGKILL."""
        return self._status is not None and os.waitstatus_to_exitcode(self._status) == -signal.SIGKILL

    def ended(self, within_s: float) -> bool:
        """Wait a little for its end."""
        if self._status is None and select.select([self._out], [], [], within_s)[0]:
            self._status = int(self._out.readline())
        return self._status is not None

    def end(self) -> None:
        """Kill it, unless it ended."""
        if not self.ended(0):
            os.kill(self._pid, signal.SIGKILL)
            assert self.ended(10)


class Rehearsal:
    """A state directory, a sandbox with a tier, a poster; mentions workers come and are killed."""

    def __init__(self, state: Path, database: FleetDatabase, *, seed: int, tier: str = "pay_per_use") -> None:
        self.result = Result()
        self.database = database
        self._state = state
        self._chance = random.Random(seed)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._authors = itertools.cycle(range(AUTHORS))
        self._conversations: list[Post] = []
        self._last_id = 0
        self._ahead = timedelta(0)
        (state / "dsn").mkdir(parents=True)
        (state / "dsn" / "worker").write_text(database.dsn("worker"))
        world = state / "world.csv"
        lines = [f"2020-01-01T00:00:00Z,Hello number {n}.,author{n}" for n in range(AUTHORS)]
        world.write_text("\n".join(["created_at,text,user", *lines, ""]))
        self.url = self._start_sandbox(world, tier)
        with database.owner() as owner:
            owner.execute("UPDATE fleet.accounts SET tier = %s WHERE name = %s", (tier, ACCOUNT))
        keys = json.loads((state / "sandbox" / "credentials.json").read_text())
        self._us = User(id=int(keys["user_id"]), username=keys["username"], name="Fleet", created_ms=0)
        self._store = Store(state / "sandbox" / "x.sqlite", self._us)
        self.fleet: Fleet = database.connect("analyst")
        self._forks = self._run(["tests.fault.forks"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        person = database.database("console")
        for key, value in LIVE.items():
            settings.set_setting(person, key, value, actor="rehearsal", reason="quicker")
        for endpoint, requests_ in (
            ("post_tweet", 50),
            ("fetch_mentions", 75),
        ):  # a quarter of an hour is all
            person.call(
                "configure_rate_windows",
                account=ACCOUNT,
                endpoint=endpoint,
                windows=Json([[requests_, int(WINDOW_S)]]),
            )
        for pool in ("api_tweets", "api_requests"):
            person.call(
                "configure_rate_windows",
                account=ACCOUNT,
                endpoint=pool,
                windows=Json([[1_000_000, int(WINDOW_S)]]),
            )
        person.close()

    def begin(self) -> None:
        """The first look at mentions, which sets the baseline; and a poster that nobody kills."""
        self.start("poster")
        first = self._fork("mentions")
        _until(lambda: self._count("SELECT count(*) FROM fleet.cursors") == 1, what="the first look")
        first.end()

    def run(self, plan: Sequence[str], told: Callable[[str], None] = lambda _line: None) -> Result:
        """Kill it at each point of the plan, each time with people who just wrote; then let it finish."""
        self.begin()
        for number, point in enumerate(plan, 1):
            self.wave()
            came = self.kill_at(point)
            told(f"{number}/{len(plan)} {point}{'' if came else ' NOT REACHED'}")
        self.settle()
        return self.result

    def stored(self) -> set[str]:
        """The mentions that the fleet knows; the table's key lets none be there twice."""
        return {str(row[0]) for row in self._rows("SELECT platform_id FROM fleet.interactions")}

    # The people

    def write(self, template: str, *, summons: bool, reply_to: Post | None = None) -> Post:
        """Somebody who never wrote before writes; the post is newer than all before it."""
        (post,) = self._write([template], summons=summons, reply_to=reply_to)
        return post

    def _write(self, templates: Sequence[str], *, summons: bool, reply_to: Post | None = None) -> list[Post]:
        now_ms = int(self._now_s() * 1000)
        first = max(snowflakes.from_time(now_ms) + APART, self._last_id + 1)
        posts = [
            Post(
                id=first + number,
                author_id=user_id(f"author{next(self._authors)}"),
                text=template.format(us=self._us.username),
                created_ms=now_ms,
                lang="en",
                reply_to=reply_to.id if reply_to else None,
                conversation_id=reply_to.conversation if reply_to else None,
            )
            for number, template in enumerate(templates)
        ]
        self._last_id = posts[-1].id
        self._store.add_others_posts(posts)
        (self.result.summoned if summons else self.result.silent).update(str(post.id) for post in posts)
        return posts

    def wave(self, *, calls: int = 2) -> None:
        """Everything that people write to an account, once."""
        for text in self._chance.sample(SUMMONING, min(calls, len(SUMMONING))):
            called = self.write(text, summons=True)
            self._conversations.append(called)
        self.write(self._chance.choice(NOT_SUMMONING), summons=False)
        self.write(self._chance.choice(OPT_OUTS), summons=False)
        thread = self._chance.choice(self._conversations)
        self.write("@somebody @{us} Right, and soil matters.", summons=False, reply_to=thread)
        self.write(f"@{{us}} check out this: https://x.com/ann/status/{thread.id}", summons=True)

    def crowd(self, count: int) -> None:
        """Many call at once."""
        self._write([SUMMONING[number % len(SUMMONING)] for number in range(count)], summons=True)

    # The workers

    def start(self, worker: str, slot: int = 1, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker's process."""
        port = self.url.rpartition(":")[2]
        return self._run(
            ["manager", "worker", "run", worker, "--slot", str(slot)],
            stdout=(self._state / f"{worker}-{slot}.log").open("ab"),
            environment={"SOCIALFLEET_SANDBOX_PORT": port, **environment},
        )

    def kill_at(self, point: str, passing: int = 1, within_s: float = 30) -> bool:
        """Let mentions run until it is killed at a crash point; whether it came there."""
        life = self._fork("mentions", **{VARIABLE: f"{point}:{passing}"})
        deadline = monotonic() + within_s
        while not life.ended(0.05) and monotonic() < deadline:
            self._keep_going()
        came = life.killed
        life.end()
        self.result.kills[point if came else f"{point} not reached"] += 1
        return came

    def settle(self, within_s: float = 180) -> None:
        """Let a mentions worker that nobody kills finish the work, and read the record."""
        life = self._fork("mentions")
        deadline = monotonic() + within_s
        quiet = 0
        while quiet < QUIET_LOOKS and monotonic() < deadline and not life.ended(0.3):
            self._keep_going()
            quiet = quiet + 1 if self._is_settled() else 0
        life.end()
        self.result.open = self._count(
            "SELECT count(*) FROM fleet.interactions WHERE state IN ('seen', 'delegated')"
        )
        self.result.states = dict(self._rows("SELECT state, count(*) FROM fleet.intents GROUP BY state"))
        self.result.answers = Counter(
            str(write["target"]) for write in self._get("/_sandbox/writes") if write["action"] == "reply"
        )
        for target in set(self.result.answers) - self.result.summoned - self.result.silent:
            # The world's own people, who answer the account's posts: they must have named it.
            post = self._store.post(int(target))
            called = post is not None and f"@{self._us.username}" in post.text.lower()
            (self.result.summoned if called else self.result.silent).add(target)

    def close(self) -> None:
        """End what was started."""
        self.fleet.close()
        self._store.close()
        for process in reversed(self._processes):
            if process.poll() is None:
                process.kill()
            process.wait(10)
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()

    def _fork(self, worker: str, **environment: str) -> "Life":
        order = {
            "name": worker,
            "slot": 1,
            "environment": {
                "SOCIALFLEET_STATE_DIR": str(self._state),
                "SOCIALFLEET_SANDBOX_PORT": self.url.rpartition(":")[2],
                **environment,
            },
            "log": str(self._state / f"{worker}-1.log"),
        }
        return Life(self._forks, order)

    def _keep_going(self) -> None:
        """What others do meanwhile: report on delegations; let the account's 15 minutes pass."""
        for mention, subject in self._rows(
            "SELECT platform_id, subject FROM fleet.interactions "
            "WHERE state = 'delegated' AND finding IS NULL AND NOT EXISTS "
            "(SELECT 1 FROM fleet.messages m WHERE m.dedupe_key = 'found:' || platform_id)"
        ):
            finding = PostAnalysed(
                account=ACCOUNT, post_id=subject, mention_id=mention, found=True, score=70, reason="looked"
            )
            self.fleet.messages.send(
                "TASK_DELEGATION",
                "mentions",
                finding.model_dump(),
                dedupe_key=f"found:{mention}",
                ttl_s=604_800,  # fleet time moves by hours here
                max_attempts=1000,
            )
        left = [
            self.fleet.rate_limits.get_remaining_capacity(endpoint, ACCOUNT).remaining
            for endpoint in ("post_tweet", "fetch_mentions", "users_me")  # every life asks who it is
        ]
        if min(left) < FEW_LEFT:
            self._advance(WINDOW_S + 10)

    def _advance(self, seconds: float) -> None:
        """Move both clocks, the platform's first: its window must be open when the limiter's is."""
        self._ahead += timedelta(seconds=seconds)
        now = self._rows("SELECT clock_timestamp()")[0][0]
        setting = {"real0": now.isoformat(), "fleet0": (now + self._ahead).isoformat(), "rate": 1}
        token = {"Authorization": f"Bearer {self._token}"}
        requests.post(
            f"{self.url}/_sandbox/clock", json=setting, headers=token, timeout=10
        ).raise_for_status()
        self.database.advance(seconds)

    def _is_settled(self) -> bool:
        known = self._count("SELECT count(*) FROM fleet.interactions WHERE state IN ('answered', 'ignored')")
        undone = self._count(
            "SELECT count(*) FROM fleet.intents "
            "WHERE state NOT IN ('posted', 'rejected', 'expired', 'parked')"
        )
        return undone == 0 and known >= len(self.result.summoned) + len(self.result.silent)

    def _now_s(self) -> float:
        return float(self._rows("SELECT extract(epoch FROM fleet.now())::float8")[0][0])

    def _count(self, query: str) -> int:
        return int(self._rows(query)[0][0])

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.database.owner() as owner:
            return owner.execute(query.encode()).fetchall()

    def _get(self, path: str) -> Any:
        return requests.get(f"{self.url}{path}", timeout=10).json()

    def _start_sandbox(self, world: Path, tier: str) -> str:
        arguments = ["sandbox", "x", "--port", "0", "--world", str(world), "--tier", tier, "--mentions", "0"]
        process = self._run([*arguments, "--state", str(self._state / "sandbox")], stdout=subprocess.PIPE)
        assert process.stdout
        assert select.select([process.stdout], [], [], 30)[0], "the sandbox said nothing"
        line = process.stdout.readline().decode()
        url = next(word for word in line.split() if word.startswith("http://")).rstrip("/.,")
        self._token = _token(self._state)
        maintainer = self.database.database("maintainer")
        accounts.ensure_account(
            maintainer, ACCOUNT, platform="x", api_url=url, sandbox=True, topics=["gardens"]
        )
        maintainer.close()
        return url

    def _run(
        self,
        arguments: Sequence[str],
        *,
        stdout: Any,
        stdin: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env={**kept, "SOCIALFLEET_STATE_DIR": str(self._state), **(environment or {})},
            stdin=stdin,
            stdout=stdout,
            stderr=None if stdin else subprocess.STDOUT,
        )
        if stdout is not subprocess.PIPE:
            stdout.close()
        self._processes.append(process)
        return process


def _until(look: Callable[[], bool], *, what: str, within_s: float = 30) -> None:
    deadline = monotonic() + within_s
    pause = Event()
    while not look():
        assert monotonic() < deadline, f"not within {within_s} s: {what}"
        pause.wait(0.05)


def _token(state: Path) -> str:
    return (state / "sandbox" / "sandbox.token").read_text().strip()
