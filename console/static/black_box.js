// Black boxes: one in full, in a dialog.

import { at, label, make, note, show, write } from "./elements.js";

const PATIENCE_MS = 8000;

/** A report's lines as lines, its rows as JSON, a row a line. */
function text(value) {
  if (Array.isArray(value)) return value.map((one) => (typeof one === "object" ? JSON.stringify(one) : String(one))).join("\n") || "none";
  return typeof value === "object" ? JSON.stringify(value, null, 2) : String(value);
}

// These stand above the report.
const TOLD = ["at", "worker", "slot", "pid", "incarnation", "reason"];
const isShort = (value) => typeof value !== "object" && !/\n/.test(value) && String(value).length <= 120;
const chapter = (title, content) => [make("h3", {}, title), make("pre", { tabindex: "0" }, content)];

/** A report as headings and texts: first what is short, then the rest; "database: locks" is what is in a part of it. */
function chapters(report, above = "") {
  const entries = Object.entries(report).filter(([name, value]) => value !== null && value !== "" && (above || !TOLD.includes(name)));
  const short = entries.filter(([, value]) => isShort(value)).map(([name, value]) => `${label(name)}: ${value}`);
  const long = entries.filter(([, value]) => !isShort(value)).flatMap(([name, value]) => (
    typeof value === "object" && !Array.isArray(value) ? chapters(value, `${above}${label(name)}: `) : chapter(above + label(name), text(value))
  ));
  return [...(short.length ? chapter(`${above}state`, short.join("\n")) : []), ...long];
}

async function openBox(id) {
  write(at("box-title"), "Black box");
  show(at("box-content"), [make("p", {}, "reading …")]);
  at("box").showModal();
  try {
    const answer = await fetch(`/api/black-boxes/${encodeURIComponent(id)}`, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    const box = await answer.json();
    if (!answer.ok) throw new Error(box.error.message);
    write(at("box-title"), `Black box of ${box.worker}/${box.slot}`);
    show(at("box-content"), [
      make("p", {}, box.reason),
      note(`${new Date(box.at).toLocaleString()}, on ${box.host}, process ${box.pid ?? "unknown"}, incarnation ${box.incarnation ?? "none"}`),
      ...chapters(box.report),
    ]);
  } catch (error) {
    show(at("box-content"), [make("p", { class: "bad" }, `It can't be read now: ${error.message}`)]);
  }
}

document.addEventListener("click", (event) => {
  const id = event.target.closest?.("[data-box]")?.dataset.box;
  if (id) openBox(id);
});
