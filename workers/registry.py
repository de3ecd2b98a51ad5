"""The registry: workers are found by their files under `workers/fleet/`, and by entry points."""

import importlib
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import ValidationError
from pydantic.fields import FieldInfo

import workers.fleet
from coordination.settings import FLEET, Definition, FlagDefinition, SettingType
from workers.base import Worker, WorkerSettings, read_settings
from workers.errors import RegistryError

GROUP = "socialfleet.workers"
TYPES: dict[Any, SettingType] = {int: "int", float: "number", str: "text", bool: "bool"}
LISTS = (list, tuple, set, frozenset)
UNITS = {
    "_s": "s",
    "_ms": "ms",
    "_h": "h",
    "_hours": "h",
    "_days": "days",
    "_mb": "MB",
    "_usd": "USD",
    "_percent": "percent",
}
NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
FLEET_SETTINGS = {
    "cache_max_entries": (1.0, 100_000.0),
    "engagement_window_hours": (0.0, 8784.0),
    "engagement_spacing_s": (0.0, 86400.0),
    "engagement_per_account": (0.0, 1.0),
    "engagement_score_worth_s": (0.0, 86400.0),
    "engagement_ageing_s": (0.0, 86400.0),
    "engagement_escalation_s": (0.0, 86400.0),
    "header_window_s": (1.0, 86400.0),
    "quiet_time_s": (0.0, 86400.0),
    "rate_limit_ageing_s": (1.0, 86400.0),
    "rate_limit_patience_s": (0.01, 60.0),
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


def definitions() -> list[Definition]:
    """What each setting of the fleet and of every worker may be, as the database is told it."""
    own = [
        Definition(
            key=key,
            owner=FLEET,
            type="number",
            lowest=low,
            highest=high,
            unit=_unit(key),
        )
        for key, (low, high) in FLEET_SETTINGS.items()
    ]
    return own + [one for kind in find().values() for one in settings_of(kind)]


def settings_of(kind: type[Worker]) -> Iterator[Definition]:
    """What each setting of one worker may be."""
    told = _told(kind.settings_model)
    for name, field in kind.settings_model.model_fields.items():
        type_, choices, nullable = _type(field.annotation)
        low, high = _bounds(field)
        yield Definition(
            key=f"{kind.name}_{name}",
            owner=kind.name,
            type=type_,
            nullable=nullable,
            lowest=low,
            highest=high,
            choices=choices,
            default_value=kind.settings_model.model_construct().model_dump(mode="json")[name],
            unit=_unit(name) if type_ in {"int", "number"} else "",
            description=told.get(name, ""),
        )


def flags() -> list[FlagDefinition]:
    """The flags that the program has: one a worker."""
    return [flag_of(kind) for kind in find().values()]


def flag_of(kind: type[Worker]) -> FlagDefinition:
    """The flag by which a worker is switched off."""
    return FlagDefinition(
        name=f"{kind.name}_enabled", owner=kind.name, description=f"whether {kind.name} works"
    )


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


def _type(annotation: Any) -> tuple[SettingType, tuple[str, ...] | None, bool]:
    """A field's type as the database knows it, what it can be where that is a choice, and whether null is."""
    nullable = False
    if get_origin(annotation) in {Union, UnionType}:
        parts = [part for part in get_args(annotation) if part is not NoneType]
        nullable = len(parts) < len(get_args(annotation))
        annotation = parts[0] if len(parts) == 1 else object
    if get_origin(annotation) is Literal and all(isinstance(one, str) for one in get_args(annotation)):
        return "text", get_args(annotation), nullable
    if (get_origin(annotation) or annotation) in LISTS:
        return "list", None, nullable
    return TYPES.get(annotation, "json"), None, nullable


def _bounds(field: FieldInfo) -> tuple[float | None, float | None]:
    """The lowest and highest that a field allows; one that it excludes is refused by pydantic."""
    low = high = None
    for item in field.metadata:
        match item:
            case annotated_types.Ge(ge=bound) | annotated_types.Gt(gt=bound):
                low = float(bound)  # pyright: ignore[reportArgumentType]  a number's
            case annotated_types.Le(le=bound) | annotated_types.Lt(lt=bound):
                high = float(bound)  # pyright: ignore[reportArgumentType]  a number's
            case annotated_types.MinLen(min_length=length):
                low = float(length)
            case annotated_types.MaxLen(max_length=length):
                high = float(length)
            case _:
                pass
    return low, high


def _told(model: type[WorkerSettings]) -> dict[str, str]:
    """What the docstrings of a model and its parents say of each field."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        listed = inspect.cleandoc(vars(kind).get("__doc__") or "").partition("Attributes:")[2]
        found |= dict(re.findall(r"^ {4}(\w+): (.+?)\.?$", listed, flags=re.MULTILINE))
    return found


def _unit(name: str) -> str:
    return next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")


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
