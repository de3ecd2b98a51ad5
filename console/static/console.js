// The live page. Everything that comes from the fleet is set as text, never as markup: outside text is hostile.
"use strict";

const EVERY_MS = 2000;
const PATIENCE_MS = 8000;

const at = (id) => document.getElementById(id);
const label = (name) => name.replaceAll("_", " ").toLowerCase();

/** What an intent does, to whose post: "post", "reply to @ada", or "like of 1999" where nobody noted the name. */
const act = (intent) =>
  intent.action === "post" ? "post" : `${intent.action} ${intent.action === "reply" ? "to" : "of"} ${intent.handle ? `@${intent.handle}` : intent.target}`;

/** Makes an element from a tag, what it carries, and children: elements or texts. */
function make(tag, carries = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(carries)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

const note = (text) => (text ? make("span", { class: "note" }, String(text)) : null);

/** A state's word with a sign, so that colour is not needed to read it. */
function tag(word, tone) {
  const signs = { good: "●", busy: "◐", warn: "▲", bad: "■", still: "○" };
  return make("span", { class: `tag ${tone}` }, make("span", { "aria-hidden": "true" }, `${signs[tone]} `), word);
}

function link(url, text) {
  const safe = /^https?:\/\//.test(url ?? "");
  return safe ? make("a", { href: url, rel: "noopener noreferrer", target: "_blank" }, text) : make("span", {}, text);
}

const cell = (name, content, number = false) =>
  make("td", { role: "cell", "data-label": name, class: number ? `number${content === "" ? " none" : ""}` : null },
    ...[content].flat());
const head = (...content) => make("th", { scope: "row", role: "rowheader" }, ...content);
const row = (...cells) => make("tr", { role: "row" }, ...cells);

/** Puts new children in place of old ones, and touches only those that differ: focus and selection stay. */
function show(parent, children) {
  children.forEach((child, index) => {
    const old = parent.children[index];
    if (!old) parent.append(child);
    else if (!old.isEqualNode(child)) old.replaceWith(child);
  });
  while (parent.children.length > children.length) parent.lastElementChild.remove();
  const empty = (parent.closest("table") ?? parent).nextElementSibling;
  if (empty?.classList.contains("empty")) empty.hidden = children.length > 0;
  const table = parent.closest("table");
  if (table) table.hidden = children.length === 0;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function span(seconds) {
  const s = Math.max(0, seconds);
  if (s < 10) return `${Math.floor(s)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`;
}

/** The distance between two of the fleet's own moments; the browser's clock has no say. */
function distance(moment, now) {
  if (!moment || !now) return "";
  const seconds = (Date.parse(now) - Date.parse(moment)) / 1000;
  return seconds >= -1 ? `${span(seconds)} ago` : `in ${span(-seconds)}`;
}

const count = (number) => (number ?? 0).toLocaleString("en");

const WORKER_TONES = {
  READY: "good", BUSY: "busy", STARTING: "busy", PAUSED: "warn", DRAINING: "warn", BACKOFF: "bad", LOST: "bad", STOPPED: "still",
};
const INTENT_TONES = {
  posted: "good", ready: "busy", claimed: "busy", sending: "busy", draft: "still", awaiting_approval: "warn",
  retry_at: "warn", unknown: "bad", parked: "bad", rejected: "bad", expired: "still", cancelled: "still", dry_run: "still",
};
const SEVERITY_TONES = { debug: "still", info: "still", warning: "warn", error: "bad" };

function showWorkers(seen) {
  show(at("workers"), seen.workers.map((worker) => {
    const state = worker.healthy || worker.state === "STOPPED" ? WORKER_TONES[worker.state] ?? "still" : "bad";
    const ill = worker.healthy || ["LOST", "BACKOFF", "STOPPED"].includes(worker.state) ? "" : ", not healthy";
    return row(
      head(`${worker.name}/${worker.slot}`, note(worker.description)),
      cell("State", [tag(label(worker.state) + ill, state), note(worker.enabled ? worker.reason : worker.reason || "disabled")]
        .filter(Boolean)),
      cell("Process", worker.pid === null ? "" : String(worker.pid), true),
      cell("Restarts", count(worker.restartCount), true),
      cell("Last run", distance(worker.lastRun, seen.now), true),
      cell("Items a minute", worker.itemsPerMinute === null ? "" : worker.itemsPerMinute.toLocaleString("en", { maximumFractionDigits: 1 }), true),
      cell("Failed steps", `${Math.round(worker.errorRate * 100)}%`, true),
      cell("Heartbeat", worker.beatAgeSeconds === null ? "" : `${span(worker.beatAgeSeconds)} ago`, true),
      cell("Memory", worker.memoryBytes === null ? "" : `${Math.round(worker.memoryBytes / 1048576)} MB`, true),
    );
  }));
}

function showIntents(seen) {
  const order = Object.keys(INTENT_TONES);
  const states = Object.entries(seen.intents.states).sort(([a], [b]) => order.indexOf(a) - order.indexOf(b));
  show(at("states"), states.map(([state, number]) =>
    make("li", {}, tag(`${count(number)} ${label(state)}`, INTENT_TONES[state] ?? "still"))));
  show(at("intents"), seen.intents.latest.map((intent) => row(
    head(make("a", { href: `/api/intents/${encodeURIComponent(intent.id)}` }, `#${intent.id}`)),
    cell("Act", make("span", { class: "text" }, act(intent))),
    cell("State", tag(label(intent.state), INTENT_TONES[intent.state] ?? "still")),
    cell("Text", [make("span", { class: "text clipped" }, clip(intent.text)), note(intent.reason),
      note(intent.state === "ready" && Date.parse(intent.not_before) > Date.parse(seen.fleet_now)
        ? `to be sent ${distance(intent.not_before, seen.fleet_now)}` : "")].filter(Boolean)),
    cell("Changed", distance(intent.updated_at, seen.fleet_now), true),
  )));
}

const clip = (text) => {
  const characters = [...text];
  return characters.length > 280 ? `${characters.slice(0, 280).join("")} …` : text;
};

/** A platform's field as a word: reply_count is "replies", or "reply" when it is one. */
function metric(name, value) {
  const one = label(name).replace(/ count$/, "");
  return value === 1 ? one.replace(/ies$/, "y").replace(/s$/, "") : one.replace(/([^aeiou])y$/, "$1ie").replace(/s?$/, "s");
}

function showPosts(seen) {
  write(at("posts-count"), `${count(seen.posts.number)} posts, ${count(seen.posts.readings)} readings`);
  show(at("posts"), seen.posts.latest.map((post) => {
    const facts = [link(post.url, `posted ${distance(post.posted_at, seen.fleet_now)}`)];
    if (post.action !== "post") facts.push(make("span", {}, act(post)));
    for (const [name, value] of Object.entries(post.metrics ?? {}).slice(0, 8)) {
      if (typeof value === "number") facts.push(make("span", {}, `${count(value)} ${metric(name, value)}`));
    }
    facts.push(make("span", {}, post.readings
      ? `${count(post.readings)} reading${post.readings === 1 ? "" : "s"}, last ${distance(post.read_at, seen.fleet_now)}`
      : "not read yet"));
    if (post.gone_at) facts.push(tag("gone", "warn"));
    return make("li", {}, make("p", { class: "text clipped" }, clip(post.text)), make("div", { class: "facts" }, ...facts));
  }));
}

/** Who named the account, and what became of it: an answer's own state counts for more than that it was planned. */
function showMentions(seen) {
  show(at("mentions"), seen.mentions.map((mention) => {
    const answered = mention.intent_state ? `answer ${label(mention.intent_state)}` : label(mention.state);
    const tone = mention.intent_state ? INTENT_TONES[mention.intent_state] ?? "still" : mention.state === "ignored" ? "still" : "busy";
    return make("li", {},
      make("p", { class: "text clipped" }, clip(mention.text)),
      make("div", { class: "facts" }, tag(answered, tone), make("span", {}, label(mention.kind)),
        link(mention.url, `@${mention.handle}, ${distance(mention.posted_at, seen.fleet_now)}`), note(mention.reason)));
  }));
}

/** The posts worth engaging with: each with its score and every part of it. */
function showPool(seen) {
  const states = Object.entries(seen.pool.states).map(([state, number]) => `${count(number)} ${label(state)}`);
  write(at("pool-count"), states.join(", "));
  show(at("pool"), seen.pool.best.map((candidate) => make("li", {},
    make("p", { class: "text clipped" }, clip(candidate.text)),
    make("div", { class: "facts" },
      make("strong", {}, candidate.score.toFixed(1)),
      ...Object.entries(candidate.parts).map(([name, part]) => make("span", {}, `${label(name)} ${part.value.toFixed(2)}`)),
      make("span", {}, candidate.topic),
      link(candidate.url, `@${candidate.handle}, ${distance(candidate.posted_at, seen.fleet_now)}`)),
  )));
}

function showLimits(seen) {
  show(at("limits"), seen.limits.map((limit) => {
    const tone = { healthy: "busy", warning: "warn", critical: "bad" }[limit.health] ?? "still";
    const bar = make("i");
    bar.style.width = `${Math.min(100, limit.utilization_percent)}%`;
    const words = `${count(limit.used)} of ${count(limit.limit)} in ${span(limit.window_s)}`;
    return row(
      head(label(limit.endpoint), note(limit.account)),
      cell("Used", [
        make("span", {}, limit.health === "healthy" ? words : `${words}, ${limit.health}`),
        make("span", { class: `bar ${tone}`, "aria-hidden": "true" }, bar),
        note(limit.violations ? `${count(limit.violations)} refused by the platform` : ""),
      ].filter(Boolean)),
      cell("Next free", limit.blocked_until ? `blocked, ${distance(limit.blocked_until, seen.fleet_now)}`
        : limit.remaining > 0 ? "now" : distance(limit.next_free_at, seen.fleet_now) || "when settled", true),
    );
  }));
}

function showTroubles(seen) {
  show(at("errors"), seen.errors.map((error) => row(
    head(error.source, note(`${error.kind} ${error.what}`)),
    cell("What", [error.dead ? tag("set aside", "bad") : null,
      make("span", { class: "text" }, [error.dead ? " " : "", error.error_class, error.error].filter(Boolean).join(": ")),
      note(error.attempts > 1 ? `${error.attempts} attempts` : "")].filter(Boolean)),
    cell("When", `${span(error.age_s)} ago`, true),
  )));
  show(at("events"), seen.events.map((event) => row(
    cell("Severity", tag(event.severity, SEVERITY_TONES[event.severity] ?? "still")),
    cell("What happened", [make("span", { class: "text" }, event.message), note(event.source)]),
    cell("When", distance(event.at, seen.fleet_now), true),
  )));
}

const fact = (name, value, more = "", tone = "") =>
  make("li", { class: tone || null }, make("span", {}, name), make("strong", {}, value), more ? make("em", {}, more) : null);

function showSummary(seen) {
  const wanted = seen.workers.filter((worker) => worker.enabled);
  const well = wanted.filter((worker) => worker.healthy).length;
  const states = seen.intents.states;
  const person = (states.parked ?? 0) + (states.awaiting_approval ?? 0);
  const fullest = [...seen.limits].sort((a, b) => b.utilization_percent - a.utilization_percent)[0];
  const thrown = seen.kill_switch.on;
  show(at("summary"), [
    fact("Workers", `${well} of ${wanted.length}`, "healthy", well < wanted.length ? "bad" : wanted.length ? "good" : ""),
    fact("Kill switch", thrown ? "■ on" : "off", thrown ? "nothing is sent" : "acts may be sent", thrown ? "bad" : ""),
    fact("Waiting", count((states.ready ?? 0) + (states.claimed ?? 0) + (states.retry_at ?? 0) + (states.sending ?? 0)), "intents to be sent"),
    fact("For a person", count(person), person ? `${states.parked ?? 0} parked, ${states.awaiting_approval ?? 0} to approve` : "nothing to decide", person ? "warn" : ""),
    fact("Posted", count(seen.posts.number), `${count(seen.posts.readings)} readings`),
    fact("Fullest limit", fullest ? `${Math.round(fullest.utilization_percent)}%` : "–", fullest ? label(fullest.endpoint) : "no request yet",
      fullest && fullest.utilization_percent >= 95 ? "bad" : fullest && fullest.utilization_percent >= 80 ? "warn" : ""),
  ]);
  write(at("account"), seen.accounts.map((account) =>
    [`${account.name}${account.handle ? ` @${account.handle}` : ""}`, account.sandbox ? "sandbox" : "", label(account.tier)]
      .filter(Boolean).join(", ")).join(" · "));
}

const notice = (tone, title, text) => make("p", { class: `notice ${tone}` }, make("strong", {}, title), make("span", {}, text));

function showNotices(seen, unreachable) {
  const notices = [];
  const database = seen?.database;
  if (unreachable) notices.push(notice("bad", "■ The console does not answer.", "This page shows what it said last."));
  else if (database && !database.up) {
    const since = database.stale_since ? ` This is stale since ${new Date(database.stale_since).toLocaleString()}.` : "";
    notices.push(notice("bad", "■ The database is away.", `${database.reason}.${since}`));
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
  document.body.classList.toggle("stale", Boolean(unreachable || (database && !database.up)));
}

let last = null;

async function refresh() {
  let unreachable = false;
  try {
    const answer = await fetch("/api/overview", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    last = await answer.json();
  } catch {
    unreachable = true;
  }
  showNotices(last, unreachable);
  if (last?.now) {
    showSummary(last);
    showWorkers(last);
    showIntents(last);
    showPosts(last);
    showMentions(last);
    showPool(last);
    showLimits(last);
    showTroubles(last);
  }
  const known = last?.now ? new Date(last.now).toLocaleTimeString() : "";
  write(at("freshness"), unreachable || !last?.database.up ? (known ? `as of ${known}` : "nothing known yet") : `live, ${known}`);
  setTimeout(refresh, EVERY_MS);
}

refresh();
