import importlib
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import workers.fleet
from workers import registry
from workers.base import Worker
from workers.errors import RegistryError


@pytest.fixture(autouse=True)
def fresh_registry() -> None:
    registry.find.cache_clear()


def write_worker(
    monkeypatch: pytest.MonkeyPatch, folder: Path, text: str, name: str = "thirdparty_file"
) -> None:
    (folder / f"{name}.py").write_text(text)
    monkeypatch.setattr(workers.fleet, "__path__", [*workers.fleet.__path__, str(folder)])
    monkeypatch.delitem(sys.modules, f"workers.fleet.{name}", raising=False)
    importlib.invalidate_caches()


def register(monkeypatch: pytest.MonkeyPatch, point: EntryPoint) -> None:
    def registered(*, group: str) -> list[EntryPoint]:
        return [point] if group == registry.GROUP else []

    monkeypatch.setattr(registry, "entry_points", registered)


def test_the_fleets_own_workers_are_found_by_their_files() -> None:
    assert set(registry.find()) == {
        "coordination",
        "discovery",
        "engagement",
        "maintenance",
        "mentions",
        "metrics",
        "monitoring",
        "planner",
        "poster",
    }


def test_putting_a_file_into_the_folder_registers_its_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_worker(
        monkeypatch,
        tmp_path,
        "from workers.base import Worker\n"
        "class Greeter(Worker):\n    'Say hello.'\n    name = 'greeter'\n    def step(self): ...\n",
    )
    assert registry.description(registry.get("greeter")) == "Say hello."


def test_a_file_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_worker(monkeypatch, tmp_path, "import nothing_of_that_name\n", name="broken_file")
    with pytest.raises(RegistryError, match=r"workers/fleet/broken_file\.py can't be loaded.*nothing_of"):
        registry.find()


def test_a_package_registers_its_worker_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("listener", "tests.unit.workers.third_party:Listener", registry.GROUP)
    register(monkeypatch, point)
    assert issubclass(registry.get("listener"), Worker)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("no.such.module:Thing", "can't be loaded"),
        ("tests.unit.workers.third_party:NotAWorker", "no subclass"),
        ("tests.unit.workers.third_party:SecondPoster", "a worker named 'poster' already"),
        ("tests.unit.workers.third_party:BadlyNamed", "name is 'Badly Named'"),
    ],
)
def test_a_package_that_registers_something_unusable_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    point = EntryPoint("x", value, registry.GROUP)
    register(monkeypatch, point)
    with pytest.raises(RegistryError, match=said):
        registry.find()


def test_an_unknown_worker_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(RegistryError, match=r"'postr': allowed is one of coordination, .*, poster"):
        registry.get("postr")


@pytest.mark.parametrize(
    ("key", "value"),
    [("planner_interval_s", 60), ("metrics_batch_size", 100), ("engagement_window_hours", 12)],
)
def test_a_setting_that_is_allowed_passes(key: str, value: object) -> None:
    registry.check_setting(key, value)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("planner_interval_s", 0, "planner_interval_s is 0: .*greater than or equal to 1"),
        ("planner_interval_s", True, "planner_interval_s is true: a truth value is not allowed"),
        ("planner_interval_s", "soon", "planner_interval_s is 'soon': .*number"),
        ("planner_intervall_s", 5, "no setting of planner: allowed are planner_interval_s"),
        ("engagement_window_hours", -1, "a number from 0 to 8784"),
        ("nobody_interval_s", 5, "belongs to no worker: allowed are keys that begin with coordination_"),
    ],
)
def test_a_setting_that_is_not_allowed_names_key_value_and_what_is(
    key: str, value: object, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        registry.check_setting(key, value)
