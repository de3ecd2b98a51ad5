"""How quickly the X sandbox's world starts, is searched, and reacts: `python benchmarks/sandbox_world.py`.

Starts and searches are those of a real sandbox process over HTTP, as a client meets them; beside each
stands the processor time that the sandbox spent, which a busy computer changes less. The law is timed here.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

import psutil

from sandbox.world import law as laws
from sandbox.world import phrases
from sandbox.world.population import Population
from sandbox.world.reaction import react
from sandbox.world.traits import read

ROOT = Path(__file__).resolve().parents[1]
AT_MS = 1_795_000_000_000
WORLDS = {"default": (400, 6000, 1.5), "large": (1000, 100_000, 5.0)}  # people, posts, target in seconds
SEARCHES = 200
SEARCH_TARGET_MS = 20.0
REACTION_TARGET_MS = 10.0
PATIENCE_S = 120.0


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str, token: str = "") -> bytes:
    """The body of a GET."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - loopback
        body: bytes = answer.read()
    return body


def spent_s(process: subprocess.Popen[bytes]) -> float:
    """The processor time that a process and the one that made its world have spent, in seconds."""
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def start(state: Path, people: int, posts: int) -> tuple[subprocess.Popen[bytes], str, float]:
    """A sandbox, its address, and the seconds from its start to its first answer."""
    port = free_port()
    argv = [sys.executable, "-m", "sandbox", "x", "--port", str(port), "--state", str(state)]
    begun = time.perf_counter()
    process = subprocess.Popen(
        [*argv, "--people", str(people), "--posts", str(posts)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout  # noqa: S101 - it is a pipe
    if not process.stdout.readline():
        sys.exit(f"the sandbox ended with status {process.wait()}")
    url = f"http://127.0.0.1:{port}"
    get(f"{url}/_sandbox/health")
    return process, url, time.perf_counter() - begun


def search_ms(url: str, token: str) -> list[float]:
    """How long each of some searches took, in milliseconds: of 10 and of 100 posts, with their counts."""
    queries = [topic.name for topic in phrases.topics()] + ["-is:retweet lang:en morning", '"good books" -RT']
    found: list[float] = []
    for number in range(SEARCHES):
        query = urllib.parse.quote(queries[number % len(queries)])
        page = f"max_results={(10, 100)[number % 2]}&tweet.fields=public_metrics,created_at"
        begun = time.perf_counter()
        get(f"{url}/2/tweets/search/recent?query={query}&{page}", token)
        found.append((time.perf_counter() - begun) * 1000)
    return found


def reaction_ms(people: int) -> list[float]:
    """How long the law takes for each of some posts, in milliseconds."""
    law = laws.default()
    crowd = Population.make("1", people, taken="fleet", most=law.most, hours=law.hours)
    traits = read("Which coffee do you drink before a release?")
    found: list[float] = []
    for post_id in range(200):
        begun = time.perf_counter()
        react(law, crowd, post_id=post_id, at_ms=AT_MS, traits=traits, followers={1: 0, 2: 0})
        found.append((time.perf_counter() - begun) * 1000)
    return found


def report(what: str, value: float, target: float, unit: str, spent: float | None = None) -> None:
    """Prints a line."""
    met = "met" if value <= target else "MISSED"
    aside = "" if spent is None else f"  (processor: {spent:.2f} {unit})"
    print(f"{what:<48} {value:8.2f} {unit:<2}  target {target:g} {unit}: {met}{aside}")


def measure(name: str, people: int, posts: int, target_s: float) -> None:
    """Prints the figures of one world."""
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory) / "state"
        for which in ("first", "second"):
            process, url, took_s = start(state, people, posts)
            try:
                report(f"{name}: {which} start", took_s, target_s, "s", spent_s(process))
                if which == "second":
                    token = json.loads((state / "credentials.json").read_text())["x_bearer_token"]
                    before_s = spent_s(process)
                    p95 = statistics.quantiles(search_ms(url, token), n=20)[-1]
                    mean_ms = (spent_s(process) - before_s) * 1000 / SEARCHES
                    report(f"{name}: search, 95th percentile", p95, SEARCH_TARGET_MS, "ms", mean_ms)
            finally:
                process.terminate()
                process.communicate(timeout=PATIENCE_S)
    median = statistics.median(reaction_ms(people))
    report(f"{name}: the law for one post, median", median, REACTION_TARGET_MS, "ms")


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", choices=WORLDS, help="only this one")
    only = parser.parse_args().world
    for name in [only] if only else list(WORLDS):
        people, posts, target_s = WORLDS[name]
        print(f"{name}: {people} people, {posts} posts")
        measure(name, people, posts, target_s)


if __name__ == "__main__":
    main()
