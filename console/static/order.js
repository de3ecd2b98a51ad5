// Orders: the dialog in which a person asks for something with a reason.
//
// The token stays in this tab: sessionStorage ends with it. An order carries a key of its own, so that one whose answer was
// lost can be sent again without being done twice.

import { at, make, show, write } from "./elements.js";

const TOKEN = "socialfleet console token";
const PATIENCE_MS = 12000;
// What goes slot by slot, or waits for work to end, gets longer than the minute that a command has by itself.
const LONG_S = 600;

/** What may be ordered: of a slot, of a whole worker, of the slots that a host has, of a host itself. */
const DEEDS = [
  { name: "restart", text: "Restart", action: "restart", of: ["slot", "worker", "host"] },
  { name: "rolling", text: "Rolling restart", action: "restart", args: { strategy: "rolling" }, of: ["worker", "host"],
    hint: "One slot after the other, each replacement ready before the old process goes; a bad one ends it." },
  { name: "canary", text: "Canary restart", action: "restart", args: { strategy: "canary" }, of: ["worker"],
    hint: "One slot first; the rest when it does as well as its siblings." },
  { name: "stop", text: "Stop", action: "stop", of: ["slot", "worker", "host"], hint: "It finishes its step, ends, and stays so until it is started." },
  { name: "start", text: "Start", action: "start", of: ["slot", "worker", "host"] },
  { name: "pause", text: "Pause", action: "pause", of: ["slot", "worker", "host"], hint: "Its process stays and does nothing." },
  { name: "resume", text: "Resume", action: "resume", of: ["slot", "worker", "host"] },
  { name: "drain", text: "Drain", action: "drain", of: ["slot", "worker"],
    hint: "It takes no new work, finishes what it has, ends, and stays so; meanwhile it says how long that will take." },
  { name: "scale", text: "Scale", action: "scale", of: ["worker"] },
  { name: "drain-host", text: "Take out of service", action: "drain", of: ["host"], itself: true,
    hint: "The host takes no more work, and its slots go to others." },
  { name: "start-host", text: "Put back into service", action: "start", of: ["host"], itself: true },
];

let changed = () => {};
let about = null;
let key = "";

/** Names what is called after something was asked for, so that the page shows it at once. */
export function onChange(listener) {
  changed = listener;
}

const chosen = (name) => at("order-form").querySelector(`input[name="${name}"]:checked`)?.value ?? "";

function choice(name, value, text, checked) {
  return make("label", { class: "choice" },
    make("input", { type: "radio", name, value, checked: checked ? "" : null }), make("span", {}, text));
}

function target() {
  if (about.host) return { of: "host", selector: "*", host: about.host, words: `what ${about.host} has` };
  const whole = chosen("of") === "worker";
  const selector = whole ? about.selector.split("/")[0] : about.selector;
  return { of: whole ? "worker" : "slot", selector, host: null, words: selector };
}

/** Brings the dialog in line with what is chosen in it. */
function settle() {
  key = crypto.randomUUID();
  write(at("order-answer"), "");
  if (about.alert) return;
  const { of, words } = target();
  const wanted = DEEDS.filter((deed) => deed.of.includes(of));
  const before = chosen("deed");
  const deed = wanted.find((one) => one.name === before) ?? wanted[0];
  if ([...at("order-deeds").querySelectorAll("input")].map((input) => input.value).join() !== wanted.map((one) => one.name).join()) {
    show(at("order-deeds"), wanted.map((one) => choice("deed", one.name, one.text, one === deed)));
  }
  write(at("order-hint"), deed.hint ?? "");
  at("order-replicas-field").hidden = deed.name !== "scale";
  write(at("order-send"), deed.name === "scale" ? `Scale ${words} to ${at("order-replicas").value}`
    : deed.itself ? deed.text : `${deed.text} ${words}`);
}

function begin(button) {
  about = { ...button.dataset };
  const slots = new Set([...document.querySelectorAll("[data-selector]")].map((one) => one.dataset.selector));
  const worker = about.selector?.split("/")[0];
  const siblings = [...slots].filter((slot) => slot.split("/")[0] === worker).length;
  write(at("order-title"), about.alert ? "Seen" : about.host ? `Host ${about.host}` : about.selector);
  write(at("order-about"), about.alert ? about.message : "");
  at("order-what").hidden = Boolean(about.alert);
  at("order-of").hidden = Boolean(about.alert || about.host);
  show(at("order-of"), []);
  show(at("order-of"), about.selector ? [
    choice("of", "slot", `${about.selector} alone`, true),
    choice("of", "worker", siblings > 1 ? `all ${siblings} slots of ${worker}` : `worker ${worker}`, false),
  ] : []);
  show(at("order-deeds"), []);
  at("order-replicas-field").hidden = true;
  at("order-replicas").value = String(Math.max(1, siblings));
  at("order-reason").value = "";
  at("order-token").value = sessionStorage.getItem(TOKEN) ?? "";
  at("order-token-field").hidden = Boolean(at("order-token").value);
  settle();
  if (about.alert) write(at("order-send"), "It was seen");
  at("order").showModal();
  at("order-reason").focus();
}

function order() {
  const reason = at("order-reason").value;
  if (about.alert) return [`/api/alerts/${encodeURIComponent(about.alert)}/ack`, { reason }];
  const { selector, host } = target();
  const deed = DEEDS.find((one) => one.name === chosen("deed"));
  const args = deed.name === "scale" ? { replicas: Number(at("order-replicas").value) } : deed.args ?? {};
  const timeout_s = deed.args?.strategy || deed.action === "drain" ? LONG_S : null;
  return ["/api/commands", {
    action: deed.action, selector: deed.itself ? null : selector, host, args, reason, timeout_s, idempotency_key: key,
  }];
}

async function send(event) {
  event.preventDefault();
  const [address, body] = order();
  at("order-send").disabled = true;
  write(at("order-answer"), "asking …");
  try {
    const token = at("order-token").value.trim();
    const answer = await fetch(address, {
      method: "POST",
      headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    if (answer.ok) {
      sessionStorage.setItem(TOKEN, token);
      at("order").close();
      changed();
      return;
    }
    if (answer.status === 401) {
      sessionStorage.removeItem(TOKEN);
      at("order-token-field").hidden = false;
    }
    const told = await answer.json().catch(() => null);
    write(at("order-answer"), told?.error?.message ?? `The console answered with status ${answer.status}.`);
  } catch {
    write(at("order-answer"), "The console gave no answer. Whether it was done is not known; sent again, it is done once.");
  } finally {
    at("order-send").disabled = false;
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("button");
  if (button?.hasAttribute("data-order")) begin(button);
  else if (button?.hasAttribute("data-close")) button.closest("dialog").close();
});
at("order-form").addEventListener("input", (event) => {
  // A new token is the same order; anything else is another one.
  if (event.target !== at("order-token")) settle();
});
at("order-form").addEventListener("submit", send);
