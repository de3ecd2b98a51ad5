"""`socialfleet worker`: the program's workers, where they may run and what they may use; one run here."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict

from coordination.errors import DatabaseBusyError, DatabaseUnavailableError
from coordination.workers import DesiredWorker, list_workers
from host.cli.fault import UNREACHABLE, USAGE, CliError
from host.cli.listing import NONE, add_json, moment, number_between, print_fields
from host.cli.order import TIMEOUT_S, Order, add_order, give
from host.cli.parser import require_known
from host.cli.person import Person
from host.cli.placement import in_words, read_placement, require_place
from host.cli.selector import Selector, worker_name
from host.state_directory import NoFleetError
from workers import process, registry
from workers.errors import RegistryError

MOST_SLOTS = 1000
LEAST_MEMORY_MB = 16
MOST_MEMORY_MB = 1 << 20
MOST_CPU_PERCENT = 100_000
MOST_NICE = 19
RUNS = "yes"
HEADS = [
    *("NAME", "SLOTS", "RUNS", "PLACEMENT", "MEMORY", "CPU", "NICE"),
    *("CHANGED BY", "CHANGED", "WHY", "DESCRIPTION"),
]


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    run_parser = actions.add_parser("run", help="run one worker here until Ctrl-C")
    run_parser.add_argument("name", metavar="NAME")
    run_parser.add_argument(
        "--slot",
        type=number_between(1, MOST_SLOTS),
        default=1,
        metavar="N",
        help="which replica (default: 1)",
    )
    listing = actions.add_parser("list", help="every worker: where it may run, what it may use, who said so")
    show = actions.add_parser("show", help="one worker, line by line")
    show.add_argument("name", type=worker_name, metavar="NAME")
    add_json(listing, show)
    setting = actions.add_parser("set", help="say where a worker may run, and what it may use")
    setting.add_argument("name", type=worker_name, metavar="NAME")
    setting.add_argument(
        "--placement",
        type=read_placement,
        metavar="P",
        help="any, host=H, or labels that a host must have: zone=a,gpu=yes",
    )
    setting.add_argument(
        "--memory-limit-mb",
        type=number_between(LEAST_MEMORY_MB, MOST_MEMORY_MB, none=True),
        metavar="N",
        help="of a process and its children together: above it, it drains and restarts; or none",
    )
    setting.add_argument(
        "--cpu-limit-percent",
        type=number_between(1, MOST_CPU_PERCENT, none=True),
        metavar="N",
        help="of one CPU over a minute: above it, it drains and restarts; or none",
    )
    setting.add_argument(
        "--nice",
        type=number_between(0, MOST_NICE),
        metavar="N",
        help="how far it lets others go first, 0 to 19",
    )
    add_order(setting)


def run(options: argparse.Namespace, person: Person) -> int:
    """Run, list, show or set."""
    match options.action:
        case "run":
            return process.run(options.name, slot=options.slot, config=person.config)
        case "set":
            return _set(options, person)
        case "show":
            return _show(options, person)
        case _:
            return _list(options, person)


def _list(options: argparse.Namespace, person: Person) -> int:
    kinds = _kinds()
    known, code = _known(person)
    if options.json:
        person.print_json([_as_json(name, kinds, known) for name in sorted({*kinds, *known})])
        return code
    person.print_table(HEADS, [_cells(name, kinds, known) for name in sorted({*kinds, *known})])
    if known and (new := sorted(kinds.keys() - known.keys())):
        person.warn(f"{', '.join(new)}: new in this program; socialfleet up makes it known when it starts")
    return code


def _show(options: argparse.Namespace, person: Person) -> int:
    kinds = _kinds()
    known, code = _known(person)
    require_known("worker", options.name, sorted({*kinds, *known}))
    shown = _as_json(options.name, kinds, known)
    if options.json:
        person.print_json(shown)
        return code
    worker = known.get(options.name)
    print_fields(
        {
            "name": shown["name"],
            "description": shown["description"],
            "in this program": "yes" if shown["here"] else "no",
            **(
                {"known": "no: socialfleet up makes it known when it starts"}
                if worker is None
                else _fields(worker)
            ),
        },
        width=16,
    )
    return code


def _kinds() -> Mapping[str, str]:
    """The workers that this program has, each with its description."""
    try:
        return {name: registry.description(kind) for name, kind in registry.find().items()}
    except RegistryError as error:
        raise CliError(str(error), exit_code=USAGE) from error


def _known(person: Person) -> tuple[Mapping[str, DesiredWorker], int]:
    """What the fleet wants of its workers, and the exit code; nothing, and why, where it can't be asked."""
    try:
        return {worker.name: worker for worker in list_workers(person.database)}, 0
    except NoFleetError:
        return {}, 0  # what the program has is an answer without a fleet too
    except (DatabaseUnavailableError, DatabaseBusyError) as error:
        person.warn(f"{error}; this is only what the program has")
        return {}, UNREACHABLE


def _as_json(name: str, kinds: Mapping[str, str], known: Mapping[str, DesiredWorker]) -> dict[str, object]:
    """A worker for programs; without what is wanted of it where the fleet doesn't know it."""
    worker = known.get(name)
    wanted = {} if worker is None else asdict(worker)
    described = kinds.get(name) or (worker.description if worker else "")
    return {**wanted, "name": name, "description": described, "here": name in kinds, "known": name in known}


def _cells(name: str, kinds: Mapping[str, str], known: Mapping[str, DesiredWorker]) -> list[object]:
    worker = known.get(name)
    if worker is None:
        return [name, *[None] * (len(HEADS) - 2), kinds[name]]
    return [
        name,
        worker.replicas,
        _runs(worker),
        in_words(worker.placement),
        _limit(worker.memory_limit_mb, " MB"),
        _limit(worker.cpu_limit_percent, "%"),
        worker.nice,
        worker.changed_by,
        moment(worker.changed_at),
        worker.reason,
        kinds.get(name, worker.description),
    ]


def _fields(worker: DesiredWorker) -> dict[str, object]:
    return {
        "should run": _runs(worker),
        "why not": None if _runs(worker) == RUNS else worker.stopped_reason or worker.paused_reason,
        "slots": f"{worker.replicas}, one at most" if worker.singleton else worker.replicas,
        "placement": in_words(worker.placement),
        "memory limit": _limit(worker.memory_limit_mb, " MB with all its children"),
        "CPU limit": _limit(worker.cpu_limit_percent, "% of one CPU over a minute"),
        "nice": worker.nice,
        "roles": ", ".join(worker.roles),
        "changed by": worker.changed_by,
        "changed at": moment(worker.changed_at),
        "reason": worker.reason,
    }


def _runs(worker: DesiredWorker) -> str:
    """Whether it should run, or what keeps it from that; single slots may be stopped or paused beside it."""
    if not worker.enabled:
        return "stopped"
    if not worker.flag_enabled:
        return f"flag {worker.name}_enabled is off"
    return "paused" if worker.paused else RUNS


def _limit(value: int | None, unit: str) -> str:
    return NONE if value is None else f"{value}{unit}"


def _set(options: argparse.Namespace, person: Person) -> int:
    given = {
        name: getattr(options, name)
        for name in ("placement", "memory_limit_mb", "cpu_limit_percent", "nice")
        if getattr(options, name) is not None
    }
    if not given:
        raise CliError(
            "nothing to set: give --placement, --memory-limit-mb, --cpu-limit-percent or --nice",
            exit_code=USAGE,
        )
    if placement := given.get("placement"):
        require_place(placement, options.name, person)
    order = Order(
        action="set",
        selector=Selector(text=options.name),
        args={name: None if value == NONE else value for name, value in given.items()},
        timeout_s=options.timeout or TIMEOUT_S,
    )
    return give(order, options, person)
