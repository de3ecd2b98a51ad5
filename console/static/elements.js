// Elements: how the page makes and changes what it shows. Everything that comes from the fleet is set as text, never as
// markup: outside text is hostile.

let stale = false;

/** From now on the page shows what was last known: nothing looks well, and nothing looks at work. */
export function setStale(now) {
  stale = now;
}

export const isStale = () => stale;

/** The tone that may be shown: what was last known to be well is not known to be well. */
export const tone = (wanted) => (stale && (wanted === "good" || wanted === "busy") ? "still" : wanted);

export const at = (id) => document.getElementById(id);
export const label = (name) => name.replaceAll("_", " ").toLowerCase();

/** Makes an element from a tag, what it carries, and children: elements or texts. */
export function make(tag, carries = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(carries)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

export const note = (text) => (text ? make("span", { class: "note" }, String(text)) : null);

/** A state's word with a sign, so that colour is not needed to read it. */
export function tag(word, wanted) {
  const shown = tone(wanted);
  const signs = { good: "●", busy: "◐", warn: "▲", bad: "■", still: "○" };
  return make("span", { class: `tag ${shown}` }, make("span", { "aria-hidden": "true" }, `${signs[shown]} `), word);
}

export function link(url, text) {
  const safe = /^https?:\/\//.test(url ?? "");
  return safe ? make("a", { href: url, rel: "noopener noreferrer", target: "_blank" }, text) : make("span", {}, text);
}

export const cell = (name, content, number = false) =>
  make("td", { role: "cell", "data-label": name, class: number ? `number${content === "" ? " none" : ""}` : null },
    ...[content].flat());
export const head = (...content) => make("th", { scope: "row", role: "rowheader" }, ...content);
export const row = (...cells) => make("tr", { role: "row" }, ...cells);

/** Puts new children in place of old ones, and touches only those that differ: focus and selection stay. */
export function show(parent, children) {
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

export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function span(seconds) {
  const s = Math.max(0, seconds);
  if (s < 10) return `${Math.floor(s)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`;
}

/** The distance between two of the fleet's own moments; the browser's clock has no say. */
export function distance(moment, now) {
  if (!moment || !now) return "";
  const seconds = (Date.parse(now) - Date.parse(moment)) / 1000;
  return seconds >= -1 ? `${span(seconds)} ago` : `in ${span(-seconds)}`;
}

export const count = (number) => (number ?? 0).toLocaleString("en");

export const clip = (text) => {
  const characters = [...text];
  return characters.length > 280 ? `${characters.slice(0, 280).join("")} …` : text;
};
