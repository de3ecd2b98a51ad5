"""10, 100 and 500 connected workers with nothing to do: what the calls of one that works take beside them.

Two bare statements take their turn with the calls: what those take more is the part of server and machine.
"""

from collections.abc import Callable, Iterator
from itertools import count
from statistics import median
from time import perf_counter

from benchmarks.core import SHARED_MEMORY
from benchmarks.figure import Figure, Target
from benchmarks.fleet import MeasuredFleet, fleet
from benchmarks.processes import settle
from coordination import Fleet, connect
from coordination.database import Json

SIZES = (10, 100, 500)
MAX_CONNECTIONS = 1200
SETTLE_S = 30.0
CALLS = 300
WARM_UP = 20
MOST_OF_FEWEST = 1.5
WORKER = "prober"
ENDPOINT = "growth"
KIND = "growth"
WINDOWS = [[30_000_000, 900], [120_000_000, 3600], [1_000_000_000, 86_400]]
P99 = 0.99
BARE = {"SELECT 1": b"SELECT 1", "a flushed INSERT": b"INSERT INTO bench_growth (content) VALUES ('content')"}

Rounds = dict[str, list[tuple[float, float]]]
"""Of each call by its name a round's median and its p99, in ms."""
Prepare = Callable[[], Callable[[], object]]


def measure(runs: int) -> Iterator[Figure]:
    """One fleet that grows; at each size so many rounds of all calls in turns, by one caller."""
    found: dict[int, list[Rounds]] = {}
    with fleet(options={"max_connections": str(MAX_CONNECTIONS)}, place=SHARED_MEMORY) as measured:
        _allow(measured)
        measured.admin.execute(
            "CREATE TABLE bench_growth (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, content text)"
        )
        for size in (*SIZES, SIZES[0]):  # the fewest once more at the end: the machine's mood is in both
            measured.only({"light": size})
            settle(SETTLE_S)
            with connect(measured.host.dsn("worker"), WORKER, listens=False) as prober:
                found.setdefault(size, []).append(_rounds(measured, prober, runs, f"{size}-{len(found)}"))
        disk = measured.disk
    before, after = found[SIZES[0]]
    for size in SIZES[1:]:
        for name, rounds in found[size][0].items():
            fewest = before[name] + after[name]
            yield Figure(
                name=f"growth: {name} beside {size} idle workers",
                unit="ms",
                runs=[p50 for p50, _ in rounds],
                raw=[p50 for p50, _ in fewest],
                raw_name=f"beside {SIZES[0]}",
                targets=() if name in BARE else [Target(of="ratio_raw", most=MOST_OF_FEWEST)],
                disk=disk,
                note=f"p50 of {CALLS} calls, one of each in turns; "
                f"p99 {median(p99 for _, p99 in rounds):.2f} ms, of {SIZES[0]} "
                f"{median(p99 for _, p99 in fewest):.2f} ms; a worker is a process with two connections",
            )


def _allow(measured: MeasuredFleet) -> None:
    """Set windows that no run fills, for the endpoint and for the pool of all."""
    for endpoint in (ENDPOINT, "api_requests"):
        measured.person.call(
            "configure_rate_windows", account="default", endpoint=endpoint, windows=Json(WINDOWS)
        )


def _rounds(measured: MeasuredFleet, prober: Fleet, runs: int, prefix: str) -> Rounds:
    rounds: Rounds = {}
    for run in range(runs):
        calls = _bare(measured) | _calls(prober, f"{prefix}-{run}")
        took: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(WARM_UP + CALLS):
            for name, call in calls.items():
                took[name].append(_took_ms(call))
        for name, all_ms in took.items():
            of_calls = sorted(all_ms[WARM_UP:])
            rounds.setdefault(name, []).append((median(of_calls), of_calls[int(P99 * len(of_calls))]))
    return rounds


def _bare(measured: MeasuredFleet) -> dict[str, Prepare]:
    """The statements that go through nothing of ours."""

    def prepared(statement: bytes) -> Prepare:
        return lambda: lambda: measured.admin.execute(statement)

    return {name: prepared(statement) for name, statement in BARE.items()}


def _calls(prober: Fleet, prefix: str) -> dict[str, Prepare]:
    """Each call by its name: what prepares it gives what is measured."""
    numbers = count()

    def lock() -> Callable[[], object]:
        content = f"{prefix}-{next(numbers)}"
        return lambda: prober.engagement.request_lock(content, f"{WORKER}/1", "analysis")

    def grant() -> Callable[[], object]:
        return lambda: _granted(prober)

    def job() -> Callable[[], object]:
        prober.jobs.enqueue(KIND)
        return lambda: prober.jobs.complete(prober.jobs.claim(KIND)[0])

    def message() -> Callable[[], object]:
        for waiting in prober.messages.claim():
            prober.messages.acknowledge(waiting)
        return lambda: prober.messages.send("TASK_DELEGATION", WORKER, {"kind": "growth"})

    return {
        "a lock's request": lock,
        "a grant": grant,
        "a job's claim and report": job,
        "a message's sending": message,
    }


def _granted(prober: Fleet) -> None:
    if not prober.rate_limits.can_make_request(ENDPOINT, f"{WORKER}/1").allowed:
        raise RuntimeError("a grant was refused, which no limit asks for")


def _took_ms(prepared: Prepare) -> float:
    call = prepared()
    began = perf_counter()
    call()
    return (perf_counter() - began) * 1000
