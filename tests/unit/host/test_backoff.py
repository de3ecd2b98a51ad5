"""How long a failing thing is left alone."""

from host.backoff import Backoff


def test_waits_double_from_one_second_to_a_minute() -> None:
    backoff = Backoff(spread=lambda: 1.0)
    assert [backoff.next_s() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_jitter_is_full_from_nothing_to_the_whole_wait() -> None:
    assert Backoff(spread=lambda: 0.0).next_s() == 0
    waits = [Backoff().next_s() for _ in range(200)]
    assert all(0 <= wait <= 1 for wait in waits)
    assert min(waits) < 0.2
    assert max(waits) > 0.8


def test_cleared_it_begins_anew() -> None:
    backoff = Backoff(spread=lambda: 1.0)
    for _ in range(5):
        backoff.next_s()
    backoff.clear()
    assert backoff.next_s() == 1


def test_a_thing_that_fails_for_years_still_has_a_wait() -> None:
    backoff = Backoff(spread=lambda: 1.0)
    backoff.failures = 10**6
    assert backoff.next_s() == 60
