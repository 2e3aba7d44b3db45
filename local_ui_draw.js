// local_ui_draw.js draws the legs of an invocation to scale, the picture of the last hour, and what differs
// between two answers.

import { make, size } from "./local_ui_json.js";

// ms writes milliseconds for people, with three digits that count.
export function ms(n) {
  if (n >= 60_000) return `${Math.floor(n / 60_000)} min ${Math.round((n % 60_000) / 1000)} s`;
  if (n >= 1000) return `${(n / 1000).toFixed(n < 10_000 ? 2 : 1)} s`;
  if (n >= 100) return `${Math.round(n)} ms`;
  if (n > 0 && n < 0.01) return "< 0.01 ms";
  return `${n.toFixed(n < 10 ? 2 : 1)} ms`;
}

// at reads a time: milliseconds, with the parts of one that Date leaves out; NaN if there is none.
export function at(time) {
  if (!time) return NaN;
  const fraction = /\.(\d+)/.exec(time)?.[1] ?? "";
  return Math.floor(Date.parse(time) / 1000) * 1000 + Number(`0.${fraction || 0}`) * 1000;
}

// ---- the legs of an invocation ----

// legsOf are the legs that an invocation has come through, each until the next time that is known.
export function legsOf(f) {
  const times = [
    { name: "on its way here", from: at(f.sent) },
    { name: f.accepted ? "until accepted" : "waiting for a process", from: at(f.arrived) },
    { name: "waiting for a process", from: at(f.accepted) },
    { name: f.streamed ? "until the first byte" : "in the handler", from: at(f.started) },
    { name: "answering", from: at(f.first_byte) },
    { name: "answer on its way", from: at(f.answered) },
    { name: "done", from: at(f.done) },
  ];
  const known = times.filter((t) => !Number.isNaN(t.from));
  return known.slice(0, -1).map((t, i) => ({ name: t.name, from: t.from, to: Math.max(known[i + 1].from, t.from) }));
}

// timeline draws the legs below each other, as parts of all the time.
export function timeline(f, pieces) {
  const legs = legsOf(f);
  if (legs.length === 0) return make("p", { class: "hint", text: "no times are known yet" });
  const first = legs[0].from;
  const whole = Math.max(legs.at(-1).to - first, 0.001);
  const view = make("ol", { class: "legs" });
  for (const leg of legs) {
    const bar = make("span", { class: "bar" });
    bar.style.marginLeft = `${((leg.from - first) / whole) * 100}%`;
    bar.style.width = `${((leg.to - leg.from) / whole) * 100}%`;
    const track = make("span", { class: "track", "aria-hidden": "true" }, bar);
    if (leg.name === "answering") marks(track, pieces, first, whole);
    view.append(make("li", {}, make("span", { text: leg.name }), track,
      make("span", { class: "number", text: ms(leg.to - leg.from) })));
  }
  return view;
}

// marks shows when the pieces of a stream came.
function marks(track, pieces, first, whole) {
  for (const p of (pieces ?? []).slice(0, 500)) {
    const mark = make("span", { class: "mark" });
    mark.style.left = `${((at(p.at) - first) / whole) * 100}%`;
    track.append(mark);
  }
}

// ---- the last hour ----

const svgSpace = "http://www.w3.org/2000/svg";

function svg(tag, attributes) {
  const element = document.createElementNS(svgSpace, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// hourFigures are the figures of the last hour, as a list.
export function hourFigures(hour) {
  const figure = (name, value, kind) =>
    make("div", { class: kind }, make("dt", { text: name }), make("dd", { text: value }));
  const none = hour.count === 0;
  return [
    figure("invocations", String(hour.count)),
    figure("errors", String(hour.errors), hour.errors > 0 ? "bad" : ""),
    figure("p50", none ? "–" : ms(hour.p50)),
    figure("p95", none ? "–" : ms(hour.p95)),
  ];
}

// hourPicture draws each minute: a bar for its invocations, its errors red, and lines for p50 and p95.
export function hourPicture({ hour, minutes }) {
  const width = 360;
  const height = 64;
  const step = width / 60;
  const begin = hour.minute - 59 * 60;
  const most = Math.max(...(minutes ?? []).map((m) => m.count), 1);
  const slowest = Math.max(...(minutes ?? []).map((m) => m.p95), 0.001);
  const image = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img" });
  image.setAttribute("aria-label", `Each minute of the last hour: at most ${most} invocations, p95 at most ${ms(slowest)}`);
  image.append(svg("line", { x1: 0, x2: width, y1: height - 0.5, y2: height - 0.5, class: "axis" }));
  const lines = { p50: "", p95: "" };
  let last = -2;
  for (const m of minutes ?? []) {
    const n = (m.minute - begin) / 60;
    const x = n * step;
    const high = (m.count / most) * (height - 6);
    const bad = (m.errors / most) * (height - 6);
    image.append(svg("rect", { x: x + 0.5, y: height - high, width: step - 1, height: high - bad, class: "all" }));
    image.append(svg("rect", { x: x + 0.5, y: height - bad, width: step - 1, height: bad, class: "bad" }));
    for (const name of ["p50", "p95"]) {
      const y = height - 2 - (m[name] / slowest) * (height - 8);
      lines[name] += n === last + 1 ? `L${x + step / 2} ${y}` : `M${x + 0.5} ${y}H${x + step / 2}`;
    }
    last = n;
  }
  for (const name of ["p95", "p50"]) {
    if (lines[name]) image.append(svg("path", { d: lines[name], class: name }));
  }
  const legend = make("p", { class: "legend hint", "aria-hidden": "true" },
    make("span", { text: "60 min ago" }),
    make("span", {}, make("i", { class: "p50" }), "p50 ", make("i", { class: "p95" }), "p95"),
    make("span", { text: "now" }));
  return [image, legend];
}

// ---- what differs ----

const maxCells = 4_000_000; // of the table of common lines
const around = 3; // lines that are the same
const maxRows = 2000;

// differ are the steps from lines a to lines b: the same, gone, or come; or n lines that are the same and are
// skipped, for those at the beginning and the end may be many. whole is false if there were too many
// to find the fewest.
export function differ(a, b) {
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const left = a.slice(head, a.length - tail);
  const right = b.slice(head, b.length - tail);
  const steps = [];
  const same = (from, to) => steps.push(...a.slice(from, to).map((line) => ({ kind: "same", line })));
  const skip = (n) => n > 0 && steps.push({ kind: "skip", n });
  if (head === a.length && head === b.length) return { steps, whole: true };
  skip(head - around);
  same(Math.max(head - around, 0), head);
  const whole = left.length * right.length <= maxCells;
  if (whole) for (const step of fewest(left, right)) steps.push(step);
  else {
    for (const line of left) steps.push({ kind: "gone", line });
    for (const line of right) steps.push({ kind: "come", line });
  }
  same(a.length - tail, a.length - Math.max(tail - around, 0));
  skip(tail - around);
  return { steps, whole };
}

// fewest are the fewest steps, by the longest list of common lines.
function fewest(a, b) {
  const width = b.length + 1;
  const common = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      common[i * width + j] = a[i] === b[j]
        ? common[(i + 1) * width + j + 1] + 1
        : Math.max(common[(i + 1) * width + j], common[i * width + j + 1]);
    }
  }
  const steps = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      steps.push({ kind: "same", line: a[i] });
      i++;
      j++;
    } else if (j === b.length || (i < a.length && common[(i + 1) * width + j] >= common[i * width + j + 1])) {
      steps.push({ kind: "gone", line: a[i++] });
    } else {
      steps.push({ kind: "come", line: b[j++] });
    }
  }
  return steps;
}

// rowsOf puts what has gone beside what has come in its place.
function rowsOf(steps) {
  const rows = [];
  let gone = [];
  let come = [];
  const flush = () => {
    for (let i = 0; i < Math.max(gone.length, come.length); i++) rows.push({ left: gone[i], right: come[i] });
    gone = [];
    come = [];
  };
  for (const { kind, line, n } of steps) {
    if (kind === "gone") gone.push(line);
    else if (kind === "come") come.push(line);
    else {
      flush();
      rows.push(kind === "skip" ? { skip: n } : { left: line, right: line, same: true });
    }
  }
  flush();
  return rows;
}

// difference shows two texts side by side. Lines that are the same are left out but for those around.
export function difference(left, right, names) {
  const { steps, whole } = differ(left.split("\n"), right.split("\n"));
  const rows = rowsOf(steps);
  const near = new Set();
  rows.forEach((row, i) => {
    if (row.same || row.skip) return;
    for (let n = i - around; n <= i + around; n++) near.add(n);
  });
  if (near.size === 0) return make("p", { class: "hint", text: "both answers are the same" });
  const table = make("table", { class: "diff code" },
    make("thead", {}, make("tr", {}, make("th", { text: names[0], scope: "col" }), make("th", { text: names[1], scope: "col" }))));
  const body = make("tbody");
  let same = 0;
  let shown = 0;
  const skipped = () => {
    const text = same === 1 ? "1 line is the same" : `${same} lines are the same`;
    if (same > 0) body.append(make("tr", { class: "skipped" }, make("td", { colSpan: 2, text })));
    same = 0;
  };
  for (const [i, row] of rows.entries()) {
    if (row.skip || !near.has(i)) {
      same += row.skip ?? 1;
      continue;
    }
    skipped();
    if (shown++ >= maxRows) break;
    body.append(make("tr", {}, cell(row.left, row.same ? "" : "gone"), cell(row.right, row.same ? "" : "come")));
  }
  skipped();
  table.append(body);
  const notes = [];
  if (!whole) notes.push("They differ in so many lines that it is not looked which of these are the same.");
  if (shown > maxRows) notes.push(`Only the first ${maxRows} lines are shown.`);
  return make("div", {}, make("div", { class: "scrolls" }, table), ...notes.map((text) => make("p", { class: "hint", text })));
}

// cell is one side of a line. For those who do not see colours it begins with − or +.
function cell(line, kind) {
  if (line === undefined) return make("td", { class: "none" });
  const sign = kind === "gone" ? "− " : kind === "come" ? "+ " : "  ";
  const text = line.length > 2000 ? `${line.slice(0, 2000)}… (${size(line.length)})` : line;
  return make("td", { class: kind, text: sign + text });
}
