"""Wake-ups by eventfd: four kinds in one number."""

import os
from collections.abc import Iterator

import pytest

from workers.wake import VARIABLE, Wake, Woken, wait, wake


@pytest.fixture
def fd() -> Iterator[int]:
    made = os.eventfd(0, os.EFD_NONBLOCK)
    yield made
    os.close(made)


def test_calls_of_each_kind_are_heard_as_that_kind_once(fd: int) -> None:
    woken = Wake(fd)
    assert not woken.take()
    for _ in range(1000):
        wake(fd, "mail")
    assert woken.take() == Woken(mail=True)
    wake(fd, "jobs")
    assert woken.take() == Woken(jobs=True)
    wake(fd, "step")
    assert woken.take() == Woken(step=True)
    wake(fd, "step")
    wake(fd, "mail")
    assert woken.take() == Woken(mail=True, step=True)
    for _ in range(1000):
        wake(fd, "settings")
    assert woken.take() == Woken(settings=True)
    wake(fd, "mail")
    wake(fd, "settings")
    assert woken.take() == Woken(mail=True, settings=True)
    assert not woken.take()


def test_who_is_called_has_something_to_read(fd: int) -> None:
    assert wait([fd], 0) == set()
    wake(fd, "mail")
    assert wait([fd], 0) == {fd}


def test_a_full_counter_keeps_nobody_waiting(fd: int) -> None:
    os.eventfd_write(fd, 2**64 - 2)
    wake(fd, "step")
    wake(fd, "mail")
    wake(fd, "settings")
    wake(fd, "jobs")
    assert Wake(fd).take() == Woken(mail=True, jobs=True, step=True, settings=True)


def test_the_eventfd_is_taken_out_of_the_environment(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(fd))
    taken = Wake.from_environment()
    assert taken is not None
    assert taken.fileno() == fd
    assert Wake.from_environment() is None


def test_what_is_no_eventfd_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setenv(VARIABLE, str(reading))
    assert Wake.from_environment() is None
    os.close(reading)
    os.close(writing)
