"""The machine: a name that two machines of one image don't share, and that outlives a boot."""

from collections.abc import Callable
from pathlib import Path

import pytest

from host import machine
from host.machine import identity
from host.state_directory import PARTS, StateDirectory

IMAGES = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What names a machine with this state directory and this /etc/machine-id."""
    (tmp_path / "proc/self/ns").mkdir(parents=True)
    (tmp_path / "proc/self/ns/pid").touch()
    monkeypatch.setattr(
        machine, "INITIAL_PID_NAMESPACE", (tmp_path / "proc/self/ns/pid").stat().st_ino, raising=True
    )

    def name(state: str, machine_id: str | None = IMAGES) -> str:
        etc = tmp_path / "etc"
        etc.mkdir(exist_ok=True)
        (etc / "machine-id").unlink(missing_ok=True)
        if machine_id is not None:
            (etc / "machine-id").write_text(f"{machine_id}\n")
        directory = StateDirectory(tmp_path / state)
        directory.make()
        return identity(directory, etc=etc, proc=tmp_path / "proc")

    return name


def test_it_stays_the_same_and_tells_nothing_of_what_it_is_made_from(named: Callable[..., str]) -> None:
    first = named("a")
    assert first == named("a")
    assert len(first) == 32
    assert first != IMAGES


def test_two_machines_of_one_image_are_two(named: Callable[..., str]) -> None:
    assert named("a") != named("b")


def test_a_state_directory_that_moved_to_another_machine_is_not_that_machine(
    named: Callable[..., str],
) -> None:
    assert named("a") != named("a", "f" * 32)


@pytest.mark.parametrize("machine_id", [None, "", "uninitialized", IMAGES[:31]])
def test_where_nothing_names_the_machine_nothing_is_said(
    named: Callable[..., str], machine_id: str | None
) -> None:
    assert named("a", machine_id) == ""


def test_in_a_container_nothing_is_said(named: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert named("a")
    monkeypatch.setattr(machine, "INITIAL_PID_NAMESPACE", 1)
    assert named("a") == ""


def test_a_disk_that_takes_nothing_proves_nothing(tmp_path: Path) -> None:
    assert identity(StateDirectory(tmp_path / "never made")) == ""


def test_it_goes_with_the_state_directory() -> None:
    assert machine.PART in PARTS
