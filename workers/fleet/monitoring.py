"""Monitoring: how the whole fleet is, and what a person should look at."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from pydantic import Field

from coordination.messages import Message
from workers.base import Worker
from workers.handlers import handles
from workers.intervals import minutes
from workers.tasks import Escalation, SystemIssue
from workers.vital_signs import Finding, Thresholds, findings


class MonitoringSettings(Thresholds):
    """The monitor's live settings: its thresholds, and how far back it looks.

    Attributes:
        window_s: how far back runs are counted, in fleet time.
    """

    window_s: float = Field(default=3600, ge=1, le=604_800)


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
        self.fleet.breakers.watch()
        report = self.fleet.health.gather(window_s=self.settings.window_s)
        kept: list[dict[str, Any]] = report.pop("before") or []
        before = {one["key"]: Finding(**one) for one in kept}
        found = {finding.key: finding for finding in findings(report, self.settings)}
        levels = {finding.level for finding in found.values()}
        status = "critical" if "critical" in levels else "warning" if levels else "healthy"
        self._alert(found, before)  # before what was found is kept: a step that is cut short does it again
        self.fleet.health.keep(status, {**report, "findings": [asdict(one) for one in found.values()]})
        for key, finding in found.items():
            if key not in before or before[key].level != finding.level:
                severity = "error" if finding.level == "critical" else "warning"
                self.fleet.audit.event(severity, "health", finding.message, {"key": key})
        for key, finding in before.items():
            if key not in found:
                self.fleet.audit.event("info", "health", f"over: {finding.message}", {"key": key})
        self.log.info("snapshot", status=status, findings=len(found))
        self.progress.item_done()
        workers = len(report["workers"])
        told = f"{status}: {workers} workers, {report['database']['size_mb']} MB, {len(found)} findings"
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
