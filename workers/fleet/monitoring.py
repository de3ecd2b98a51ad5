"""Monitoring: how the whole fleet is, and what a person should look at."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from pydantic import Field

from coordination.messages import Message
from workers.base import Worker
from workers.handlers import handles
from workers.intervals import also, minutes
from workers.tasks import Escalation, SystemIssue
from workers.vital_signs import Finding, Thresholds, findings


class MonitoringSettings(Thresholds):
    """The monitor's live settings: its thresholds, and how far back it looks.

    Attributes:
        window_s: how far back runs are counted, in fleet time.
        watch_interval_s: seconds between looks for what began or ended; None: a minute.
    """

    window_s: float = Field(default=3600, ge=1, le=604_800)
    watch_interval_s: float | None = Field(default=None, ge=1, le=31_622_400)


@dataclass(frozen=True, kw_only=True)
class Look:
    """How the fleet is, what of it a person should look at, and what that was when it was kept last."""

    report: dict[str, Any]
    found: Mapping[str, Finding]
    before: Mapping[str, Finding]

    @property
    def is_news(self) -> bool:
        """Whether something began, became better or worse, or ended since."""
        return _levels(self.found) != _levels(self.before)


class Monitoring(Worker):
    """Take a snapshot of the fleet's health and tell what changed for the worse."""

    name = "monitoring"
    every = minutes(15)
    singleton = True
    settings_model = MonitoringSettings
    settings: MonitoringSettings  # pyright: ignore[reportIncompatibleVariableOverride]  the same, narrower
    roles: ClassVar[tuple[str, ...]] = ("system_issue",)

    @handles("TASK_DELEGATION", SystemIssue)
    def issue(self, message: Message, task: SystemIssue) -> None:
        """Tell a person what another worker found; told again when it is delivered again."""
        self.fleet.audit.event(
            task.severity, "issue", f"{message.sender}: {task.issue}", {"message": message.id}
        )

    @handles("PRIORITY_ESCALATION", Escalation)
    def escalation(self, message: Message, urgent: Escalation) -> None:
        """Tell a person what waits too long; told again when it is delivered again."""
        told = f"{urgent.kind} {urgent.which} is {urgent.priority or 'urgent'}: {urgent.reason}"
        self.fleet.audit.event("warning", "escalated", told, {"message": message.id})

    def step(self) -> None:
        """Gather, judge, keep; tell each finding once, when it begins, and once when it is over.

        What is critical is an alert for as long as it is; so is a breaker that stays open.
        """
        self.all_parts(
            {"watch breakers": self.fleet.breakers.watch, "look": lambda: self._keep(self._look())}
        )

    @also(every=minutes(1))
    def watch(self) -> None:
        """Look again between two snapshots; take one at once where something began, changed or ended.

        The pools get the capacity that the database's load leaves them.
        """
        look = self._look()
        self.all_parts(
            {
                "keep": lambda: self._keep(look) if look.is_news else None,
                "relieve": lambda: self._relieve(look.report["database"]),
            }
        )

    def _look(self) -> Look:
        report = self.fleet.health.gather(window_s=self.settings.window_s)
        kept: list[dict[str, Any]] = report.pop("before") or []
        return Look(
            report=report,
            found={finding.key: finding for finding in findings(report, self.settings)},
            before={one["key"]: Finding(**one) for one in kept},
        )

    def _relieve(self, database: Mapping[str, Any]) -> None:
        """Let less work begin the nearer the fleet is to the end of the database's sessions."""
        load = database["connections"] / database["most_connections"]
        for pool in self.fleet.reservations.get_pool_status(standing=True):
            if pool["resource_type"] != "api_quota" and pool["min_capacity"] != pool["max_capacity"]:
                self.fleet.reservations.adjust_capacity(pool["resource_type"], pool["resource_id"], load)

    def _keep(self, look: Look) -> None:
        found, before = look.found, look.before
        levels = {finding.level for finding in found.values()}
        status = "critical" if "critical" in levels else "warning" if levels else "healthy"
        self._alert(found, before)  # before what was found is kept: a step that is cut short does it again
        self.fleet.health.keep(status, {**look.report, "findings": [asdict(one) for one in found.values()]})
        for key, finding in found.items():
            if key not in before or before[key].level != finding.level:
                severity = "error" if finding.level == "critical" else "warning"
                self.fleet.audit.event(severity, "health", finding.message, {"key": key})
        for key, finding in before.items():
            if key not in found:
                self.fleet.audit.event("info", "health", f"over: {finding.message}", {"key": key})
        self.log.info("snapshot", status=status, findings=len(found))
        self.progress.item_done()
        workers = len(look.report["workers"])
        told = f"{status}: {workers} workers, {look.report['database']['size_mb']} MB, {len(found)} findings"
        self.fleet.audit.event("info", "snapshot", told, {"status": status})

    def _alert(self, found: Mapping[str, Finding], before: Mapping[str, Finding]) -> None:
        for key, finding in found.items():
            if finding.level == "critical":
                self.fleet.alerts.raise_alert(
                    f"health:{key}", severity="critical", kind="health", message=finding.message
                )
        for key in before:
            if key not in found or found[key].level != "critical":
                self.fleet.alerts.clear_alert(f"health:{key}")


def _levels(findings: Mapping[str, Finding]) -> dict[str, str]:
    return {key: finding.level for key, finding in findings.items()}
