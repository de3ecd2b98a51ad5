"""`socialfleet health`: what the monitor found the last time it looked."""

import argparse

from coordination.health import latest_reports
from host.cli.fault import UNHEALTHY
from host.cli.person import Person


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="the whole report as a JSON object")
    parser.add_argument("--check", action="store_true", help="exit with 3 unless the fleet is healthy")


def run(options: argparse.Namespace, person: Person) -> int:
    """Print the newest report."""
    reports = latest_reports(person.database)
    if options.json:
        person.print_json(reports[0] if reports else None)
    elif not reports:
        print("the monitor has not looked yet: see socialfleet status")
    else:
        latest = reports[0]
        findings = latest["report"]["findings"]
        print(f"{latest['status']} at {latest['taken_at'].astimezone():%Y-%m-%d %H:%M:%S}")
        if findings:
            person.print_table(["LEVEL", "FINDING"], [[one["level"], one["message"]] for one in findings])
    is_healthy = bool(reports) and reports[0]["status"] == "healthy"
    return UNHEALTHY if options.check and not is_healthy else 0
