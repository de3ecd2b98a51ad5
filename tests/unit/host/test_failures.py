"""How often a slot may fail, and how long it is left alone."""

from host.slots.failures import Failures


def whole() -> Failures:
    return Failures(spread=lambda: 1.0)


def test_waits_double_until_the_fifth_within_two_minutes_which_is_a_crash_loop() -> None:
    failures = whole()
    assert [failures.next_s(at, counts=True) for at in (0, 1, 3, 7)] == [1, 2, 4, 8]
    assert not failures.is_loop
    assert failures.next_s(120.0, counts=True) == 60
    assert failures.is_loop
    assert failures.next_s(1000.0, counts=True) == 60
    assert failures.is_loop


def test_five_over_more_than_two_minutes_are_none() -> None:
    failures = whole()
    for at in (0, 1, 2, 3, 120.1):
        failures.next_s(at, counts=True)
    assert not failures.is_loop
    assert failures.count == 5


def test_what_does_not_count_waits_and_is_not_held_against_it() -> None:
    failures = whole()
    assert [failures.next_s(0, counts=False) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert failures.count == 0
    assert not failures.is_loop
    assert failures.next_s(0, counts=True) == 1
    assert failures.has_waited
    failures.clear()
    assert not failures.has_waited
    assert failures.next_s(0, counts=False) == 1


def test_cleared_all_begins_anew() -> None:
    failures = whole()
    for _ in range(5):
        failures.next_s(0, counts=True)
    failures.clear()
    assert (failures.count, failures.is_loop) == (0, False)
    assert failures.next_s(0, counts=True) == 1
