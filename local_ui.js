// local_ui.js is the inspector's page: the list of invocations as the server tells of them, one of them in
// full, and what can be done with it. local_ui_json.js shows what invocations carry, local_ui_draw.js draws.
//
// Whatever came from outside goes into the page as text (textContent), never as HTML.

import { indented, isJSON, make, payload, plain, size, textOf } from "./local_ui_json.js";
import { at, difference, hourFigures, hourPicture, ms, timeline } from "./local_ui_draw.js";

const $ = (id) => document.getElementById(id);

const entries = new Map(); // facts by ID
const rows = new Map(); // elements of the list by ID
let selected = 0; // the ID of the row that the keys move
let opened = null; // what is shown in full: see open
let canRun = false;
let ahead = 0; // of the server's clock, in milliseconds

const clock = (time) => new Date(at(time)).toLocaleTimeString([], { hour12: false }) +
  `.${String(Math.floor(at(time)) % 1000).padStart(3, "0")}`;
const running = (f) => !f.outcome;
const wide = () => matchMedia("(min-width: 900px)").matches;

// The key that the server asks for comes behind the # of the address that it leads to, once.
const key = () => localStorage.getItem("key") ?? "";
const given = /^#key=(\w+)$/.exec(location.hash);
if (given) {
  localStorage.setItem("key", given[1]);
  history.replaceState(null, "", location.pathname);
}

// api asks the server. It throws what that answers if it is no success.
async function api(path, posted) {
  const options = { headers: { "Live-Lambda-Key": key() } };
  if (posted) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(posted);
  }
  const response = await fetch(path, options);
  if (!response.ok) {
    const error = new Error((await response.text()).trim());
    error.status = response.status;
    throw error;
  }
  return response;
}

// toast shows a line for a while.
let toastTimer;
function toast(text, bad) {
  $("toast").textContent = text;
  $("toast").classList.toggle("bad", Boolean(bad));
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => ($("toast").hidden = true), 6000);
}

// ---- what the server tells ----

let source = null;

function connect() {
  source?.close();
  source = new EventSource(`/api/events?key=${key()}`);
  source.addEventListener("all", (e) => takeAll(JSON.parse(e.data)));
  source.addEventListener("changes", (e) => takeChanges(JSON.parse(e.data)));
  source.addEventListener("hour", (e) => takeHour(JSON.parse(e.data)));
  source.addEventListener("error", lost);
}

function state(text, kind) {
  $("state").textContent = text;
  $("state").className = `state ${kind}`;
}

// lost tells what has become of the connection, and tries again.
async function lost() {
  state("connection lost, trying again", "bad");
  source.close();
  try {
    await api("/api/invocations/0");
  } catch (error) {
    if (error.status === 403) {
      state("local was started again: open the new address that it prints", "bad");
      return; // until somebody comes back to the page
    }
  }
  clearTimeout(lost.timer);
  lost.timer = setTimeout(connect, 1000);
}

addEventListener("focus", () => {
  if (source?.readyState === EventSource.CLOSED) connect();
});

function takeAll(all) {
  state(all.runs ? "live" : "recordings", "good");
  canRun = all.runs;
  ahead = at(all.now) - Date.now();
  $("about").textContent = all.about;
  document.title = `live-lambda: ${all.about}`;
  entries.clear();
  for (const f of all.facts) entries.set(f.id, f);
  for (const [id, row] of rows) {
    if (!entries.has(id)) drop(id, row);
  }
  for (const f of [...all.facts].reverse()) show(f);
  takeDropped.kept = `the last ${all.most} are kept, within ${size(all.limit)}`;
  takeDropped(all.dropped);
  refresh();
  if (opened) look(opened.id);
  else openHash();
}

function takeChanges(changes) {
  let failed = 0;
  let fresh = 0;
  for (const f of changes.facts ?? []) {
    if (!entries.has(f.id)) fresh++;
    const before = entries.get(f.id);
    if ((!before || running(before)) && (f.outcome === "error" || f.outcome === "timeout")) failed++;
    entries.set(f.id, f);
    show(f);
  }
  for (const id of changes.gone ?? []) {
    entries.delete(id);
    drop(id, rows.get(id));
  }
  takeDropped(changes.dropped);
  announce(fresh, failed);
  refresh();
  openWanted();
  const concerns = (id) => id === opened.id || id === opened.other;
  if (opened && (changes.facts?.some((f) => concerns(f.id)) || changes.gone?.some(concerns))) look(opened.id);
}

function takeHour(picture) {
  $("hour-figures").replaceChildren(...hourFigures(picture.hour));
  $("hour-picture").replaceChildren(...hourPicture(picture));
}

function takeDropped(dropped) {
  const texts = [];
  if (dropped.invocations > 0) texts.push(`${dropped.invocations} earlier invocations were dropped (${size(dropped.bytes)})`);
  if (dropped.light > 0) texts.push(`${dropped.light} were too large to be kept whole`);
  $("dropped").textContent = texts.length ? `${texts.join("; ")}: ${takeDropped.kept ?? "only the last ones are kept"}.` : "";
  $("dropped").hidden = texts.length === 0;
}

// announce says what is new to those who do not see it, but not more often than every few seconds.
const unsaid = { fresh: 0, failed: 0, timer: 0 };
function announce(fresh, failed) {
  unsaid.fresh += fresh;
  unsaid.failed += failed;
  if (unsaid.timer || unsaid.fresh + unsaid.failed === 0) return;
  unsaid.timer = setTimeout(() => {
    $("news").textContent = `${unsaid.fresh} new ${unsaid.fresh === 1 ? "invocation" : "invocations"}` +
      (unsaid.failed ? `, ${unsaid.failed} failed` : "");
    Object.assign(unsaid, { fresh: 0, failed: 0, timer: 0 });
  }, 3000);
}

// ---- the list ----

// show brings an entry's row up to date. New ones come to the top.
function show(f) {
  let row = rows.get(f.id);
  if (!row) {
    row = make("div", { class: "row", role: "option", id: `row-${f.id}`, "aria-selected": "false" },
      make("span", { class: "who" }), make("span", { class: "number took" }),
      make("span", { class: "what" }), make("span", { class: "chip" }));
    row.addEventListener("click", () => {
      select(f.id);
      openEntry(f.id);
    });
    rows.set(f.id, row);
    let before = $("list").firstElementChild;
    while (before && Number(before.id.slice(4)) > f.id) before = before.nextElementSibling;
    $("list").insertBefore(row, before);
    know(f.function);
  }
  const [who, took, what, chip] = row.children;
  who.textContent = f.caller || "invoked directly";
  took.textContent = duration(f);
  const sizes = running(f) ? size(f.event_bytes) : `${size(f.event_bytes)} → ${size(f.answer_bytes)}`;
  const again = f.again ? ` · again #${f.again}` : "";
  what.textContent = `#${f.id} ${f.function} · ${clock(f.arrived).slice(0, 8)}${again} · ${sizes}`;
  chip.textContent = f.outcome || "running";
  chip.className = `chip ${f.outcome || "running"}`;
  row.hidden = !passes(f);
}

function drop(id, row) {
  row?.remove();
  rows.delete(id);
  if (selected === id) selected = 0;
}

// duration is how long an entry took, or has taken so far.
const duration = (f) => (running(f) ? ms(Math.max(Date.now() + ahead - at(f.arrived), 0)) : ms(f.ms));

const functions = new Set();
function know(name) {
  if (functions.has(name)) return;
  functions.add(name);
  $("filter-function").append(make("option", { text: name, value: name }));
}

// passes reports whether the filter lets an entry through.
function passes(f) {
  const name = $("filter-function").value;
  const outcome = $("filter-outcome").value;
  if ((name && f.function !== name) || (outcome && (f.outcome || "running") !== outcome)) return false;
  const words = $("filter-text").value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = [`#${f.id}`, f.request_id, f.function, f.version, f.caller, f.outcome, f.text, f.error_type].join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}

// refresh writes what follows from all entries.
function refresh() {
  let shown = 0;
  let busy = 0;
  for (const [id, row] of rows) {
    if (!row.hidden) shown++;
    if (running(entries.get(id))) busy++;
  }
  const all = entries.size;
  $("count").textContent = (shown === all ? `${all} ${all === 1 ? "invocation" : "invocations"}` : `${shown} of ${all} invocations`) +
    (busy ? `, ${busy} running` : "");
  $("empty").hidden = shown > 0;
  $("empty").textContent = all === 0 ? "Nothing has come yet. Invoke the function: it appears here at once." : "None of them passes the filter.";
  tick.on(busy > 0);
}

// tick lets the time of what is running run.
const tick = {
  timer: 0,
  on(wanted) {
    if (wanted === Boolean(tick.timer)) return;
    clearInterval(tick.timer);
    tick.timer = wanted ? setInterval(tick.run, 200) : 0;
  },
  run() {
    if (document.hidden) return;
    for (const [id, row] of rows) {
      if (running(entries.get(id))) row.children[1].textContent = duration(entries.get(id));
    }
  },
};

for (const id of ["filter-text", "filter-function", "filter-outcome"]) {
  $(id).addEventListener("input", () => {
    for (const [n, row] of rows) row.hidden = !passes(entries.get(n));
    refresh();
  });
}

// select marks a row, which the keys move on from.
function select(id) {
  rows.get(selected)?.setAttribute("aria-selected", "false");
  selected = id;
  const row = rows.get(id);
  row?.setAttribute("aria-selected", "true");
  row?.scrollIntoView({ block: "nearest" });
  $("list").setAttribute("aria-activedescendant", row?.id ?? "");
}

// move selects the next row that is shown, or the one before. Beside a wide list it is opened as well.
function move(by) {
  const shown = [...$("list").children].filter((row) => !row.hidden);
  const i = shown.indexOf(rows.get(selected));
  const row = shown[Math.max(0, Math.min(shown.length - 1, i < 0 ? 0 : i + by))];
  if (!row) return;
  select(Number(row.id.slice(4)));
  if (wide()) openEntry(selected);
}

// ---- one invocation ----

// openEntry shows an invocation in full. The address has it, so that the browser's Back leads to the list.
function openEntry(id, focus) {
  if (opened?.id !== id) {
    const first = !opened;
    history[first ? "pushState" : "replaceState"](null, "", `#${id}`);
    open(id);
  }
  if (focus || !wide()) $("details").focus();
}

function openHash() {
  const id = Number(location.hash.slice(1));
  if (entries.has(id)) {
    select(id);
    open(id);
  } else if (opened) {
    close();
  }
}

addEventListener("popstate", openHash);

function open(id) {
  opened = { id, other: 0, parts: new Map(), busy: false, again: false };
  document.body.classList.add("open");
  const frame = make("div", { class: "one" });
  for (const name of ["head", "times", "result", "event", "printed", "compare", "pieces", "context"]) {
    const part = make("div", { class: `part ${name}` });
    opened.parts.set(name, { element: part, key: null });
    frame.append(part);
  }
  $("details").replaceChildren(frame);
  $("details").scrollTop = 0;
  look(id);
}

function close() {
  opened = null;
  document.body.classList.remove("open");
  $("details").replaceChildren(make("p", { class: "hint placeholder", text: "Choose an invocation." }));
  $("list").focus();
}

// look brings what is shown of an invocation up to date. While it runs, that is not done too often.
async function look(id) {
  const it = opened;
  if (it?.id !== id) return;
  if (it.busy) {
    it.again = true;
    return;
  }
  it.busy = true;
  try {
    const d = await (await api(`/api/invocations/${id}`)).json();
    if (opened === it) await fill(it, d);
  } catch (error) {
    if (opened === it) await missing(it, error);
  }
  if (entries.has(id) && running(entries.get(id))) await new Promise((done) => setTimeout(done, 300));
  it.busy = false;
  if (it.again) {
    it.again = false;
    look(id);
  }
}

// missing says why there is nothing to read of an invocation. What was read of it before stays.
async function missing(it, error) {
  const head = it.parts.get("head").element;
  if (!head.firstChild) await part(it, "head", "missing", () => [make("p", { class: "hint", text: error.message })]);
  else if (error.status === 404 && !head.querySelector(".gone")) {
    head.append(make("p", { class: "wrong gone", text: "It is not kept any more: this is what was read of it." }));
    for (const button of head.querySelectorAll(".actions button")) button.disabled = true;
  }
}

// part writes a part anew, unless it was written from the same before. write may be asynchronous.
async function part(it, name, key, write) {
  const p = it.parts.get(name);
  if (p.key === key) return;
  p.key = key;
  let content;
  try {
    content = await write();
  } catch (error) {
    content = [make("p", { class: "hint", text: error.message })];
  }
  if (opened === it && p.key === key) p.element.replaceChildren(...content.filter(Boolean));
}

const bytesOf = async (path) => new Uint8Array(await (await api(path)).arrayBuffer());

async function fill(it, d) {
  const ends = `${d.outcome} ${d.answered} ${d.done} ${d.late}`;
  const path = `/api/invocations/${d.id}`;
  it.other = d.again ?? 0;
  part(it, "head", `${ends} ${d.caller} ${d.light}`, () => head(d));
  part(it, "times", `${ends} ${d.started} ${d.accepted} ${d.first_byte} ${d.sent} ${d.pieces?.length}`, () => times(d));
  part(it, "event", "event", async () => [d.event
    ? payload("Event", await bytesOf(`${path}/event`), size(d.event_bytes))
    : titled("Event", make("p", { class: "hint", text: "not kept: it was too large" }))]);
  part(it, "result", `${d.answer} ${d.error} ${d.outcome}`, () => result(d, path));
  part(it, "printed", `${d.printed_bytes}`, () => printed(d));
  part(it, "pieces", `${d.pieces?.length} ${d.answer}`, () => streamed(d, path));
  part(it, "context", "context", () => [context(d)]);
  const other = entries.get(it.other);
  part(it, "compare", `${ends} ${other?.outcome} ${other?.answer_bytes}`, () => compare(d, other));
}

const titled = (title, ...content) => make("section", {}, make("header", {}, make("h3", { text: title })), ...content);

function action(text, key, run, on = true) {
  return make("button", { type: "button", disabled: !on, on: { click: run }, "aria-keyshortcuts": key ?? undefined },
    text, key ? make("kbd", { text: key }) : null);
}

function head(d) {
  const back = make("button", { type: "button", class: "back quiet", text: "← List", on: { click: leave } });
  const facts = [d.text, d.late ? "the handler answered when it was over" : "", d.sealed ? "came sealed" : "",
    d.mirror ? "a copy, whose answer is not used" : "", d.light ? "too large to be kept whole" : ""].filter(Boolean);
  const took = running(d) ? "" : ` · ${ms(d.ms)}`;
  return [
    back,
    make("h2", {}, make("span", { class: "id", text: `#${d.id}` }), ` ${d.caller || "invoked directly"} `,
      make("span", { class: `chip ${d.outcome || "running"}`, text: d.outcome || "running" })),
    make("p", { class: "hint", text: `${d.function} · ${clock(d.arrived)}${took} · ${d.request_id}` }),
    facts.length ? make("p", { class: d.outcome === "error" ? "wrong" : "hint", text: facts.join("; ") }) : null,
    make("p", { class: "actions" },
      canRun ? make("button", { type: "button", class: "main", "aria-keyshortcuts": "r", on: { click: () => runAgain(d.id) }, disabled: !d.event },
        "Run again", make("kbd", { text: "r" })) : null,
      canRun ? action("Edit and run", "e", () => editAndRun(d.id), d.event) : null,
      action("Save", "s", () => save(d.id), d.event),
      d.request ? action("Copy as curl", null, () => copy(d.id, "curl")) : null,
      action("Copy as aws lambda invoke", null, () => copy(d.id, "invoke"), d.event)),
  ];
}

function leave() {
  history.replaceState(null, "", location.pathname);
  close();
}

const times = (d) => [titled("Times", timeline(d, d.pieces))];

async function result(d, path) {
  const parts = [];
  if (d.error > 0) parts.push(failure(await bytesOf(`${path}/error`), d));
  const kind = d.headers?.["Content-Type"];
  const sizes = `${size(d.answer_bytes)}${kind ? `, ${kind}` : ""}`;
  if (d.answer > 0) parts.push(payload("Answer", await bytesOf(`${path}/answer`), sizes));
  if (parts.length === 0) {
    const text = running(d) ? "not yet" : d.answer_bytes > 0 ? "not kept: it was too large" : "none";
    parts.push(titled("Answer", make("p", { class: "hint", text })));
  }
  return parts;
}

// failure shows an error with its stack, and as it is.
function failure(bytes, d) {
  const text = textOf(bytes);
  const view = payload("Error", bytes, d.error_type || size(bytes.length));
  let error = {};
  try {
    error = JSON.parse(text) ?? {};
  } catch {
    return view; // it is shown as it is
  }
  const stack = error.stackTrace ?? error.trace ?? error.stack ?? [];
  const words = (value) => (typeof value === "string" ? value : JSON.stringify(value)); // an object may not become text otherwise
  const lines = (Array.isArray(stack) ? stack : [stack]).slice(0, 200).map(words);
  const message = words(error.errorMessage ?? error.message ?? "");
  const told = make("div", { class: "stack" }, make("p", { class: "wrong", text: `${words(error.errorType ?? d.error_type ?? "")}: ${message}` }));
  if (lines.length) told.append(make("pre", { class: "code text", tabIndex: 0, text: lines.map((line) => line.replace(/\n+$/, "")).join("\n") }));
  view.querySelector("header").after(told);
  return view;
}

// printed shows what the handler printed. What would colour a terminal is left out.
function printed(d) {
  if (!d.printed?.length) return [];
  const pre = make("pre", { class: "code text", tabIndex: 0 });
  for (const p of d.printed) pre.append(make("span", { class: p.stderr ? "stderr" : "", text: p.text.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "") }));
  const kept = d.printed.reduce((n, p) => n + new TextEncoder().encode(p.text).length, 0);
  const note = kept < d.printed_bytes ? `the first ${size(kept)} of ${size(d.printed_bytes)}` : size(d.printed_bytes);
  const view = titled("Printed", pre);
  view.querySelector("header").append(make("span", { class: "hint", text: note }));
  return [view];
}

// streamed shows the pieces of a stream as they came.
async function streamed(d, path) {
  if (!d.pieces?.length) return [];
  const bytes = await bytesOf(`${path}/answer`);
  const list = make("ol", { class: "stream code" });
  let offset = 0;
  for (const p of d.pieces.slice(0, 500)) {
    const text = new TextDecoder().decode(bytes.subarray(offset, offset + Math.min(p.bytes, 500)));
    offset += p.bytes;
    list.append(make("li", {}, make("span", { class: "number", text: `+${ms(Math.max(at(p.at) - at(d.started ?? d.arrived), 0))}` }),
      make("span", { class: "number", text: size(p.bytes) }), make("span", { class: "text", text: p.bytes > 500 ? `${text}…` : text })));
  }
  const more = d.pieces.length > 500 ? make("p", { class: "hint", text: `and ${d.pieces.length - 500} more pieces` }) : null;
  const view = titled(`As it came: ${d.pieces.length} ${d.pieces.length === 1 ? "piece" : "pieces"}`, list);
  if (more) view.append(more);
  return [view];
}

function context(d) {
  const list = make("dl", { class: "context" });
  const values = { ...d.context, version: d.version, stage: d.stage, deadline: d.deadline };
  for (const [name, value] of Object.entries(values)) {
    if (value === "" || value === null || value === undefined || value === 0) continue;
    const text = typeof value === "string" ? value : JSON.stringify(value);
    list.append(make("div", {}, make("dt", { text: name }), make("dd", { class: "code", text })));
  }
  return make("details", { class: "fold" }, make("summary", {}, make("h3", { text: "Context" })), list);
}

// ---- run again, and compare ----

let asking = false; // so that one key pressed twice runs one
async function runAgain(id, event) {
  if (asking) return false;
  asking = true;
  try {
    const answer = await (await api("/api/again", event === undefined ? { id } : { id, event })).json();
    toast(`#${answer.id} runs the event of #${id}`);
    wanted = answer.id;
    openWanted();
    return true;
  } catch (error) {
    toast(error.message, true);
    if (event !== undefined) $("edit-wrong").textContent = error.message;
    return false;
  } finally {
    asking = false;
  }
}

// openWanted opens what runs again, once the server has told of it.
let wanted = 0;
function openWanted() {
  if (!entries.has(wanted)) return;
  select(wanted);
  openEntry(wanted);
  wanted = 0;
}

// answerText is an invocation's answer, or its error, as text; null if it is none.
const answerText = async (f) =>
  textOf(await bytesOf(`/api/invocations/${f.id}/${f.outcome === "error" ? "error" : "answer"}`));

async function compare(d, other) {
  if (!d.again) return [];
  const title = `Compared with #${d.again}`;
  const say = (text) => [titled(title, make("p", { class: "hint", text }))];
  if (!other) return say(`#${d.again} is not kept any more`);
  if (running(d) || running(other)) return say("when both have answered");
  const [before, after] = await Promise.all([answerText(other), answerText(d)]);
  if (before === null || after === null) return say("an answer that is no text is not compared");
  if (before === after) return say("both answers are the same");
  const lines = (text) => (isJSON(text) ? indented(text) : text);
  return [titled(title, difference(lines(before), lines(after), [`#${other.id}`, `#${d.id}`]))];
}

const maxEdited = 1_000_000; // characters: with more of them a field is too slow to write in

async function editAndRun(id) {
  $("edit-wrong").textContent = "";
  try {
    const text = await (await api(`/api/invocations/${id}/event`)).text();
    if (text.length > maxEdited) throw new Error("the event is too large to be edited here: save it, and run the file with live-lambda invoke");
    $("edit-text").value = indented(text);
  } catch (error) {
    toast(error.message, true);
    return;
  }
  $("edit").dataset.id = id;
  $("edit").showModal();
  $("edit-text").focus();
  $("edit-text").setSelectionRange(0, 0);
}

async function runEdited() {
  const text = $("edit-text").value;
  try {
    JSON.parse(text);
  } catch (error) {
    $("edit-wrong").textContent = `The event is not JSON: ${error.message}`;
    $("edit-text").focus();
    return;
  }
  if (await runAgain(Number($("edit").dataset.id), text)) $("edit").close();
}

$("edit-run").addEventListener("click", runEdited);
$("edit-text").addEventListener("keydown", (e) => {
  if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) runEdited();
});

// ---- save, and copy ----

function save(id, name) {
  $("save-wrong").textContent = "";
  $("save-over").hidden = true;
  $("save").dataset.id = id;
  $("save-name").value = name ?? `event-${id}.json`;
  $("save").showModal();
  $("save-name").select();
}

async function saveNow(overwrite) {
  try {
    const answer = await api("/api/save", { id: Number($("save").dataset.id), name: $("save-name").value, overwrite });
    toast(`saved as ${(await answer.json()).file}`);
    $("save").close();
  } catch (error) {
    $("save-wrong").textContent = error.message;
    $("save-over").hidden = error.status !== 409;
    $("save-name").focus();
  }
}

$("save-run").addEventListener("click", () => saveNow(false));
$("save-over").addEventListener("click", () => saveNow(true));
$("save-name").addEventListener("input", () => ($("save-over").hidden = true));
$("save-name").addEventListener("keydown", (e) => {
  if (e.key === "Enter") saveNow(false);
});

async function copy(id, kind) {
  try {
    const command = await (await api(`/api/invocations/${id}/${kind}`)).json();
    const note = command.file ? `It takes the event from ${command.file}: save that first.` : "";
    try {
      await navigator.clipboard.writeText(command.text);
      toast(`copied. ${note}`);
    } catch {
      $("copy-hint").textContent = `The browser does not let the page copy: the text is selected. ${note}`;
      $("copy-text").value = command.text;
      $("copy").showModal();
      $("copy-text").select();
    }
  } catch (error) {
    toast(error.message, true);
  }
}

// ---- keys ----

for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}

const actions = {
  j: () => move(1),
  k: () => move(-1),
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  Enter: () => selected && openEntry(selected, true),
  r: (d) => d && canRun && runAgain(d),
  e: (d) => d && canRun && editAndRun(d),
  s: (d) => d && save(d),
  "/": () => $("filter-text").focus(),
  "?": () => $("keys").showModal(),
  Escape: () => (opened && !wide() ? leave() : $("list").focus()),
};

// In a field, keys write; in the details the arrows scroll, and Enter and the space press what has the focus.
addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || document.querySelector("dialog[open]")) return;
  const field = e.target.closest?.("input, select, textarea");
  if (field && e.key !== "Escape" && !(e.key === "Enter" && field.id === "filter-text")) return;
  const within = e.target.closest?.("#details, button, summary");
  if (within && ["ArrowDown", "ArrowUp", "Enter"].includes(e.key)) return;
  if (!Object.hasOwn(actions, e.key)) return;
  e.preventDefault();
  if (field && e.key === "Enter") {
    $("list").focus();
    move(0);
    return;
  }
  actions[e.key](opened?.id || selected);
});

$("show-keys").addEventListener("click", () => $("keys").showModal());
connect();
