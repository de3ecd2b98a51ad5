// The live page: asks every 2 s, and shows what it was told.
"use strict";

import "./black_box.js";
import { showIntents, showLimits, showMentions, showPool, showPosts } from "./acts.js";
import { at, cell, distance, head, label, make, note, row, setStale, show, span, tag, write } from "./elements.js";
import { onChange } from "./order.js";
import { showAlerts, showBlackBoxes, showCommands, showHosts, showSummary, showWorkers } from "./processes.js";

const EVERY_MS = 2000;
const PATIENCE_MS = 8000;
const SEVERITY_TONES = { debug: "still", info: "still", warning: "warn", error: "bad" };

function showTroubles(seen) {
  show(at("errors"), seen.errors.map((error) => row(
    head(error.source, note(`${error.kind} ${error.what}`)),
    cell("What", [error.dead ? tag("set aside", "bad") : null,
      make("span", { class: "text" }, [error.dead ? " " : "", error.error_class, error.error].filter(Boolean).join(": ")),
      note(error.attempts > 1 ? `${error.attempts} attempts` : "")].filter(Boolean)),
    cell("When", `${span(error.age_s + seen.stale_s)} ago`, true),
  )));
  show(at("events"), seen.events.map((event) => row(
    cell("Severity", tag(event.severity, SEVERITY_TONES[event.severity] ?? "still")),
    cell("What happened", [make("span", { class: "text" }, event.message), note(event.source)]),
    cell("When", distance(event.at, seen.fleet_now), true),
  )));
}

function showAccounts(seen) {
  write(at("account"), seen.accounts.map((account) =>
    [`${account.name}${account.handle ? ` @${account.handle}` : ""}`, account.sandbox ? "sandbox" : "", label(account.tier)]
      .filter(Boolean).join(", ")).join(" · "));
}

const notice = (wanted, title, text) => make("p", { class: `notice ${wanted}` }, make("strong", {}, title), make("span", {}, text));

/** What can be done on the host without the database; the manager's own socket needs none. */
function localHelp(local) {
  if (!local) return notice("warn", "▲ No manager of this host is heard.", "Where one runs, socialfleet status says what it knows.");
  if (!local.listens) {
    return notice("bad", "■ This host's manager is silent too.", `It was heard at ${clock(local.at)} last: local stop and restart do not work.`);
  }
  return notice("warn", "▲ Local control works.", "On this host, socialfleet stop, start and restart reach the manager by its socket; "
    + "they are audited when the database is back. The buttons of this page need the database.");
}

function showNotices(seen, unreachable) {
  const notices = [];
  const database = seen?.database;
  if (unreachable) notices.push(notice("bad", "■ The console does not answer.", "This page shows what it said last."));
  else if (database && !database.up) {
    const younger = seen.workers.some((worker) => worker.source === "manager");
    const since = database.stale_since ? ` What is below is stale since ${clock(database.stale_since)}`
      + `${younger ? ", but for what this host's manager says of its slots." : "."}` : "";
    notices.push(notice("bad", "■ The database is away.", `${sentence(database.reason)}.${since}`), localHelp(seen.local));
  } else if (seen) {
    const silent = seen.manager_age_s === null || seen.manager_age_s > 15;
    if (silent) {
      notices.push(notice("warn", "▲ No manager reports.", seen.manager_age_s === null
        ? "None has told its slots yet." : "It is silent: workers may be without one."));
    }
    if (seen.kill_switch.on) {
      notices.push(notice("bad", "■ The kill switch is on.",
        `${seen.kill_switch.changed_by}: ${seen.kill_switch.reason}. Lift it with: socialfleet kill-switch off --reason "…"`));
    }
  }
  show(at("notices"), notices);
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const clock = (moment) => new Date(moment).toLocaleTimeString();

const later = (moment, seconds) => new Date(Date.parse(moment) + seconds * 1000).toISOString();

/**
 * What is known, with the moment from which ages count moved on: what was 5 s old then is older now. `stale_s` is the seconds
 * since the database told it, `waited_s` since the console did; 0 while it is live, and both grow also while nobody answers.
 */
function aged(seen, stale) {
  const waited_s = stale ? (performance.now() - answeredAt_ms) / 1000 : 0;
  if (!seen.now) return { ...seen, waited_s, now: seen.local && later(seen.local.at, seen.local.age_s + waited_s) };
  const stale_s = stale ? (seen.database.stale_for_s ?? 0) + waited_s : 0;
  return { ...seen, waited_s, stale_s, now: later(seen.now, stale_s), fleet_now: later(seen.fleet_now, stale_s) };
}

function freshness(seen, stale, stale_s) {
  if (!seen?.now) return stale ? (seen?.workers?.length ? "only this host is known" : "nothing known yet") : "";
  return stale ? `stale since ${clock(seen.now)}, for ${span(stale_s)}` : `live, ${clock(seen.now)}`;
}

const PANELS = [
  showAccounts, showSummary, showAlerts, showWorkers, showHosts, showCommands, showBlackBoxes, showIntents, showPosts, showMentions,
  showPool, showLimits, showTroubles,
];

let last = null;
let answeredAt_ms = 0;
let timer = 0;

async function refresh() {
  clearTimeout(timer);
  let unreachable = false;
  try {
    const answer = await fetch("/api/overview", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    last = await answer.json();
    answeredAt_ms = performance.now();
  } catch {
    unreachable = true;
  }
  const stale = unreachable || !last?.database.up;
  setStale(stale);
  document.body.classList.toggle("stale", stale);
  showNotices(last, unreachable);
  const shown = last && aged(last, stale);
  if (last?.now) PANELS.forEach((panel) => panel(shown));
  else if (last) showWorkers(shown);  // all that a manager alone can tell
  write(at("freshness"), freshness(last, stale, shown?.stale_s));
  clearTimeout(timer);
  timer = setTimeout(refresh, EVERY_MS);
}

onChange(refresh);
refresh();
