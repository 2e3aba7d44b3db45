// local_ui_json.js shows what invocations carry: JSON as a tree or indented, other text, and bytes as hex.
//
// Numbers, and all else, are shown as they stand in the text: JSON.parse would change large numbers and drop
// keys that come twice. Nothing is shown before it is looked at: the children of a node when it is opened, a
// hundred at a time, and long texts piece by piece. So 6 MB do not freeze the page. All of it goes into the
// page as text.

const slice = 100; // children at a time
const cut = 600; // characters of a string in a tree
const piece = 40_000; // characters of a long text at a time
const hexRows = 128; // of 16 bytes, at a time
const maxIndent = 40; // levels

// make makes an element. A property that is no attribute is set; text is its text, on has listeners.
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "text") element.textContent = value;
    else if (name === "class") element.className = value;
    else if (name === "on") for (const [kind, f] of Object.entries(value)) element.addEventListener(kind, f);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// size writes bytes for people.
export function size(n) {
  if (n < 1000) return `${n} B`;
  if (n < 1e6) return `${(n / 1e3).toFixed(1)} kB`;
  return `${(n / 1e6).toFixed(1)} MB`;
}

// isJSON reports whether a text is JSON.
export function isJSON(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

// textOf is bytes as text; null if they are none.
export function textOf(bytes) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return /[\0-\x08\x0e-\x1a\x1c-\x1f]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

// ---- reading JSON, which is known to be valid ----

const isSpace = (c) => c === " " || c === "\n" || c === "\t" || c === "\r";

function skipSpace(text, i) {
  while (isSpace(text[i])) i++;
  return i;
}

// stringEnd is behind the string that begins at i.
function stringEnd(text, i) {
  for (;;) {
    const quote = text.indexOf('"', i + 1);
    let escapes = quote - 1;
    while (text[escapes] === "\\") escapes--;
    i = quote;
    if ((quote - escapes) % 2 === 1) return quote + 1;
  }
}

// valueEnd is behind the value that begins at i.
function valueEnd(text, i) {
  if (text[i] === '"') return stringEnd(text, i);
  let depth = 0;
  for (; i < text.length; i++) {
    const c = text[i];
    if (c === '"') i = stringEnd(text, i) - 1;
    else if (c === "{" || c === "[") depth++;
    else if (c === "}" || c === "]") {
      if (depth === 0) return i; // it ends what a number or a word stands in
      depth--;
      if (depth === 0) return i + 1;
    } else if (depth === 0 && (c === "," || isSpace(c))) return i;
  }
  return i;
}

// childrenOf are offsets of the children of the object or array that begins at i, four for each: of its key
// and of its value the begin and the end. In an array the keys are empty.
export function childrenOf(text, i) {
  const object = text[i] === "{";
  const found = [];
  i = skipSpace(text, i + 1);
  while (text[i] !== "}" && text[i] !== "]") {
    let key = i;
    let keyEnd = i;
    if (object) {
      keyEnd = stringEnd(text, i);
      i = skipSpace(text, skipSpace(text, keyEnd) + 1); // behind the colon
    }
    const end = valueEnd(text, i);
    found.push(key, keyEnd, i, end);
    i = skipSpace(text, end);
    if (text[i] === ",") i = skipSpace(text, i + 1);
  }
  return found;
}

// indented is JSON with each child on a line of its own.
export function indented(text) {
  const parts = [];
  let depth = 0;
  const line = () => parts.push("\n", "  ".repeat(Math.min(depth, maxIndent)));
  for (let i = skipSpace(text, 0); i < text.length; i = skipSpace(text, i)) {
    const c = text[i];
    if (c === "{" || c === "[") {
      const next = skipSpace(text, i + 1);
      if (text[next] === "}" || text[next] === "]") {
        parts.push(c, text[next]);
        i = next + 1;
        continue;
      }
      depth++;
      parts.push(c);
      line();
    } else if (c === "}" || c === "]") {
      depth--;
      line();
      parts.push(c);
    } else if (c === ",") {
      parts.push(c);
      line();
    } else if (c === ":") {
      parts.push(": ");
    } else {
      const end = valueEnd(text, i);
      parts.push(text.slice(i, end));
      i = end;
      continue;
    }
    i++;
  }
  return parts.join("");
}

// ---- the tree ----

// tree shows JSON as details elements, which fold by themselves, and with the keyboard too.
export function tree(text) {
  const begin = skipSpace(text, 0);
  const view = make("div", { class: "tree code" });
  view.append(node(text, null, begin, valueEnd(text, begin), { depth: 0, encoded: false }));
  return view;
}

// node shows the value between two offsets. where is what is known of its place: depth, and whether its
// parent says that its body is in base64.
function node(text, key, begin, end, where) {
  const c = text[begin];
  const label = key === null ? [] : [make("span", { class: "key", text: key }), ": "];
  if (c !== "{" && c !== "[") return make("div", { class: "leaf" }, ...label, ...leaf(text, key, begin, end, where));
  const children = childrenOf(text, begin);
  const count = children.length / 4;
  if (count === 0) return make("div", { class: "leaf" }, ...label, c === "{" ? "{}" : "[]");
  const what = c === "{" ? `{ ${count} ${count === 1 ? "key" : "keys"} }` : `[ ${count} ]`;
  const fold = make("details", {}, make("summary", {}, ...label, make("span", { class: "dim", text: what })));
  const fill = () => {
    if (fold.children.length === 1) more(fold, text, children, 0, inside(text, children, where));
  };
  fold.addEventListener("toggle", fill);
  if (where.depth === 0 || (where.depth < 4 && end - begin <= 500)) {
    fold.open = true;
    fill();
  }
  return fold;
}

// inside is what is known of the place of a node's children.
function inside(text, children, where) {
  let encoded = false;
  for (let i = 0; i < Math.min(children.length, 4 * slice); i += 4) {
    if (text.slice(children[i], children[i + 1]) === '"isBase64Encoded"') {
      encoded = text.slice(children[i + 2], children[i + 3]) === "true";
    }
  }
  return { depth: where.depth + 1, encoded };
}

// more shows the next children.
function more(fold, text, children, from, where) {
  const count = children.length / 4;
  const to = Math.min(from + slice, count);
  for (let n = from; n < to; n++) {
    const [key, keyEnd, begin, end] = children.slice(4 * n, 4 * n + 4);
    const name = keyEnd > key ? text.slice(key, keyEnd) : String(n);
    fold.append(node(text, name, begin, end, where));
  }
  if (to < count) {
    const button = make("button", { type: "button", class: "more", text: `${to - from} of ${count - from}: show more` });
    button.textContent = `Show ${Math.min(slice, count - to)} more of ${count - to}`;
    button.addEventListener("click", () => {
      more(fold, text, children, to, where);
      button.remove();
    });
    fold.append(button);
  }
}

// leaf shows a string, a number or a word; of a string also what it is an encoding of.
function leaf(text, key, begin, end, where) {
  const kind = text[begin] === '"' ? "string" : /[-0-9]/.test(text[begin]) ? "number" : "word";
  const value = make("span", { class: kind, text: text.slice(begin, Math.min(end, begin + cut)) });
  const parts = [value];
  if (end - begin > cut) {
    let shown = begin + cut;
    const button = make("button", { type: "button", class: "more", text: `… show all (${size(end - begin)})` });
    button.addEventListener("click", () => {
      value.append(text.slice(shown, Math.min(shown + piece, end)));
      shown += piece;
      button.textContent = `… ${size(end - shown)} more`;
      if (shown >= end) button.remove();
    });
    parts.push(" ", button);
  }
  if (kind === "string") {
    const decoded = decodedString(text, key, begin, end, where);
    if (decoded) parts.push(decoded);
  }
  return parts;
}

const encodedKeys = new Set(['"data"', '"body"', '"value"', '"binary"']);

// decodedString shows what a string holds beside it, if that is base64, where that is used, or JSON.
function decodedString(text, key, begin, end, where) {
  const body = key === '"body"' && where.encoded;
  const content = text.slice(begin + 1, end - 1);
  const encoded = body || (encodedKeys.has(key) && mayBeBase64(content));
  const json = /^\s*(\{|\[|\\[nrt])/.test(content) && content.length > 2;
  if (!encoded && !json) return null;
  const short = content.length <= 500;
  if (!encoded && short && !isJSON(JSON.parse(text.slice(begin, end)))) return null;
  const fold = make("details", { class: "decoded" });
  fold.append(make("summary", { class: "dim", text: encoded ? "decoded from base64" : "as JSON" }));
  const fill = () => {
    if (fold.children.length > 1) return;
    const string = JSON.parse(text.slice(begin, end));
    fold.append(encoded ? fromBase64(string) : isJSON(string) ? tree(string) : make("p", { class: "hint", text: "it is not JSON" }));
  };
  fold.addEventListener("toggle", fill);
  if (short || (body && content.length < 100_000)) {
    fold.open = true;
    fill();
  }
  return fold;
}

// mayBeBase64 looks at the beginning and at the end. What is a number is none.
function mayBeBase64(content) {
  return content.length >= 8 && content.length % 4 === 0 && /^[A-Za-z0-9+/]+$/.test(content.slice(0, 4096).slice(0, -2)) &&
    /^[A-Za-z0-9+/]{2}([A-Za-z0-9+/]{2}|[A-Za-z0-9+/]=|==)$/.test(content.slice(-4)) && !/^[0-9]+$/.test(content);
}

// fromBase64 shows what base64 stands for.
function fromBase64(string) {
  try {
    const bytes = Uint8Array.from(atob(string), (c) => c.charCodeAt(0));
    const text = textOf(bytes);
    if (text === null) return hex(bytes);
    return /^\s*[{[]/.test(text) && isJSON(text) ? tree(text) : plain(text);
  } catch {
    return make("p", { class: "hint", text: "it is not base64" });
  }
}

// ---- text and bytes ----

// pieces shows what is long a part at a time. part(i) has the text of part i, or null behind the last one.
function pieces(className, part, left) {
  const pre = make("pre", { class: className, text: part(0) ?? "", tabIndex: 0 });
  const view = make("div", {}, pre);
  let next = 1;
  if (part(1) === null) return view;
  const button = make("button", { type: "button", class: "more", text: `Show more: ${left(1)} left` });
  button.addEventListener("click", () => {
    pre.append(part(next));
    next++;
    button.textContent = `Show more: ${left(next)} left`;
    if (part(next) === null) button.remove();
  });
  view.append(button);
  return view;
}

// plain shows a text.
export function plain(text) {
  return pieces(
    "code text",
    (i) => (i > 0 && i * piece >= text.length ? null : text.slice(i * piece, (i + 1) * piece)),
    (i) => size(text.length - i * piece),
  );
}

// hex shows bytes.
export function hex(bytes) {
  const part = 16 * hexRows;
  return pieces(
    "code hex",
    (i) => (i > 0 && i * part >= bytes.length ? null : hexText(bytes, i * part, Math.min((i + 1) * part, bytes.length))),
    (i) => size(bytes.length - i * part),
  );
}

function hexText(bytes, from, to) {
  let text = "";
  for (let i = from; i < to; i += 16) {
    const row = bytes.subarray(i, Math.min(i + 16, to));
    const digits = Array.from(row, (b) => b.toString(16).padStart(2, "0")).join(" ");
    const letters = Array.from(row, (b) => (b > 31 && b < 127 ? String.fromCharCode(b) : ".")).join("");
    text += `${i.toString(16).padStart(8, "0")}  ${digits.padEnd(47)}  ${letters}\n`;
  }
  return text;
}

// payload shows bytes in the ways that they can be looked at, and remembers the way.
const chosen = new Map(); // by title

export function payload(title, bytes, note) {
  const text = textOf(bytes);
  const json = text !== null && isJSON(text);
  const ways = new Map();
  if (json) {
    ways.set("Tree", () => tree(text));
    ways.set("Text", () => plain(indented(text)));
    ways.set("Raw", () => plain(text));
  } else if (text !== null) {
    ways.set("Raw", () => plain(text));
  }
  ways.set("Hex", () => hex(bytes));
  const view = make("div", { class: "view" });
  const buttons = make("div", { class: "ways", role: "group", "aria-label": `${title}: how to show it` });
  const show = (way) => {
    for (const button of buttons.children) button.setAttribute("aria-pressed", String(button.textContent === way));
    view.replaceChildren(bytes.length === 0 ? make("p", { class: "hint", text: "empty" }) : ways.get(way)());
  };
  for (const way of ways.keys()) {
    const button = make("button", { type: "button", text: way });
    button.addEventListener("click", () => {
      chosen.set(title, way);
      show(way);
    });
    buttons.append(button);
  }
  show(ways.has(chosen.get(title)) ? chosen.get(title) : ways.keys().next().value);
  return make("section", { class: "payload", "data-part": title.toLowerCase() },
    make("header", {}, make("h3", { text: title }), make("span", { class: "hint", text: note }), buttons), view);
}
