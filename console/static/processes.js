// Processes: workers slot by slot, their hosts, what a person should look at, and what persons asked for.

import { at, cell, count, distance, head, isStale, label, make, note, row, show, span, tag, tone, write } from "./elements.js";

const WORKER_TONES = {
  READY: "good", BUSY: "busy", STARTING: "busy", PAUSED: "warn", DRAINING: "warn", BACKOFF: "bad", STALLED: "bad", LOST: "bad",
  CRASH_LOOP: "bad", STOPPED: "still",
};
const HOST_TONES = { live: "good", lost: "bad", left: "still", gone: "still" };
const ALERT_TONES = { info: "still", warning: "warn", error: "bad", critical: "bad" };
const COMMAND_TONES = {
  pending: "busy", running: "busy", watching: "busy", waiting: "still", done: "good", failed: "bad", partial: "warn",
  timed_out: "bad", aborted: "bad", skipped: "still", superseded: "still",
};
const SAID_BY_ITSELF = ["LOST", "BACKOFF", "STALLED", "CRASH_LOOP", "STOPPED"];

const megabytes = (bytes) => (bytes === null || bytes === undefined ? "" : `${Math.round(bytes / 1048576)} MB`);
const percent = (value) => (value === null || value === undefined ? "" : `${value.toFixed(value < 10 ? 1 : 0)}%`);

/** A note of few words, on one line. */
const fact = (text) => (text ? make("span", { class: "note one-line" }, text) : null);

/** A small button; what it does needs the database. */
const button = (text, about) =>
  make("button", { type: "button", class: "quiet-button", disabled: isStale() ? "" : null, ...about }, text);

/** A button that opens the order's dialog (order.js) for a selector or a host. */
const orderButton = (text, about) => button(text, { "data-order": "", ...about });

/** Seconds since what is told of a slot was so: its manager's word may be younger than what the database told. */
const behind_s = (seen, worker) => (worker.source === "manager" ? seen.local.age_s + seen.waited_s : seen.stale_s);

/** Whose word it is, where it isn't the database's. */
const said = (seen, worker) =>
  (worker.source === "manager" ? note(`as this host's manager said ${span(behind_s(seen, worker))} ago`) : null);

export function showWorkers(seen) {
  show(at("workers"), seen.workers.map((worker) => {
    const name = `${worker.name}/${worker.slot}`;
    const wanted = worker.healthy || worker.state === "STOPPED" ? WORKER_TONES[worker.state] ?? "still" : "bad";
    const ill = worker.healthy || SAID_BY_ITSELF.includes(worker.state) ? "" : ", not healthy";
    return row(
      head(name, note(worker.description)),
      cell("State", [
        tag(label(worker.state) + ill, wanted), note(worker.enabled ? worker.reason : worker.reason || "disabled"), said(seen, worker),
      ].filter(Boolean)),
      cell("Since", distance(worker.since, seen.now), true),
      cell("Host", [worker.host ?? "", fact(worker.pid === null ? "" : `process ${worker.pid}`)].filter(Boolean)),
      cell("CPU", percent(worker.cpuPercent), true),
      cell("Memory", megabytes(worker.memoryBytes), true),
      cell("Restarts", [count(worker.restartCount), fact(worker.failures ? `${count(worker.failures)} failures` : "")]
        .filter(Boolean), true),
      cell("Last run", distance(worker.lastRun, seen.now), true),
      cell("Items a minute", worker.itemsPerMinute === null ? "" : worker.itemsPerMinute.toLocaleString("en", { maximumFractionDigits: 1 }), true),
      cell("Failed steps", worker.errorRate === null ? "" : `${Math.round(worker.errorRate * 100)}%`, true),
      cell("Heartbeat", worker.beatAgeSeconds === null ? "" : `${span(worker.beatAgeSeconds + behind_s(seen, worker))} ago`, true),
      cell("", orderButton("Order …", { "data-selector": name, "aria-label": `Order something of ${name}` }), true),
    );
  }));
}

export function showHosts(seen) {
  const live = seen.hosts.filter((host) => host.state === "live").length;
  write(at("hosts-count"), seen.hosts.length ? `${live} of ${seen.hosts.length} live` : "");
  show(at("hosts"), seen.hosts.map((host) => {
    const channel = { ok: "good", broken: "bad" }[host.wake_channel] ?? "still";
    const labels = Object.entries(host.labels).map(([name, value]) => `${name}=${value}`).join(", ");
    return row(
      head(host.name, note(labels)),
      cell("State", [tag(host.state, HOST_TONES[host.state] ?? "still"), host.draining ? " " : null,
        host.draining ? tag("draining", "warn") : null, note(host.reason)].filter(Boolean)),
      cell("Slots", count(host.slots), true),
      cell("Heard", `${span((Date.parse(seen.now) - Date.parse(host.seen_at)) / 1000)} ago`, true),
      cell("Wake channel", tag(host.wake_channel, host.state === "live" ? channel : "still")),
      cell("", host.state === "live" || host.state === "lost"
        ? orderButton("Order …", { "data-host": host.name, "aria-label": `Order something of host ${host.name}` }) : "", true),
    );
  }));
}

export function showAlerts(seen) {
  write(at("alerts-count"), seen.alerts.length ? `${count(seen.alerts.length)} open` : "");
  show(at("alerts"), seen.alerts.map((alert) => row(
    cell("Severity", tag(alert.severity, ALERT_TONES[alert.severity] ?? "still")),
    cell("What", [make("span", { class: "text" }, alert.message), note(alert.source),
      note(alert.acknowledged_at ? `seen by ${alert.acknowledged_by}` : "")].filter(Boolean)),
    cell("Since", [distance(alert.raised_at, seen.now), note(alert.times > 1 ? `${count(alert.times)} times` : "")].filter(Boolean), true),
    cell("", alert.acknowledged_at ? "" : orderButton("Seen …", { "data-alert": alert.id, "data-message": alert.message,
      "aria-label": `Say that the alert was seen: ${alert.message}` }), true),
  )));
}

export function showBlackBoxes(seen) {
  show(at("black-boxes"), seen.black_boxes.map((box) => row(
    head(`${box.worker}/${box.slot}`, note(box.host)),
    cell("Why", [make("span", { class: "text" }, box.reason), note(box.pid ? `process ${box.pid}` : "")].filter(Boolean)),
    cell("When", distance(box.at, seen.now), true),
    cell("", button("Open", { "data-box": box.id, "aria-label": `Open the black box of ${box.worker}/${box.slot}` }), true),
  )));
}

const open = new Set();

/** A command's parts, folded; what was unfolded stays so when the list is shown anew. */
function parts(command) {
  if (!command.parts.length) return null;
  const [first] = command.parts;
  if (command.parts.length === 1 && first.result && command.result?.includes(first.result)) return null;  // it says it already
  const states = Object.entries(command.part_states).map(([state, number]) => `${count(number)} ${label(state)}`).join(", ");
  const known = Object.values(command.part_states).reduce((sum, number) => sum + number, 0);
  const fold = make("details", { class: "note", open: open.has(command.id) ? "" : null },
    make("summary", {}, states),
    make("ul", { class: "parts" }, ...command.parts.map((part) => make("li", {},
      tag(label(part.state), COMMAND_TONES[part.state] ?? "still"),
      ` ${part.worker}/${part.slot}${part.host ? ` on ${part.host}` : ""}`, part.result ? `: ${part.result}` : ""))),
    known > command.parts.length ? make("a", { href: `/api/commands/${encodeURIComponent(command.id)}` }, "all of them") : null);
  fold.addEventListener("toggle", () => (fold.open ? open.add(command.id) : open.delete(command.id)));
  return fold;
}

/** What was asked, in the words in which one would say it: "restart poster/1, rolling". */
function asked(command) {
  const { strategy, replicas, ...rest } = command.args;
  const more = [
    strategy && strategy !== "at_once" ? strategy : "",
    replicas === undefined ? "" : `to ${replicas}`,
    ...Object.entries(rest).map(([name, value]) => `${label(name)} ${typeof value === "object" ? JSON.stringify(value) : value}`),
  ].filter(Boolean);
  const where = [command.selector === "*" ? "all" : command.selector, command.host ? `on ${command.host}` : ""].filter(Boolean).join(" ");
  return [`${command.action} ${where}`.trim(), ...more].join(", ");
}

export function showCommands(seen) {
  show(at("commands"), seen.commands.map((command) => row(
    head(make("a", { href: `/api/commands/${encodeURIComponent(command.id)}` }, `#${command.id}`)),
    cell("What", [make("span", { class: "text" }, asked(command)), note(`${command.requested_by}: ${command.reason}`)]),
    cell("Result", [tag(label(command.state), COMMAND_TONES[command.state] ?? "still"), note(command.result), parts(command)].filter(Boolean)),
    cell("When", distance(command.requested_at, seen.now), true),
  )));
}

const figure = (name, value, more = "", wanted = "") =>
  make("li", { class: tone(wanted) || null }, make("span", {}, name), make("strong", {}, value), more ? make("em", {}, more) : null);

export function showSummary(seen) {
  const wanted = seen.workers.filter((worker) => worker.enabled);
  const well = wanted.filter((worker) => worker.healthy).length;
  const states = seen.intents.states;
  const person = (states.parked ?? 0) + (states.awaiting_approval ?? 0);
  const fullest = [...seen.limits].sort((a, b) => b.utilization_percent - a.utilization_percent)[0];
  const thrown = seen.kill_switch.on;
  const worst = seen.alerts.some((alert) => ["error", "critical"].includes(alert.severity)) ? "bad" : "warn";
  show(at("summary"), [
    figure("Workers", `${well} of ${wanted.length}`, isStale() ? "healthy, as last known" : "healthy",
      well < wanted.length ? "bad" : wanted.length ? "good" : ""),
    figure("Alerts", count(seen.alerts.length), isStale() ? "were open" : seen.alerts.length ? "open" : "nothing to look at", seen.alerts.length ? worst : ""),
    figure("Kill switch", thrown ? "■ on" : "off", thrown ? "nothing is sent" : "acts may be sent", thrown ? "bad" : ""),
    figure("Waiting", count((states.ready ?? 0) + (states.claimed ?? 0) + (states.retry_at ?? 0) + (states.sending ?? 0)), "intents to be sent"),
    figure("For a person", count(person), person ? `${states.parked ?? 0} parked, ${states.awaiting_approval ?? 0} to approve` : "nothing to decide", person ? "warn" : ""),
    figure("Posted", count(seen.posts.number), `${count(seen.posts.readings)} readings`),
    figure("Fullest limit", fullest ? `${Math.round(fullest.utilization_percent)}%` : "–", fullest ? label(fullest.endpoint) : "no request yet",
      fullest && fullest.utilization_percent >= 95 ? "bad" : fullest && fullest.utilization_percent >= 80 ? "warn" : ""),
  ]);
}
