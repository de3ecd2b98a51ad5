"""The registry: workers are found by their files under `workers/fleet/`, and by entry points."""

import importlib
import importlib.util
import inspect
import pkgutil
import re
from functools import cache
from importlib.metadata import entry_points

from pydantic import ValidationError

import workers.fleet
from workers.base import Worker, read_settings
from workers.errors import RegistryError

GROUP = "socialfleet.workers"
NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
FLEET_SETTINGS = {
    "engagement_window_hours": (0.0, 8784.0),
    "quiet_time_s": (0.0, 86400.0),
    "rate_limit_ageing_s": (1.0, 86400.0),
    "request_delay_s": (0.0, 600.0),
}
"""Settings of the fleet itself: numbers, lowest and highest allowed."""


@cache
def find() -> dict[str, type[Worker]]:
    """Every worker by name: the fleet's own files, then what installed packages register.

    Raises:
        RegistryError: names the file or package that can't be loaded, or the name given twice.
    """
    found: dict[str, type[Worker]] = {}
    for module in pkgutil.iter_modules(workers.fleet.__path__, "workers.fleet."):
        for kind in _in_file(module.name):
            _add(found, kind, module.name)
    for point in entry_points(group=GROUP):
        try:
            loaded: object = point.load()
        except Exception as error:
            raise RegistryError(
                f"worker {point.name!r} of package {_package(point.value)} can't be loaded: {error}"
            ) from error
        if not (inspect.isclass(loaded) and issubclass(loaded, Worker)):
            raise RegistryError(f"worker {point.name!r}: {point.value} is no subclass of workers.base.Worker")
        _add(found, loaded, point.value)
    return dict(sorted(found.items()))


def get(name: str) -> type[Worker]:
    """The worker of that name; raises `RegistryError` that lists the names there are.

    A worker whose file has its name is found without loading the others: each is a process of its own, and
    what they import is not small.
    """
    if NAME.fullmatch(name) and importlib.util.find_spec(f"workers.fleet.{name}"):
        for kind in _in_file(f"workers.fleet.{name}"):
            if kind.name == name:
                return kind
    known = find()
    if name not in known:
        raise RegistryError(f"worker is {name!r}: allowed is one of {', '.join(known)}")
    return known[name]


def description(kind: type[Worker]) -> str:
    """The first line of the worker's docstring."""
    return (inspect.getdoc(kind) or kind.name).split("\n", 1)[0]


def roles(name: str) -> tuple[str, ...]:
    """The roles of the worker of that name; none where the program has no such worker."""
    kind = find().get(name)
    return kind.roles if kind else ()


def check_setting(key: str, value: object) -> None:
    """Check a setting before it is written, with the model of the worker that it belongs to.

    Raises:
        ValueError: a sentence that names the key, the value and what is allowed.
    """
    if key in FLEET_SETTINGS:
        low, high = FLEET_SETTINGS[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"{key} is {value!r}: allowed is a number from {low:g} to {high:g}")
        return
    owners = [kind for name, kind in find().items() if key.startswith(f"{name}_")]
    if not owners:
        raise ValueError(
            f"{key} belongs to no worker: allowed are keys that begin with "
            f"{', '.join(f'{name}_' for name in find())}, "
            f"and {', '.join(FLEET_SETTINGS)}"
        )
    owner = max(owners, key=lambda kind: len(kind.name))
    field = key.removeprefix(f"{owner.name}_")
    known = owner.settings_model.model_fields
    if field not in known:
        allowed = ", ".join(f"{owner.name}_{name}" for name in known)
        raise ValueError(f"{key} is no setting of {owner.name}: allowed are {allowed}")
    if isinstance(value, bool) and known[field].annotation is not bool:
        raise ValueError(f"{key} is {str(value).lower()}: a truth value is not allowed here")
    try:
        read_settings(owner, {key: value})
    except ValidationError as error:
        raise ValueError(f"{key} is {value!r}: {error.errors()[0]['msg']}") from None


def _in_file(module: str) -> list[type[Worker]]:
    try:
        loaded = importlib.import_module(module)
    except Exception as error:
        raise RegistryError(f"{module.replace('.', '/')}.py can't be loaded: {error}") from error
    return [
        kind
        for _, kind in inspect.getmembers(loaded, inspect.isclass)
        if issubclass(kind, Worker) and kind.__module__ == module and "name" in vars(kind)
    ]


def _add(found: dict[str, type[Worker]], kind: type[Worker], where: str) -> None:
    if not NAME.fullmatch(kind.name):
        raise RegistryError(
            f"{where}: name is {kind.name!r}: allowed are 1 to 63 lower-case letters, digits, _ and -"
        )
    for role in kind.roles:
        if not NAME.fullmatch(role):
            raise RegistryError(
                f"{where}: a role is {role!r}: allowed are 1 to 63 lower-case letters, digits, _ and -"
            )
    if kind.name in found:
        raise RegistryError(
            f"{where}: there is a worker named {kind.name!r} already, in {found[kind.name].__module__}"
        )
    found[kind.name] = kind


def _package(value: str) -> str:
    return value.partition(":")[0]
