"""`socialfleet jobs`: work as rows, what became of it, and the dead to start anew."""

import argparse

from coordination.jobs import STATES, decide_job, get_job, get_job_status, list_jobs
from host.cli.fault import FAILED, CliError
from host.cli.listing import add_json, add_limit, add_list, moment, number_of, print_fields
from host.cli.person import Person
from host.cli.reason import add_reason

ID = number_of("a job's number")


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = add_list(actions, "the newest jobs, ended or not", states=STATES)
    listing.add_argument("--kind", metavar="KIND", help="only those of this kind")
    add_limit(listing)
    status = actions.add_parser(
        "status", help="how many of each kind wait, run and ended, and for how long they waited"
    )
    show = actions.add_parser("show", help="one job with its payload, result and errors")
    show.add_argument("id", type=ID, metavar="ID")
    cancel = actions.add_parser("cancel", help="end a job that waits, and what depends on it")
    again = actions.add_parser("replay", help="start a dead or cancelled job anew")
    for decision in (cancel, again):
        decision.add_argument("id", type=ID, metavar="ID")
        add_reason(decision)
    add_json(listing, status, show, cancel, again)


def run(options: argparse.Namespace, person: Person) -> int:
    """List, count, show, cancel or replay."""
    if options.action == "list":
        _list(options, person)
    elif options.action == "status":
        _status(options, person)
    elif options.action == "show":
        _show(options, person)
    else:
        decided = decide_job(
            person.database, options.id, options.action, actor=person.actor, reason=options.reason
        )
        if options.json:
            person.print_json(decided)
        else:
            person.say(f"job {decided['id']} is {decided['state']}")
    return 0


def _list(options: argparse.Namespace, person: Person) -> None:
    rows = list_jobs(person.database, kind=options.kind, state=options.state, n=options.limit)
    if options.json:
        person.print_json(rows)
        return
    person.print_table(
        ["ID", "STATE", "KIND", "PRIORITY", "TRIES", "DUE", "ENDED", "KEY", "LAST ERROR"],
        [
            [
                row["id"],
                row["state"],
                row["kind"],
                row["priority"],
                f"{row['attempts']}/{row['max_attempts']}",
                moment(row["run_at"]),
                moment(row["finished_at"]),
                row["concurrency_key"],
                row["error"],
            ]
            for row in rows
        ],
    )


def _status(options: argparse.Namespace, person: Person) -> None:
    kinds = get_job_status(person.database)
    if options.json:
        person.print_json(kinds)
        return
    person.print_table(
        ["KIND", "WAIT", "RUN", "OLDEST DUE", "DONE", "FAILED", "DEAD", "MEAN WAIT", "MEAN RUN"],
        [
            [
                kind["kind"],
                str(kind["available"] + kind["retryable"]),
                str(kind["running"]),
                f"{kind['oldest_due_s']:.0f} s",
                str(kind["completed"]),
                str(kind["failed"]),
                str(kind["dead"]),
                f"{kind['wait_s'] / max(1, kind['claimed']):.1f} s",
                f"{kind['run_s'] / max(1, kind['completed'] + kind['failed']):.1f} s",
            ]
            for kind in kinds
        ],
    )


def _show(options: argparse.Namespace, person: Person) -> None:
    job = get_job(person.database, options.id)
    if job is None:
        raise CliError(f"there is no job {options.id}: see socialfleet jobs list", exit_code=FAILED)
    if options.json:
        person.print_json(job)
        return
    errors = job.pop("errors")
    print_fields(job, width=18)
    if errors:
        person.print_table(
            ["ATTEMPT", "AT", "ERROR"], [[one["attempt"], one["at"], one["error"]] for one in errors]
        )
