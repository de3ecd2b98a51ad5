"""The history checker: it finds every planted violation, and blames no correct history."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fault.history import FOREVER, History, Operation, Recorder, read
from tests.fault.history_checker import INVARIANTS, check
from tests.fault.history_limits import weighted_max_min
from tests.fault.simulated import Simulated


def take(thing: str, token: int, began: float, *, until: float, life: str = "a", **held: Any) -> Operation:
    """A take that was decided within a second, with a lease to `until`."""
    return Operation(
        life=life,
        kind="take",
        thing=thing,
        given={"seconds": 1},
        began=began,
        ended=began + 1,
        after=began + 1.5,
        answer={"holds": [{"thing": thing, "token": token, "expires": until, **held}]},
    )


def claim(began: float, *things: str, n: int = 1, token: int = 1, attempt: int | None = None) -> Operation:
    holds = [{"thing": thing, "token": token, "expires": began + 60, "attempt": attempt} for thing in things]
    return Operation(
        life="a", kind="take", thing="job:a", given={"source": "job:a", "n": n}, began=began, ended=began + 1,
        after=began + 2, answer={"holds": holds},
    )  # fmt: skip


def lost_claim(began: float) -> Operation:
    return Operation(
        kind="take", thing="job:a", given={"source": "job:a", "n": 1}, outcome="unknown", began=began
    )


def told(kind: str, thing: str, began: float, *, life: str = "a", **said: Any) -> Operation:
    answer = {name: said.pop(name) for name in ("expires", "reason") if name in said}
    outcome = said.pop("outcome", "ok")
    return Operation(
        life=life, kind=kind, thing=thing, given=said, outcome=outcome, began=began, ended=began + 1,
        after=began + 2, answer=answer,
    )  # fmt: skip


def put(thing: str, began: float, rank: int = 2) -> Operation:
    return Operation(
        kind="put", thing="job:a", given={"rank": rank}, began=began, ended=began + 1, after=began + 2,
        answer={"thing": thing},
    )  # fmt: skip


def grants(number: int, *, every_s: float, worker: str = "w") -> list[Operation]:
    return [
        Operation(kind="grant", thing="limit:a", given={"worker": worker}, began=at, ended=at, after=at,
                  answer={"grant": f"{worker}{at}"})
        for at in (100 + every_s * number for number in range(number))
    ]  # fmt: skip


def waited(
    token: int, began: float, ended: float, *, rank: int = 1, outcome: Any = "ok", life: str = "a"
) -> Operation:
    """One that stood in line for `lock:a` from `began` on and polled four times a second."""
    polls = [*(began + 0.25 * number for number in range(int((ended - began) * 4))), ended - 0.01]
    holds = [{"thing": "lock:a", "token": token, "expires": ended + 0.5}] if outcome == "ok" else []
    return Operation(
        life=life, kind="take", thing="lock:a", outcome=outcome,
        given={"rank": rank, "seconds": 0.5, "wait_s": 100},
        began=began, ended=ended, after=ended,
        answer={"holds": holds, "polls": polls, "in_line": began + 0.1, "reason": "waited"},
    )  # fmt: skip


LIMITS = {"limit:a": [(5, 10.0)]}
PERIOD = Operation(
    kind="period", thing="limit:a", given={"workers": {"w": (1, 100), "v": (1, 100)}}, began=0, ended=1000
)

PLANTED: Mapping[str, tuple[str, History]] = {
    "a second holder while the first lives and its lease runs": (
        "I1",
        History(operations=[
            take("lock:a", 1, 10, until=100),
            told("alive", "", 50),
            take("lock:a", 2, 20, until=100, life="b"),
            told("alive", "", 50, life="b"),
        ]),
    ),
    "a second holder while the first goes on writing": (
        "I1",
        History(operations=[
            take("lock:a", 1, 10, until=100),
            told("keep", "lock:a", 40, token=1, expires=200),
            take("lock:a", 2, 20, until=100, life="b"),
            told("keep", "lock:a", 44, token=2, expires=200),
        ]),
    ),
    "a second holder, of whom nothing more is heard, while the first lives": (
        "I1",
        History(operations=[
            take("lock:a", 1, 10, until=100), told("alive", "", 50),
            take("lock:a", 2, 20, until=100, life="b"),
        ]),
    ),
    "a job that two have": (
        "I1",
        History(operations=[
            claim(10, "job:a:1", token=1), claim(12, "job:a:1", token=2), told("alive", "", 30),
        ]),
    ),
    "a token given twice": (
        "I2", History(operations=[take("lock:a", 1, 10, until=12), take("lock:a", 1, 20, until=22)]),
    ),
    "one token for two things": (
        "I2", History(operations=[take("lock:a", 1, 10, until=12), take("lock:b", 1, 10, until=22)]),
    ),
    "a lower token later": (
        "I2", History(operations=[take("lock:a", 7, 10, until=12), take("lock:b", 6, 20, until=22)]),
    ),
    "a release after a newer grant": (
        "I3",
        History(operations=[
            take("lock:a", 1, 10, until=12), take("lock:a", 2, 20, until=22, life="b"),
            told("give", "lock:a", 30, token=1),
        ]),
    ),
    "a report on a job after a newer claim": (
        "I3",
        History(operations=[
            claim(10, "job:a:1", token=1), claim(90, "job:a:1", token=2),
            told("give", "job:a:1", 95, token=1, final=True),
        ]),
    ),
    "a release after a newer grant that was asked for at the same time": (
        "I3",
        History(operations=[
            take("lock:a", 1, 10, until=12), take("lock:a", 2, 10.5, until=22, life="b"),
            told("give", "lock:a", 30, token=1),
        ]),
    ),
    "a renewal after it was given back": (
        "I3",
        History(operations=[
            take("lock:a", 1, 10, until=100), told("give", "lock:a", 12, token=1),
            told("keep", "lock:a", 20, token=1, expires=99),
        ]),
    ),
    "a reservation that is given back twice": (
        "I3",
        History(operations=[
            take("reservation:1", 1, 10, until=90, pool="pool:a"),
            told("give", "reservation:1", 12, token=1), told("give", "reservation:1", 20, token=1),
        ], capacities={"pool:a": 3}),
    ),
    "a write under another life's token": (
        "I3",
        History(operations=[take("lock:a", 1, 10, until=100), told("give", "lock:a", 12, token=1, life="b")]),
    ),
    "a renewal after the lease was over": (
        "I3",
        History(operations=[
            take("lock:a", 1, 10, until=12), told("keep", "lock:a", 13, token=1, expires=99),
        ]),
    ),
    "a write under a token that was never given": (
        "I3", History(operations=[take("lock:a", 1, 10, until=12), told("give", "lock:a", 11, token=5)]),
    ),
    "one request too many in a window": ("I9", History(operations=grants(6, every_s=1.9), limits=LIMITS)),
    "one too many in the longer window": (
        "I9", History(operations=grants(12, every_s=4), limits={"limit:a": [(5, 10.0), (11, 60.0)]}),
    ),
    "requests under way that are not counted": (
        "I10",
        History(
            operations=[
                *grants(10, every_s=2.5),
                *(told("settle", "limit:a", 130, grant=f"w{100 + 2.5 * n}", life="l") for n in range(10)),
                told("alive", "", 140, life="l"),
            ],
            limits=LIMITS,
        ),
    ),
    "more units than a pool has": (
        "I11",
        History(
            operations=[
                *(take(f"reservation:{n}", n, 10 + n, until=90, pool="pool:a") for n in range(4)),
                told("alive", "", 50),
            ],
            capacities={"pool:a": 3},
        ),
    ),
    "a unit too many for one of whom nothing more is heard": (
        "I11",
        History(
            operations=[
                *(take(f"reservation:{n}", n, 10, until=90, pool="pool:a") for n in range(1, 4)),
                told("alive", "", 50),
                take("reservation:9", 9, 20, until=90, pool="pool:a", life="b"),
            ],
            capacities={"pool:a": 3},
        ),
    ),
    "large units than a pool has": (
        "I11",
        History(
            operations=[
                take("reservation:1", 1, 10, until=90, pool="pool:a", units=2),
                take("reservation:2", 2, 10, until=90, pool="pool:a", units=2),
                told("alive", "", 50),
            ],
            capacities={"pool:a": 3},
        ),
    ),
    "a later job first": (
        "I12",
        History(operations=[
            put("job:a:1", 10), put("job:a:2", 20), claim(30, "job:a:2", token=1),
            claim(40, "job:a:1", token=2),
        ]),
    ),
    "a less urgent job first": (
        "I12",
        History(operations=[
            put("job:a:1", 10, rank=1), put("job:a:2", 20, rank=3), claim(30, "job:a:1", token=1),
            claim(40, "job:a:2", token=2),
        ]),
    ),
    "nothing given while a job waits": (
        "I13", History(operations=[put("job:a:1", 10), claim(30), claim(40, "job:a:1")]),
    ),
    "less given than asked for while jobs wait": (
        "I13",
        History(operations=[
            put("job:a:1", 10), put("job:a:2", 10), claim(30, "job:a:1", n=2), claim(40, "job:a:2", token=2),
        ]),
    ),
    "nothing given while a job waits that nobody had before, whatever was lost meanwhile": (
        "I13",
        History(operations=[
            put("job:a:1", 10), lost_claim(12), claim(30), claim(50, "job:a:1", attempt=1),
        ]),
    ),
    "no room, says the answer, and there is": (
        "I13",
        History(
            operations=[
                take("reservation:1", 1, 10, until=90, pool="pool:a", units=2),
                told("take", "pool:a", 20, outcome="refused", reason="no_room", units=1),
            ],
            capacities={"pool:a": 3},
        ),
    ),
    "no room, says the answer, after it was given back": (
        "I13",
        History(
            operations=[
                take("reservation:1", 1, 10, until=90, pool="pool:a", units=3),
                told("give", "reservation:1", 12, token=1),
                told("take", "pool:a", 20, outcome="refused", reason="no_room", units=3),
            ],
            capacities={"pool:a": 3},
        ),
    ),
    "held, says the answer, and nobody has it": (
        "I13",
        History(operations=[
            take("lock:a", 1, 10, until=12), told("take", "lock:a", 20, outcome="refused", reason="held"),
        ]),
    ),
    "held, after it was given back": (
        "I13",
        History(operations=[
            take("lock:a", 1, 10, until=100), told("give", "lock:a", 12, token=1),
            told("take", "lock:a", 20, outcome="refused", reason="held"),
        ]),
    ),
    "one that came later goes first": (
        "I12",
        History(operations=[
            waited(1, 10, 20, life="b"), waited(2, 12, 16), told("alive", "", 30, life="b"),
        ]),
    ),
    "one less urgent goes first": (
        "I12",
        History(operations=[
            waited(1, 12, 20, rank=3, life="b"), waited(2, 10, 16, rank=1), told("alive", "", 30, life="b"),
        ]),
    ),
    "one waits for what nobody has": (
        "I13", History(operations=[waited(0, 10, 20, outcome="refused"), take("lock:a", 1, 5, until=9)]),
    ),
    "one worker has nearly all": (
        "I14",
        History(
            operations=[*grants(30, every_s=10), *grants(10, every_s=11, worker="v"), PERIOD], limits=LIMITS
        ),
    ),
    "done twice": (
        "I15",
        History(operations=[
            claim(10, "job:a:1"), told("give", "job:a:1", 12, token=1, final=True),
            told("give", "job:a:1", 15, token=1, final=True),
        ]),
    ),
    "given out after it was done": (
        "I15",
        History(operations=[
            claim(10, "job:a:1"), told("give", "job:a:1", 12, token=1, final=True),
            claim(20, "job:a:1", token=2),
        ]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_violation_is_found(name: str) -> None:
    invariant, history = PLANTED[name]
    assert invariant in {found.invariant for found in check(history)}


def test_each_invariant_has_a_planted_violation() -> None:
    assert {invariant for invariant, _ in PLANTED.values()} == set(INVARIANTS)


INNOCENT: Mapping[str, History] = {
    "the next holder after the lease": History(operations=[
        take("lock:a", 1, 10, until=20), told("alive", "", 50), take("lock:a", 2, 20, until=60, life="b"),
        told("alive", "", 50, life="b"),
    ]),
    "the next holder after the first gave it back": History(operations=[
        take("lock:a", 1, 10, until=100), told("give", "lock:a", 15, token=1), told("alive", "", 50),
        take("lock:a", 2, 16, until=60, life="b"),
    ]),
    "the heir of one whose session was lost": History(operations=[
        take("lock:a", 1, 10, until=100), told("alive", "", 15), take("lock:a", 2, 20, until=60, life="b"),
        told("give", "lock:a", 40, token=1, outcome="refused"),
    ]),
    "a release whose answer was lost": History(operations=[
        take("lock:a", 1, 10, until=100), told("give", "lock:a", 15, token=1, outcome="unknown"),
        take("lock:a", 2, 17, until=60, life="b"), told("alive", "", 50), told("alive", "", 50, life="b"),
    ]),
    "a refusal after an answer that was lost": History(operations=[
        Operation(kind="take", thing="lock:a", given={"seconds": 5}, outcome="unknown", began=10),
        told("take", "lock:a", 20, outcome="refused", reason="held", life="b"),
    ]),
    "a refusal for another reason": History(operations=[
        told("take", "lock:a", 20, outcome="refused", reason="recent_engagement"),
    ]),
    "tokens of takes side by side in any order": History(operations=[
        take("lock:a", 7, 10, until=12), take("lock:b", 6, 10.5, until=12),
    ]),
    "a job that somebody who was killed may have locked": History(operations=[
        put("job:a:1", 10), lost_claim(29), claim(30), claim(50, "job:a:1", attempt=1),
    ]),
    "a job that somebody who was killed may have had": History(operations=[
        put("job:a:1", 10), lost_claim(12), claim(30), claim(50, "job:a:1", attempt=2),
    ]),
    "no room while a unit may be out": History(
        operations=[
            take("reservation:1", 1, 10, until=90, pool="pool:a", units=2),
            Operation(kind="take", thing="pool:a", given={"seconds": 5}, outcome="unknown", began=17),
            told("take", "pool:a", 20, outcome="refused", reason="no_room", units=1),
        ],
        capacities={"pool:a": 3},
    ),
    "a unit for the heir of one whose session was lost": History(
        operations=[
            *(take(f"reservation:{n}", n, 10, until=90, pool="pool:a") for n in range(1, 4)),
            told("alive", "", 15),
            take("reservation:9", 9, 20, until=90, pool="pool:a", life="b"),
            told("alive", "", 50, life="b"),
        ],
        capacities={"pool:a": 3},
    ),
    "two takes side by side, and of the first nothing more is heard": History(operations=[
        take("lock:a", 1, 10, until=100), take("lock:a", 2, 10.5, until=100, life="b"),
        told("alive", "", 50, life="b"),
    ]),
    "a job that was not there when the asking began": History(operations=[
        put("job:a:1", 30), claim(31), claim(50, "job:a:1"),
    ]),
    "a more urgent job that another takes meanwhile": History(operations=[
        put("job:a:1", 10, rank=3), put("job:a:2", 12), claim(30, "job:a:2", token=2),
        claim(30.5, "job:a:1", token=1),
    ]),
    "one that came later goes first, and the other was silent": History(operations=[
        Operation(kind="take", thing="lock:a", given={"rank": 1, "wait_s": 100}, outcome="refused", began=10,
                  ended=20, answer={"polls": [10, 13.5, 19], "in_line": 10.1, "reason": "waited"}, life="b"),
        waited(2, 12, 16), told("alive", "", 30, life="b"),
    ]),
    "one that came later goes first, and the other had lost its session": History(operations=[
        waited(1, 10, 20, outcome="refused", life="b"), waited(2, 12, 16), told("alive", "", 14, life="b"),
        take("lock:a", 3, 17, until=30),
    ]),
    "one that came later goes first, and the other's time was over": History(operations=[
        Operation(kind="take", thing="lock:a", given={"rank": 1, "wait_s": 4}, outcome="refused", began=10,
                  ended=17, answer={"polls": [10 + 0.25 * n for n in range(28)], "in_line": 10.1}, life="b"),
        waited(2, 12, 16), told("alive", "", 30, life="b"),
    ]),
    "a long wait is worth a step of priority": History(operations=[
        waited(3, 80, 90, rank=2, life="b"), waited(2, 10, 85), told("alive", "", 95, life="b"),
        take("lock:a", 1, 5, until=84),
    ]),
    "one waits for what others have": History(operations=[
        waited(1, 10, 20, outcome="refused"), take("lock:a", 2, 5, until=14.5),
        take("lock:a", 3, 16, until=30),
    ]),
    "as many requests as allowed": History(operations=grants(40, every_s=2.0), limits=LIMITS),
    "shares as they should be": History(
        operations=[*grants(20, every_s=10), *grants(20, every_s=11, worker="v"), PERIOD],
        limits={"limit:a": [(50, 10.0)]},
    ),
    "who wants little gets it and the rest is the other's": History(
        operations=[
            *grants(35, every_s=10), *grants(5, every_s=11, worker="v"),
            Operation(kind="period", thing="limit:a", given={"workers": {"w": (1, 100), "v": (3, 5)}},
                      began=0, ended=1000),
        ],
        limits={"limit:a": [(50, 10.0)]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INNOCENT)
def test_a_correct_history_is_not_blamed(name: str) -> None:
    assert check(INNOCENT[name]) == []


@given(seed=st.integers(0, 2**32), lives=st.integers(1, 8))
def test_no_history_of_a_correct_system_is_blamed(seed: int, lives: int) -> None:
    history = Simulated(random.Random(seed)).run(300, lives)
    assert check(history) == []


@given(
    total=st.floats(0, 1000),
    wanted=st.dictionaries(
        st.text(max_size=3), st.tuples(st.floats(0.1, 10), st.floats(0, 500)), min_size=1, max_size=6
    ),
)
def test_max_min_shares_leave_nothing_and_nobody_could_have_more(
    total: float, wanted: dict[str, tuple[float, float]]
) -> None:
    shares = weighted_max_min(total, wanted)
    assert all(shares[name] <= demand + 1e-6 for name, (_, demand) in wanted.items())
    assert sum(shares.values()) == pytest.approx(min(total, sum(demand for _, demand in wanted.values())))
    level = max((shares[name] / weight for name, (weight, _) in wanted.items()), default=0.0)
    for name, (weight, demand) in wanted.items():
        assert shares[name] == pytest.approx(demand) or shares[name] / weight == pytest.approx(level)


def test_what_a_process_wrote_is_read_back_and_what_it_was_not_told_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    with Recorder(path, "one") as recorder:
        first = recorder.asks("take", "lock:a", "life", {"seconds": 1})
        recorder.told(first, "ok", (10.0, 11.0), {"holds": []})
        failed = recorder.asks("keep", "lock:a", "life", {"token": 3})
        recorder.told(failed, "refused", None, None)
        beat = recorder.asks("alive", "", "life", {})
        recorder.told(beat, "ok", (20.0, 21.0), None)
        recorder.asks("give", "lock:a", "life", {"token": 3})
    with path.open("ab") as file:
        file.write(b'{"n":5,"p":"on')
    taken, kept, lived, gave = read([path])
    assert (taken.outcome, taken.began, taken.ended, taken.after) == ("ok", 10.0, 11.0, 20.0)
    assert (kept.outcome, kept.began, kept.ended, kept.after) == ("refused", 11.0, FOREVER, 20.0)
    assert (lived.outcome, lived.after) == ("ok", FOREVER)
    assert (gave.outcome, gave.began, gave.ended) == ("unknown", 21.0, FOREVER)
