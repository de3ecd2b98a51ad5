"""Three hosts, one database: one cut off, one killed, one paused; its work goes on, and nothing twice."""

import signal
import sys
from collections.abc import Iterator
from itertools import pairwise

import psutil
import pytest

from tests.acceptance.three_hosts import NAMES, Span, ThreeHosts, three_hosts
from tests.host_process import eventually
from tests.light_workers import ACT_PAUSE_S, now_s

MOVED_S = 15.0
LEASE_MOVED_S = 30.0
"""A paused process keeps its session: its content is free when its lease (10 s) is over."""

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def three() -> Iterator[ThreeHosts]:
    with three_hosts() as hosts:
        yield hosts


@pytest.fixture(autouse=True)
def balanced_before_and_after(three: ThreeHosts) -> Iterator[None]:
    three.wait_balanced()
    yield
    three.wait_balanced()


def victim_of(three: ThreeHosts, name: str) -> tuple[str, set[tuple[str, int]]]:
    return name, three.slots_of(name)


def wait_moved(three: ThreeHosts, slots: set[tuple[str, int]], name: str, since_s: float) -> float:
    eventually(
        lambda: three.moved(slots, name),
        within_s=MOVED_S + 5,
        what=lambda: f"{slots} elsewhere than on {name}: {three.rows()}",
    )
    return now_s() - since_s


def handover(three: ThreeHosts, slot: str, after_s: float) -> tuple[Span, Span]:
    """The last span of acts that began before a moment, and the first of those after it."""
    spans = three.spans()[slot]
    return (
        [span for span in spans if span.first_s < after_s][-1],
        next(span for span in spans if span.first_s >= after_s),
    )


def wait_handed_over(three: ThreeHosts, slot: str, after_s: float, within_s: float) -> tuple[Span, Span]:
    eventually(
        lambda: any(span.first_s >= after_s for span in three.spans()[slot]),
        within_s=within_s,
        what=lambda: f"{slot} acted on again: {three.spans()[slot]}",
    )
    return handover(three, slot, after_s)


def tell(**moments: float) -> None:
    told = ", ".join(f"{name} {at:.2f} s" for name, at in moments.items())
    sys.stdout.write(f"moments: {told}\n")


def test_a_cut_off_hosts_acting_workers_are_stopped_by_it_before_their_work_goes_on_elsewhere(
    three: ThreeHosts,
) -> None:
    name, slots = victim_of(three, "a")
    acting = sorted(f"{worker}/{slot}" for worker, slot in slots if worker == "holder")
    asking = sorted(f"{worker}/{slot}" for worker, slot in slots if worker == "renewer")
    pids = {f"{row[0]}/{row[1]}": row[3] for row in three.rows() if row[2] == name}
    assert acting, slots
    cut_s = now_s()
    three.network.cut(name)
    try:
        stopped_s: dict[str, float] = {}
        for slot in acting:
            eventually(
                lambda pid=pids[slot]: not psutil.pid_exists(pid),
                within_s=MOVED_S,
                what=f"{slot} stopped by its manager",
                every_s=0.01,
            )
            stopped_s[slot] = now_s()
        moved_s = wait_moved(three, slots, name, cut_s)
        assert moved_s <= MOVED_S
        for slot in acting + asking:
            before, after = wait_handed_over(three, slot, cut_s, MOVED_S)
            # A renewer asks the database, hears nothing, and acts no more by itself.
            stopped = stopped_s.get(slot, before.last_s)
            tell(
                last_act=before.last_s - cut_s,
                stopped=stopped - cut_s,
                first_act_elsewhere=after.first_s - cut_s,
                slots_moved=moved_s,
            )
            assert before.host == name
            assert after.host != name
            assert before.last_s - ACT_PAUSE_S <= stopped < after.first_s
            assert after.first_s - cut_s <= MOVED_S
            assert before.token < after.token
    finally:
        three.network.heal(name)
    for slot in acting:
        eventually(
            lambda pid=pids[slot]: three.is_proven_dead(pid),
            within_s=30,
            what=lambda slot=slot: f"{slot} proven dead: {three.ends()}",
        )


def test_a_killed_hosts_work_goes_on_elsewhere(three: ThreeHosts) -> None:
    name, slots = victim_of(three, "b")
    killed_s = now_s()
    three.hosts[name].killed()
    try:
        moved_s = wait_moved(three, slots, name, killed_s)
        tell(slots_moved=moved_s)
        assert moved_s <= MOVED_S
    finally:
        three.hosts[name].start()
        three.hosts[name].wait_ready(90)


def test_a_paused_hosts_work_goes_on_elsewhere_and_it_acts_no_more_when_it_wakes(three: ThreeHosts) -> None:
    name, slots = victim_of(three, "c")
    acting = next(f"{worker}/{slot}" for worker, slot in slots if worker == "renewer")
    tree = three.hosts[name].tree()
    three.paused |= {process.pid for process in tree}
    paused_s = now_s()
    for process in tree:
        process.send_signal(signal.SIGSTOP)
    try:
        moved_s = wait_moved(three, slots, name, paused_s)
        before, after = wait_handed_over(three, acting, paused_s, LEASE_MOVED_S)
        tell(
            last_act=before.last_s - paused_s,
            first_act_elsewhere=after.first_s - paused_s,
            slots_moved=moved_s,
        )
        assert moved_s <= MOVED_S
        assert before.last_s < after.first_s
        assert before.token < after.token
    finally:
        woken_s = now_s()
        for process in reversed(tree):
            process.send_signal(signal.SIGCONT)
    three.wait_balanced()
    before = next(span for span in three.spans()[acting] if span.token == before.token)
    assert before.last_s < woken_s + 2


def test_a_host_whose_manager_is_paused_loses_its_work_and_gets_it_back(three: ThreeHosts) -> None:
    name, slots = victim_of(three, "a")
    manager = three.hosts[name].role("fleet-manager")
    assert manager
    paused_s = now_s()
    manager.send_signal(signal.SIGSTOP)
    try:
        moved_s = wait_moved(three, slots, name, paused_s)
        tell(slots_moved=moved_s)
        assert moved_s <= MOVED_S
    finally:
        manager.send_signal(signal.SIGCONT)


def test_nobody_ever_acted_while_another_did(three: ThreeHosts) -> None:
    # A paused process that wakes acts once more before it can know: real acts are checked by their token.
    for slot, spans in three.spans().items():
        for earlier, later in pairwise(span for span in spans if span.pid not in three.paused):
            assert earlier.token < later.token
            assert earlier.last_s <= later.first_s + ACT_PAUSE_S, (slot, earlier, later)
    keepers = [psutil.Process(three.hosts[name].pid) for name in NAMES]
    assert all(keeper.is_running() for keeper in keepers)
