"""The state directory: locked, private, and removed without what isn't the fleet's."""

import os
import stat
from pathlib import Path

import pytest

from host.postgres_places import write_whole
from host.state_directory import FleetRunsError, NoFleetError, StateDirectory, StateUnusableError


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    directory = StateDirectory(tmp_path / "state")
    directory.make()
    return directory


def test_one_fleet_at_a_time(state: StateDirectory) -> None:
    with state.locked():
        assert state.is_running
        with pytest.raises(FleetRunsError, match=r"process \d+.*SOCIALFLEET_STATE_DIR"), state.locked():
            pass
    assert not state.is_running


def test_it_knows_whether_the_last_fleet_ended_in_order(state: StateDirectory) -> None:
    with state.locked() as crashed:
        assert not crashed
    with state.locked() as crashed:
        assert not crashed
    (state.path / "lock").write_text("4711\n")
    with state.locked() as crashed:
        assert crashed


def test_a_path_that_can_not_be_a_directory_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateUnusableError, match=r"SOCIALFLEET_STATE_DIR is .*can't be written"):
        StateDirectory(tmp_path / "file" / "state").make()


def test_no_fleet_yet_says_what_to_run(state: StateDirectory) -> None:
    with pytest.raises(NoFleetError, match=r"no fleet here yet .*run make up"):
        state.dsn("console")
    with pytest.raises(NoFleetError, match="run make up"):
        _ = state.account


def test_a_token_is_made_once_and_private(state: StateDirectory) -> None:
    state.ensure_token("console")
    file = state.path / "console.token"
    token = file.read_text()
    assert len(token.strip()) == 43
    assert file.stat().st_mode & 0o777 == 0o600
    state.ensure_token("console")
    assert file.read_text() == token


def test_erase_leaves_what_is_not_the_fleets(state: StateDirectory) -> None:
    state.ensure_token("console")
    state.put("dsn/worker", "postgresql://x")
    (state.path / "holiday.jpg").write_text("mine")
    assert state.erase() == ["holiday.jpg"]
    (state.path / "holiday.jpg").unlink()
    assert state.erase() == []
    assert not state.path.exists()


def test_erase_follows_no_link(state: StateDirectory, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    state.sandbox.rmdir()
    (state.path / "sandbox").symlink_to(precious)
    state.erase()
    assert (precious / "file").read_text() == "mine"


def test_a_running_fleets_directory_is_not_erased(state: StateDirectory) -> None:
    with state.locked(), pytest.raises(FleetRunsError, match="stop it first"):
        state.erase()
    assert state.logs.is_dir()


def test_what_it_makes_is_listed_by_nobody_else(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "new")
    state.make()
    assert stat.S_IMODE(state.path.stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)
    for part in ("dsn", "logs", "sandbox"):
        assert stat.S_IMODE((state.path / part).stat().st_mode) == 0o700


def test_a_directory_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir(mode=0o750)
    StateDirectory(given).make()
    assert stat.S_IMODE(given.stat().st_mode) == 0o750


def test_a_file_that_can_not_be_written_whole_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "status.json", "half \udc80 of a pair", mode=0o600)
    assert list(tmp_path.iterdir()) == []
