"""500 light workers on one PostgreSQL: connections, statements, memory, and what a lock call costs then."""

from collections.abc import Iterator
from time import perf_counter

from benchmarks.figure import Figure
from benchmarks.fleet import MeasuredFleet, fleet
from benchmarks.processes import cpu_s, pss_mb, settle
from coordination import connect

SLOTS = 500
MAX_CONNECTIONS = 1200
WINDOW_S = 20.0
SETTLE_S = 10.0
CALLS = 1000
P99 = 0.99


def measure(runs: int) -> Iterator[Figure]:
    """One fleet of 500; windows and rounds of lock calls, quiet and with it."""
    with fleet(options={"max_connections": str(MAX_CONNECTIONS)}) as measured:
        measured.stop()
        quiet = [_lock_p99_ms(measured, f"quiet-{run}") for run in range(runs)]
        base = measured.transactions()
        settle(WINDOW_S)
        base = measured.transactions() - base
        ready = measured.only({"light": SLOTS})
        pids = list(measured.ready().values())
        what = f"{len(pids)} light workers of one host on one server, nothing to do"
        for name, unit, value in (
            ("500 ready after the order to start", "s", ready),
            ("connections of 500", "connections", _connections(measured)),
            ("memory of 500", "MB PSS", pss_mb(pids)),
        ):
            yield Figure(name=f"scale: {name}", unit=unit, runs=[value], disk=measured.disk, note=what)
        settle(SETTLE_S)
        statements: list[float] = []
        processor: list[float] = []
        busy: list[float] = []
        for run in range(runs):
            before, spent = measured.transactions(), cpu_s(pids)
            settle(WINDOW_S)
            statements.append((measured.transactions() - before - base) / WINDOW_S)
            processor.append((cpu_s(pids) - spent) / WINDOW_S * 100)
            busy.append(_lock_p99_ms(measured, f"busy-{run}"))
        less = f"{what}; what the server counts without them is taken off"
        yield Figure(
            name="scale: transactions of 500", unit="1/s", runs=statements, disk=measured.disk, note=less
        )
        yield Figure(
            name="scale: processor of 500",
            unit="% of one core",
            runs=processor,
            disk=measured.disk,
            note=what,
        )
        yield Figure(
            name="scale: p99 of a lock call beside 500",
            unit="ms",
            runs=busy,
            raw=quiet,
            raw_name="no other worker",
            disk=measured.disk,
            note=f"request_lock on a new content, flushed; {CALLS} calls a run by one caller without a pause",
        )


def _connections(measured: MeasuredFleet) -> float:
    row = measured.admin.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
        "AND application_name LIKE 'socialfleet light/%'"
    ).fetchone()
    return float(row[0]) if row else 0.0


def _lock_p99_ms(measured: MeasuredFleet, prefix: str) -> float:
    took: list[float] = []
    with connect(measured.host.dsn("worker"), "prober") as fleet_of_prober:
        for number in range(CALLS):
            began = perf_counter()
            lease = fleet_of_prober.engagement.request_lock(f"{prefix}-{number}", "prober/1", "analysis")
            took.append((perf_counter() - began) * 1000)
            if lease is None:
                raise RuntimeError(f"a lock on new content was refused: {prefix}-{number}")
            fleet_of_prober.engagement.release_lock(lease)
    return sorted(took)[int(P99 * CALLS)]
