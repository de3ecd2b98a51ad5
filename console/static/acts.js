// Acts: intents, posts, mentions, the pool of candidates, and the limits that they keep to.

import { at, cell, clip, count, distance, head, label, link, make, note, row, show, span, tag, tone, write } from "./elements.js";

const INTENT_TONES = {
  posted: "good", ready: "busy", claimed: "busy", sending: "busy", draft: "still", awaiting_approval: "warn",
  retry_at: "warn", unknown: "bad", parked: "bad", rejected: "bad", expired: "still", cancelled: "still", dry_run: "still",
};

/** What an intent does, to whose post: "post", "reply to @ada", or "like of 1999" where nobody noted the name. */
const act = (intent) =>
  intent.action === "post" ? "post" : `${intent.action} ${intent.action === "reply" ? "to" : "of"} ${intent.handle ? `@${intent.handle}` : intent.target}`;

export function showIntents(seen) {
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

/** A platform's field as a word: reply_count is "replies", or "reply" when it is one. */
function metric(name, value) {
  const one = label(name).replace(/ count$/, "");
  return value === 1 ? one.replace(/ies$/, "y").replace(/s$/, "") : one.replace(/([^aeiou])y$/, "$1ie").replace(/s?$/, "s");
}

export function showPosts(seen) {
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
export function showMentions(seen) {
  show(at("mentions"), seen.mentions.map((mention) => {
    const answered = mention.intent_state ? `answer ${label(mention.intent_state)}` : label(mention.state);
    const shown = mention.intent_state ? INTENT_TONES[mention.intent_state] ?? "still" : mention.state === "ignored" ? "still" : "busy";
    return make("li", {},
      make("p", { class: "text clipped" }, clip(mention.text)),
      make("div", { class: "facts" }, tag(answered, shown), make("span", {}, label(mention.kind)),
        link(mention.url, `@${mention.handle}, ${distance(mention.posted_at, seen.fleet_now)}`), note(mention.reason)));
  }));
}

/** The posts worth engaging with: each with its score and every part of it. */
export function showPool(seen) {
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

export function showLimits(seen) {
  show(at("limits"), seen.limits.map((limit) => {
    const shown = tone({ healthy: "busy", warning: "warn", critical: "bad" }[limit.health] ?? "still");
    const bar = make("i");
    bar.style.width = `${Math.min(100, limit.utilization_percent)}%`;
    const words = `${count(limit.used)} of ${count(limit.limit)} in ${span(limit.window_s)}`;
    return row(
      head(label(limit.endpoint), note(limit.account)),
      cell("Used", [
        make("span", {}, limit.health === "healthy" ? words : `${words}, ${limit.health}`),
        make("span", { class: `bar ${shown}`, "aria-hidden": "true" }, bar),
        note(limit.violations ? `${count(limit.violations)} refused by the platform` : ""),
      ].filter(Boolean)),
      cell("Next free", limit.blocked_until ? `blocked, ${distance(limit.blocked_until, seen.fleet_now)}`
        : limit.remaining > 0 ? "now" : distance(limit.next_free_at, seen.fleet_now) || "when settled", true),
    );
  }));
}
