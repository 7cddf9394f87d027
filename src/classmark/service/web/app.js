// The page of classmark: one module, no framework, nothing from other hosts. Text from people, files
// and the service reaches the document only as text nodes, never as markup.

const TOP = 10; // categories asked for, so that a prediction set is rarely longer than the ranking
const ALWAYS_SHOWN = 5; // categories listed even if the set is smaller
const ROWS_A_STEP = 100; // table rows added at a time
const EXPLAINED_FILE_BYTES = 1 << 20; // above it the rows of a file come without reasons
const LINKED_BYTES = 1 << 20; // a link that unpacks to more is refused
const STATUS_EVERY_MS = 10_000;
const LABEL_CHARS = 8; // a longer mark is set smaller, so that the label does not break it
const LEAST_WEIGHT = 0.005; // of a term that is listed: it would be shown as × 1.00
const SLOW_MS = 1500; // a screen reader is told of work that takes longer

const TERMS_IN_WORDS = {
  "(bias)": "how common each of the two is",
  "(other terms)": "all other words together",
  "(residual)": "what no single word explains",
  "(rounding)": "rounding",
};

const $ = (id) => document.getElementById(id);
const box = $("text");
const html = document.documentElement;
const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en-GB")} ${n === 1 ? one : many}`;
const shelfOf = (code) => code.split(".")[0];
const markOf = (code) => code.slice(shelfOf(code).length);

// ---- small tools -----------------------------------------------------------------------------

/** An element with attributes and children; children may be text. */
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

/** A copy of a template: its root, and a function that finds slots by name. */
function copy(name) {
  const root = $(`${name}-template`).content.firstElementChild.cloneNode(true);
  return [root, (slot) => root.querySelector(`[data-slot="${slot}"]`)];
}

/** The service's sentence with a capital: it is written to follow a colon. */
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function percent(probability) {
  const rounded = Math.round(probability * 100);
  if (rounded === 0) return "<\u200a1\u202f%";
  return rounded === 100 ? ">\u200a99\u202f%" : `${rounded}\u202f%`;
}

/** Tell a screen reader; the change is visible elsewhere. */
function say(text) {
  $("live").textContent = text;
}

function offerDownload(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// ---- the service -----------------------------------------------------------------------------

/** What went wrong, in a sentence, and what to do about it. */
class Fault extends Error {
  constructor(title, advice, { canRetry = false, asksKey = false, calm = false } = {}) {
    super(title);
    Object.assign(this, { title, advice, canRetry, asksKey, calm });
  }
}

let apiKey = ""; // kept in this page only

async function call(path, { body, signal } = {}) {
  const request = { signal, headers: apiKey ? { "X-API-Key": apiKey } : {} };
  if (body) {
    request.method = "POST";
    request.body = body instanceof FormData ? body : JSON.stringify(body);
    if (!(body instanceof FormData)) request.headers["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(path, request);
    if (response.ok) return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Fault(
      "The service does not answer.",
      "Check that it is running and that you are connected, then try again. Your text is still here.",
      { canRetry: true },
    );
  }
  throw faultOf(response, await response.json().catch(() => ({})));
}

function faultOf(response, problem) {
  const { status, headers } = response;
  const [title, advice] = inWords(status, headers, problem);
  const asksKey = status === 401 || status === 403;
  return new Fault(title, advice, { asksKey, canRetry: asksKey || status === 429 || status >= 500 });
}

/** A title and an advice for a response that is a problem. */
function inWords(status, headers, problem) {
  const seconds = Number(headers.get("Retry-After")) || 1;
  const wait = `Wait ${count(seconds, "second")}, then try again.`;
  const detail = [problem.detail, ...(problem.errors ?? []).map((e) => `${e.field}: ${e.message}`)]
    .filter((part) => typeof part === "string").map(sentence).join(" ");
  const byKind = {
    key_unknown: ["The service does not know this API key.", "It may be mistyped or revoked. Enter it again, or ask whoever runs the service."],
    journal_off: ["This service keeps no journal.", "So it cannot take corrections; whoever runs it can switch the journal on."],
    not_ready: ["The service is stopping.", "Try again in a moment."],
  };
  const byStatus = {
    401: ["The service asks for an API key.", "Enter yours; it is kept until you leave this page."],
    403: ["This API key may not do that.", "Enter another one, or ask whoever runs the service."],
    404: ["The service does not have that.", detail],
    413: ["That is more than the service takes at once.", detail || "Shorten the text or split the file."],
    415: ["The service cannot read this kind of file.", detail],
    422: ["The service cannot read that.", detail || "Check the text and try again."],
    429: ["Too many requests in a short time.", wait],
    503: ["The service is busy at the moment.", wait],
    504: ["The service took too long.", "Try again, or shorten the text."],
  };
  const request = headers.get("X-Request-ID");
  return byKind[problem.kind] ?? byStatus[status] ?? [
    "Something went wrong in the service.",
    `Try again; if it stays, tell whoever runs it${request ? ` the request id ${request}` : ""}.`,
  ];
}

/** A question whose answer is kept; it is asked again after a failure. */
function once(ask) {
  let asked = null;
  return () => (asked ??= ask().catch((error) => {
    asked = null;
    throw error;
  }));
}

let namesByCode = new Map();
const categories = once(async () => {
  const { categories: all } = await call("v1/categories");
  namesByCode = new Map(all.map(({ code, name }) => [code, name]));
  return all.filter(({ active }) => active !== false);
});

let coverage = null; // that prediction sets were built for, 0..1
const model = once(async () => {
  const { models } = await call("v1/models");
  const answering = models.find((one) => one.default) ?? models[0];
  coverage = answering.set_coverage ?? null;
  return answering;
});

/** Wait for what makes answers readable; without it they are shown with less. */
const catalogue = () => Promise.allSettled([categories(), model()]);

// ---- one piece of work at a time -------------------------------------------------------------

let current = null;

/** Run a task that the next one cancels; `task(signal)` shows its own result. */
async function work(task) {
  current?.abort();
  const mine = (current = new AbortController());
  $("notice").replaceChildren();
  setBusy(true);
  try {
    await task(mine.signal);
  } catch (error) {
    if (!mine.signal.aborted) showFault(error, $("notice"), () => work(task));
  } finally {
    if (current === mine) {
      current = null;
      setBusy(false);
    }
  }
}

let patience = 0;

function setBusy(busy) {
  clearTimeout(patience);
  if (busy) patience = setTimeout(say, SLOW_MS, "Still working. Escape cancels.");
  $("result").setAttribute("aria-busy", busy);
  $("result").querySelector(".progress").hidden = !busy;
}

function showFault(error, place, again) {
  const fault = error instanceof Fault ? error
    : new Fault("This page stumbled.", `Reload it and try again (${error.message}).`);
  const [notice, slot] = copy("notice");
  slot("title").textContent = fault.title;
  slot("advice").textContent = fault.advice;
  slot("key-form").hidden = !fault.asksKey;
  const button = notice.querySelector('[data-act="again"]');
  notice.classList.toggle("calm", fault.calm);
  button.parentNode.hidden = !fault.canRetry;
  if (fault.asksKey) button.textContent = "Use this key";
  const retry = () => {
    apiKey = slot("key").value || apiKey;
    again();
  };
  slot("key-form").addEventListener("submit", (event) => (event.preventDefault(), retry()));
  button.addEventListener("click", retry);
  place.replaceChildren(notice);
  if (fault.calm) return;
  bringIntoView(place);
  if (fault.asksKey) slot("key").focus({ preventScroll: true });
}

function show(node) {
  $("output").replaceChildren(node);
  bringIntoView($("result"));
}

/** Scroll only if the place begins above the screen, or so low that little of it is seen. */
function bringIntoView(place) {
  const { top } = place.getBoundingClientRect();
  if (top >= 0 && top < innerHeight * 0.45) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  place.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
}

// ---- from what was pasted to a paper ---------------------------------------------------------

/** Title and abstract of a pasted text; a copied arXiv page is stripped of what is around them. */
function readPaper(text) {
  const page = text.trim();
  const marked = /^[ \t]*abstract[ \t]*[:.\n—-]\s*/im.exec(page);
  if (marked) {
    const before = page.slice(0, marked.index);
    const after = page.slice(marked.index + marked[0].length);
    const title = /^[ \t]*title[ \t]*:\s*(.+)$/im.exec(before)?.[1] ?? before.trim().split("\n")[0];
    return {
      title: title.trim(),
      abstract: after.split(/^\s*(?:comments|subjects|cite as|keywords|journal ref\w*)\s*:/im)[0].trim(),
    };
  }
  const [first, ...rest] = page.replace(/^title[ \t]*:\s*/i, "").split("\n");
  if (!rest.length) return { title: "", abstract: first };
  return { title: first.trim(), abstract: rest.join("\n").trim() };
}

const isBibtex = (text) => /^\s*@\w+\s*\{/.test(text);

function describeReading() {
  $("clear").hidden = !box.value;
  $("reading").textContent = readingOf(box.value);
}

function readingOf(text) {
  if (!text.trim()) return "The first line is read as the title. A copied arXiv page or a BibTeX entry works too.";
  if (isBibtex(text)) return "Read as BibTeX.";
  const { title, abstract } = readPaper(text);
  const words = count(abstract.split(/\s+/).filter(Boolean).length, "word");
  const short = title.length > 60 ? `${title.slice(0, 58)}…` : title;
  return title ? `Read as the title “${short}” and an abstract of ${words}.`
    : `Read as an abstract of ${words} without a title.`;
}

function classify() {
  const text = box.value;
  if (!text.trim()) {
    const fault = new Fault("There is nothing to classify yet.", "Paste a title and an abstract first.");
    showFault(fault, $("notice"), classify);
    box.focus();
    return;
  }
  if (isBibtex(text)) {
    classifyFile(new File([text], "pasted.bib", { type: "application/x-bibtex" }));
    return;
  }
  const paper = readPaper(text);
  if (location.hash.startsWith("#p=") && text !== linked) history.pushState(null, "", "./");
  work(async (signal) => {
    const body = { ...paper, top: TOP, explain: true };
    const answer = await call("v1/classify", { body, signal });
    await catalogue();
    show(answerView(answer, { ...paper, text }));
    say(verdict(answer).join(answer.primary ? `, ${answer.primary}. ` : ". "));
  });
}

function classifyFile(file) {
  work(async (signal) => {
    const form = new FormData();
    form.append("file", file);
    form.append("top", TOP);
    form.append("explain", file.size <= EXPLAINED_FILE_BYTES);
    const { answers } = await call("v1/files", { body: form, signal });
    await catalogue();
    show(batchView(answers, file.name));
    say(`${count(answers.length, "paper")} of ${file.name} classified.`);
  });
}

// ---- the answer ------------------------------------------------------------------------------

const called = (code) => (namesByCode.get(code) ? `${namesByCode.get(code)} (${code})` : code);

/** The verdict in words: a heading and a sentence. */
function verdict({ primary, reason, ranked: [top] }) {
  if (primary) {
    const hundred = Math.round(top.probability * 100);
    return [top.name, `${percent(top.probability)} probable: of a hundred answers given with this probability, about ${hundred} are right.`];
  }
  if (reason === "out_of_scope") {
    return ["No category: this does not read like a paper",
      "The text is unlike the English scientific abstracts the model was fitted to, so it gives no category. What it would have guessed is below, and means little."];
  }
  return ["No category: not sure enough",
    `The likeliest, ${top.name} (${top.code}), reaches ${percent(top.probability)}, which is too little for this category to be given. Take the ranking as a hint.`];
}

/** The view of an answer. `paper` is null in a batch, whose rows show the verdict themselves. */
function answerView(answer, paper) {
  const [view, slot] = copy("answer");
  if (paper) fillVerdict(answer, view, slot);
  else view.querySelector(".verdict").remove();
  fillRanking(answer, view, slot);
  fillCrossLists(answer, view, slot);
  fillReasons(answer, paper, view, slot);
  const { name, version, digest } = answer.model;
  slot("origin").textContent = `Answered by ${name} ${version}, ${digest.slice(0, 12)}`;
  bindActions(answer, paper, view, slot);
  return view;
}

function fillVerdict(answer, view, slot) {
  const { primary, probability } = answer;
  [slot("name").textContent, slot("said").textContent] = verdict(answer);
  slot("code").textContent = primary ?? "abstains";
  view.classList.toggle("abstains", !primary);
  slot("shelf").textContent = primary ? shelfOf(primary) : "";
  slot("mark").textContent = primary ? markOf(primary) : "—";
  slot("mark").classList.toggle("long", slot("mark").textContent.length > LABEL_CHARS);
  slot("share").textContent = primary ? percent(probability) : "";
}

function fillRanking({ ranked, set, reason }, view, slot) {
  const members = new Set(reason === "out_of_scope" ? [] : set);
  const shown = ranked.filter(({ code }, i) => i < ALWAYS_SHOWN || members.has(code));
  const inside = shown.filter(({ code }) => members.has(code));
  const outside = shown.filter(({ code }) => !members.has(code));
  slot("inside").append(...inside.map(rankedRow));
  slot("outside").append(...outside.map(rankedRow));
  slot("outside").setAttribute("start", inside.length + 1);
  if (!outside.length) slot("outside").remove();
  if (!inside.length) return void view.querySelector(".set").remove();
  const unseen = set.filter((code) => !inside.some((row) => row.code === code));
  const list = `Short list of ${set.length === 1 ? "one" : set.length}${unseen.length ? ` (with ${unseen.join(", ")})` : ""}`;
  const share = coverage === null ? "most" : percent(coverage);
  slot("sure").replaceChildren(el("strong", {}, list), `: ${share} of the lists made like this hold the right category.`);
}

function rankedRow({ code, name, probability }) {
  const [row, slot] = copy("row");
  slot("code").textContent = code;
  slot("name").textContent = name;
  slot("share").textContent = percent(probability);
  slot("bar").style.setProperty("--share", probability);
  return row;
}

function fillCrossLists({ cross_lists: codes }, view, slot) {
  if (!codes.length) return void view.querySelector('[data-part="cross"]').remove();
  slot("cross").append(...codes.map((code) =>
    el("li", {}, el("span", { class: "code" }, code), ` ${namesByCode.get(code) ?? ""}`)));
}

// ---- why -------------------------------------------------------------------------------------

function fillReasons({ explanation, ranked, reason }, paper, view, slot) {
  const [top, second] = ranked;
  if (!explanation?.length || !second) return void view.querySelector('[data-part="why"]').remove();
  slot("versus").textContent = `Why ${top.code} rather than ${second.code}`;
  const ratio = top.probability / second.probability;
  const times = ratio < 10 ? ratio.toFixed(1) : Math.round(ratio).toLocaleString("en-GB");
  slot("odds").textContent = `Everything taken together makes it ${times} times as probable.${
    reason === "out_of_scope" ? " For a text of this kind that says little." : ""}`;
  slot("pro").textContent = slot("for-code").textContent = top.code;
  slot("contra").textContent = slot("against-code").textContent = second.code;
  if (paper) slot("marked").append(...markedText(paper, explanation));
  else {
    slot("marked").remove();
    slot("legend").remove();
    view.querySelector("details").open = true;
  }
  const heaviest = Math.max(...explanation.map(({ weight }) => Math.abs(weight)));
  for (const [side, sign] of [["for", 1], ["against", -1]]) {
    const terms = explanation.filter(({ weight }) => weight * sign >= LEAST_WEIGHT);
    slot(side).append(...terms.map((evidence) => evidenceRow(evidence, heaviest)));
    if (!terms.length) slot(side).append(el("li", { class: "none" }, "nothing of weight"));
  }
}

/** A term with what it multiplies or divides the odds by. */
function evidenceRow({ term, weight }, heaviest) {
  const words = TERMS_IN_WORDS[term];
  const bar = el("span", { class: "bar", "aria-hidden": "true" }, el("span"));
  bar.firstChild.style.setProperty("--share", Math.abs(weight) / heaviest);
  const factor = Math.exp(Math.abs(weight));
  const shown = factor < 10 ? factor.toFixed(2) : Math.round(factor).toLocaleString("en-GB");
  return el("li", words ? { class: "rest" } : {}, el("span", {}, words ?? term),
    el("span", { class: "share" }, `${weight < 0 ? "÷" : "×"}\u2009${shown}`), bar);
}

/** Title and abstract as paragraphs, with the words of the explanation marked. */
function markedText({ title, abstract }, explanation) {
  const weights = new Map(explanation.map(({ term, weight }) => [term, weight]));
  const heaviest = Math.max(...[...weights].filter(([term]) => !TERMS_IN_WORDS[term])
    .map(([, weight]) => Math.abs(weight)), 0);
  return [["title", title], ["", abstract]].filter(([, text]) => text).map(([kind, text]) =>
    el("p", kind ? { class: kind } : {}, ...markedWords(text, weights, heaviest)));
}

/** Words as the model reads them, each with its place: LaTeX marks inside a word are dropped. */
function wordsOf(text) {
  const word = /[\p{L}\p{N}](?:(?:\\['"`^~.=])?[_^{}$\p{M}]*[\p{L}\p{N}])*/gu;
  return [...text.matchAll(word)].map((match) => ({
    key: match[0].replace(/\\['"`^~.=]|[_^{}$]/g, "").normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase(),
    start: match.index,
    end: match.index + match[0].length,
  }));
}

function markedWords(text, weights, heaviest) {
  const words = wordsOf(text);
  const pairs = words.map(({ key }, i) => weights.get(`${key} ${words[i + 1]?.key}`) ?? 0);
  const sums = words.map(({ key }, i) => (weights.get(key) ?? 0) + pairs[i] + (pairs[i - 1] ?? 0));
  const nodes = [];
  let at = 0;
  for (let i = 0; i < words.length; i += 1) {
    if (!sums[i]) continue;
    const first = i;
    while (pairs[i] && sums[i + 1] && sums[i] > 0 === sums[i + 1] > 0) i += 1;
    const weight = Math.max(...sums.slice(first, i + 1).map(Math.abs));
    const strength = Math.min(3, Math.ceil((3 * weight) / heaviest));
    const kind = sums[first] > 0 ? "for" : "against";
    nodes.push(text.slice(at, words[first].start),
      el("mark", { class: `${kind} s${strength}` }, text.slice(words[first].start, words[i].end)));
    at = words[i].end;
  }
  return [...nodes, text.slice(at)];
}

// ---- what can be done with an answer ---------------------------------------------------------

function bindActions(answer, paper, view, slot) {
  const act = (name) => view.querySelector(`[data-act="${name}"]`);
  act("json").addEventListener("click", () =>
    offerDownload("answer.json", "application/json", `${JSON.stringify(answer, null, 2)}\n`));
  if (paper) act("link").addEventListener("click", async () => slot("extra").replaceChildren(await linkPanel(paper.text)));
  else act("link").remove();
  if (!answer.primary || !answer.prediction_id) act("right").remove();
  if (answer.prediction_id) bindFeedback(answer, act, slot("extra"), slot("trouble"));
  else act("wrong").remove();
}

/** The buttons that confirm an answer and open the form for a correction; both go with the first word. */
function bindFeedback(answer, act, extra, trouble) {
  const [right, button] = [act("right"), act("wrong")];
  const close = () => {
    button.setAttribute("aria-expanded", "false");
    extra.replaceChildren();
    trouble.replaceChildren();
    button.focus();
  };
  const thank = (message) => {
    const thanks = el("p", { class: "panel thanks", tabindex: "-1" }, message);
    [right, button].forEach((one) => one?.remove());
    extra.replaceChildren(thanks);
    thanks.focus();
  };
  right?.addEventListener("click", () => {
    trouble.replaceChildren();
    return sendFeedback({ prediction_id: answer.prediction_id, category: answer.primary }, thank,
      (error) => showFault(error, trouble, () => right.click()));
  });
  button.addEventListener("click", () => {
    if (button.getAttribute("aria-expanded") === "true") return close();
    button.setAttribute("aria-expanded", "true");
    const form = wrongForm(answer, trouble, close, thank);
    extra.replaceChildren(form);
    return form.querySelector("input").focus();
  });
}

async function linkPanel(text) {
  const [panel, slot] = copy("link");
  const url = new URL(`./#p=${await packText(text)}`, location.href).href;
  history.replaceState(null, "", url);
  linked = text;
  slot("url").value = url;
  slot("copied").textContent = await navigator.clipboard?.writeText(url)
    .then(() => "Copied.", () => "Copy it from here.") ?? "Copy it from here.";
  slot("url").addEventListener("focus", () => slot("url").select());
  say(slot("copied").textContent);
  return panel;
}

let forms = 0;

/** The form that names the right category; `done(message)` replaces it when it was taken. */
function wrongForm(answer, trouble, close, done) {
  const [form, slot] = copy("wrong");
  const id = `right-${(forms += 1)}`;
  slot("input").id = id;
  slot("label").htmlFor = id;
  const picker = new CategoryPicker(slot("input"), slot("list"), answer.ranked.map(({ code }) => code));
  form.querySelector('[data-act="cancel"]').addEventListener("click", close);
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !event.defaultPrevented) (event.stopPropagation(), close());
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const category = picker.chosen();
    slot("fault").textContent = category ? "" : "Choose a category from the list first.";
    if (!category) return slot("input").focus();
    const comment = slot("comment").value.trim();
    const body = { prediction_id: answer.prediction_id, category, ...(comment && { comment }) };
    trouble.replaceChildren();
    await sendFeedback(body, done, (error) => showFault(error, trouble, () => form.requestSubmit()));
  });
  return form;
}

/** Sends which category is right; `done(message)` or `failed(error)` follows. */
async function sendFeedback(body, done, failed) {
  try {
    await call("v1/feedback", { body });
    done(`Thank you. Noted that ${called(body.category)} is right.`);
  } catch (error) {
    failed(error);
  }
}

/** An ARIA combobox over the categories; the ranked ones come first while nothing is typed. */
class CategoryPicker {
  #options = [];
  #active = -1;

  constructor(input, list, rankedCodes) {
    Object.assign(this, { input, list, rankedCodes });
    list.id = `${input.id}-list`;
    input.setAttribute("aria-controls", list.id);
    input.addEventListener("input", () => this.#refresh());
    input.addEventListener("click", () => this.#refresh());
    input.addEventListener("blur", () => this.#setOpen(false));
    input.addEventListener("keydown", (event) => this.#onKey(event));
  }

  /** The category whose code stands in the field, if there is one. */
  chosen() {
    const typed = this.input.value.trim().toLowerCase();
    return [...namesByCode.keys()].find((code) => code.toLowerCase() === typed);
  }

  async #refresh() {
    try {
      this.#options = found(await categories(), this.input.value, this.rankedCodes);
      this.#fill("No category matches");
    } catch (error) {
      this.#options = [];
      this.#fill(error.title);
    }
    this.#setOpen(true);
    this.list.scrollIntoView({ block: "nearest" });
    this.#activate(this.#options.length && this.input.value ? 0 : -1);
  }

  #fill(ifNone) {
    const item = ({ code, name }, i) => el("li", {
      role: "option",
      id: `${this.list.id}-${i}`,
      onmousedown: (event) => event.preventDefault(), // the field keeps the focus
      onclick: () => this.#choose(i),
    }, el("span", { class: "code" }, code), ` ${name}`);
    this.list.replaceChildren(...this.#options.map(item));
    if (!this.#options.length) this.list.append(el("li", { role: "option", "aria-disabled": "true" }, ifNone));
  }

  #setOpen(open) {
    this.list.hidden = !open;
    this.input.setAttribute("aria-expanded", open);
    if (!open) this.input.removeAttribute("aria-activedescendant");
  }

  #activate(index) {
    this.#active = index;
    [...this.list.children].forEach((item, i) => item.setAttribute("aria-selected", i === index));
    const item = this.list.children[index];
    if (!item) return this.input.removeAttribute("aria-activedescendant");
    this.input.setAttribute("aria-activedescendant", item.id);
    return item.scrollIntoView({ block: "nearest" });
  }

  #choose(index) {
    this.input.value = this.#options[index].code;
    this.#setOpen(false);
  }

  async #onKey(event) {
    const open = !this.list.hidden;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const takes = step || (open && (event.key === "Escape" || (event.key === "Enter" && this.#active >= 0)));
    if (!takes) return;
    event.preventDefault();
    if (event.key === "Escape") this.#setOpen(false);
    else if (event.key === "Enter") this.#choose(this.#active);
    else {
      if (!open) await this.#refresh();
      const from = this.#active < 0 && step < 0 ? 0 : this.#active;
      const n = this.#options.length;
      if (n) this.#activate((from + step + n) % n);
    }
  }
}

/** Categories that hold every typed word: codes that begin so first, then names with such a word. */
function found(all, query, rankedCodes) {
  const wanted = query.trim().toLowerCase();
  const rank = ({ code, name }) => {
    if (!wanted) return rankedCodes.indexOf(code) + 1 || Infinity;
    if (code.toLowerCase().startsWith(wanted)) return 0;
    return ` ${name.toLowerCase()}`.includes(` ${wanted}`) ? 1 : 2;
  };
  const matches = all.filter(({ code, name }) =>
    wanted.split(/\s+/).every((word) => `${code} ${name}`.toLowerCase().includes(word)));
  return matches.sort((a, b) => (rank(a) === rank(b) ? a.code.localeCompare(b.code) : rank(a) - rank(b)));
}

// ---- a file of papers ------------------------------------------------------------------------

const stateOf = (answer) => (answer.error ? "failed" : answer.primary ? "accepted" : "abstained");

function batchView(answers, fileName) {
  const [view, slot] = copy("batch");
  const numbers = { accepted: 0, abstained: 0, failed: 0 };
  answers.forEach((answer) => (numbers[stateOf(answer)] += 1));
  slot("heading").textContent = `${count(answers.length, "paper")} in ${fileName}`;
  slot("summary").textContent = [`${numbers.accepted} with a category`, `${numbers.abstained} without`,
    numbers.failed && `${numbers.failed} cannot be read`].filter(Boolean).join(", ") + ".";
  bindRows(answers, slot("rows"), slot("filter"), view.querySelector('[data-act="more"]'));
  const stem = fileName.replace(/(\.(?:bib|csv|tsv|jsonl?|ndjson|txt|gz|zip|parquet))+$/i, "");
  const offer = (act, type, write) => view.querySelector(`[data-act="${act}"]`).addEventListener("click", () =>
    offerDownload(`${stem}-classified.${act}`, type, write()));
  offer("csv", "text/csv", () => toCsv(answers));
  offer("jsonl", "application/jsonl", () => answers.map((answer) => `${JSON.stringify(answer)}\n`).join(""));
  return view;
}

/** Show the rows that the filter lets through, some at a time. */
function bindRows(answers, rows, filter, more) {
  let rest = [];
  const addRows = () => {
    rows.append(...rest.splice(0, ROWS_A_STEP).flatMap(([answer, i]) => batchRow(answer, i)));
    more.hidden = !rest.length;
    more.textContent = `Show more (${rest.length.toLocaleString("en-GB")} left)`;
  };
  const start = () => {
    rest = answers.map((answer, i) => [answer, i])
      .filter(([answer]) => ["all", stateOf(answer)].includes(filter.value));
    rows.replaceChildren();
    addRows();
  };
  filter.addEventListener("change", start);
  more.addEventListener("click", addRows);
  start();
}

/** The row of a paper, and the hidden row beneath it that its button unfolds. */
function batchRow(answer, index) {
  const name = answer.id ?? `no. ${index + 1}`;
  if (answer.error) {
    return [el("tr", { class: "failed" }, el("th", { scope: "row" }, name),
      el("td", { colspan: "2" }, sentence(answer.error.message)))];
  }
  const below = el("tr", { id: `below-${index}`, hidden: true }, el("td", { colspan: "3" }));
  const unfold = el("button", { type: "button", class: "unfold", "aria-expanded": "false", "aria-controls": below.id }, name);
  unfold.addEventListener("click", () => {
    if (!below.firstChild.hasChildNodes()) below.firstChild.append(answerView(answer, null));
    below.hidden = !below.hidden;
    unfold.setAttribute("aria-expanded", !below.hidden);
  });
  return [el("tr", {}, el("th", { scope: "row" }, unfold), ...verdictCells(answer)), below];
}

/** The cells with category and probability; a guess that is not given as an answer looks like one. */
function verdictCells({ primary, reason, ranked: [{ code, name, probability }] }) {
  const share = el("td", { class: "number" }, percent(probability));
  if (primary) return [el("td", {}, el("span", { class: "code" }, code), ` ${name}`), share];
  share.classList.add("none");
  if (reason === "out_of_scope") return [el("td", { class: "none" }, "not like a paper"), el("td", { class: "number none" }, "–")];
  return [el("td", { class: "none" }, "not sure enough; likeliest ", el("span", { class: "code" }, code)), share];
}

/** What a spreadsheet would take for a formula gets an apostrophe in front: the rule of `records`. */
const FORMULA = /^(?:[\t\r\n]|[\x00-\x20\x7f-\xa0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff]*[=+@\-\uff1d\uff0b\uff20\uff0d])/;
const harmless = (cell) => (FORMULA.test(cell) ? `'${cell}` : cell);

/** The columns of `classmark classify --csv`; papers that cannot be read have none. */
function toCsv(answers) {
  const good = answers.filter(({ error }) => !error);
  const width = Math.max(0, ...good.map(({ ranked }) => ranked.length));
  const tops = Array.from({ length: width }, (_, i) => `top${i + 1}`);
  const rows = good.map(({ id, primary, reason, probability, ranked }) =>
    [id ?? "", primary ?? "", reason, probability.toFixed(6), ...ranked.map(({ code }) => code)]);
  const quoted = (cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
  return [["id", "primary", "reason", "probability", ...tops], ...rows]
    .map((row) => `${row.map(harmless).map(quoted).join(",")}\n`).join("");
}

// ---- the paper in the address ----------------------------------------------------------------

/** Bytes through a (de)compression stream, at most `LINKED_BYTES` of them. */
async function through(bytes, stream) {
  const parts = [];
  let size = 0;
  for (const reader = new Blob([bytes]).stream().pipeThrough(stream).getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) return new Uint8Array(await new Blob(parts).arrayBuffer());
    parts.push(value);
    size += value.length;
    if (size > LINKED_BYTES) throw new Error("too long");
  }
}

async function packText(text) {
  const packed = await through(new TextEncoder().encode(text), new CompressionStream("deflate-raw"));
  const letters = Array.from(packed, (byte) => String.fromCharCode(byte)).join("");
  return btoa(letters).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

async function unpackText(packed) {
  const letters = atob(packed.replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
  return new TextDecoder("utf-8", { fatal: true }).decode(await through(bytes, new DecompressionStream("deflate-raw")));
}

let linked = ""; // the text that the address holds

async function openLink(packed) {
  try {
    box.value = linked = await unpackText(packed);
  } catch {
    showFault(new Fault("This link is damaged or cut short.", "Ask for it again, or paste the paper itself."),
      $("notice"), () => openLink(packed));
    return;
  }
  describeReading();
  classify();
}

// ---- model and status ------------------------------------------------------------------------

let shownCard = null;

/** Show the model to everybody, and the figures to who may see them. */
async function readStatus() {
  $("status-notice").replaceChildren();
  const [answering, status] = await Promise.allSettled([model(), call("v1/status")]);
  if (answering.status === "fulfilled") showModel(answering.value);
  $("figures").replaceChildren(
    ...(answering.value ? [modelFigure(answering.value)] : []),
    ...(status.value ? figures(status.value) : []),
  );
  if (answering.value) $("status-time").textContent = `Read at ${new Date().toLocaleTimeString("en-GB")}.`;
  const failed = [answering, status].find(({ reason }) => reason);
  if (failed) showFault(failed.reason.asksKey ? keptFigures() : failed.reason, $("status-notice"), readStatus);
}

const keptFigures = () => new Fault(
  apiKey ? "This API key does not open the figures of the service." : "The figures of the service are for whoever runs it.",
  "Papers, requests, latency and the journal need an API key with the scope admin. The model and its card are below.",
  { asksKey: true, canRetry: true, calm: true },
);

function showModel({ digest, card }) {
  if (shownCard !== digest) $("card").replaceChildren(...markdown(card ?? ""));
  shownCard = digest;
}

const modelFigure = ({ name, version, digest, labels }) => figure(
  "Model", `${name} ${version}`, `${count(labels, "category", "categories")}, digest ${digest.slice(0, 16)}`);

function figures({ requests = {}, latency_ms: latency = {}, papers = {}, uptime_s: uptime = 0, workers = 1, journal }) {
  const failed = Object.entries(requests.by_status ?? {}).filter(([code]) => code >= "400");
  const each = failed.map(([code, n]) => `${n.toLocaleString("en-GB")} × ${code}`).join(", ");
  const [p50, p95, p99] = ["p50", "p95", "p99"].map((p) => milliseconds(latency[p]));
  const nPapers = Object.values(papers).reduce((sum, n) => sum + n, 0);
  return [
    figure("Papers", nPapers.toLocaleString("en-GB"), nPapers
      ? `${percent((papers.accepted ?? 0) / nPapers)} given a category` : "none yet since the start"),
    figure("Requests", (requests.total ?? 0).toLocaleString("en-GB"),
      each ? `refused or failed: ${each}` : "none refused, none failed"),
    figure("Latency", p50 ?? "–", p50
      ? `for half of the requests; 95\u202f% within ${p95}, 99\u202f% within ${p99}` : "nothing measured yet"),
    figure("Running for", duration(uptime), count(workers, "worker")),
    figure("Journal", ...journalInWords(journal)),
  ];
}

const figure = (label, value, note) => el("div", {}, el("h2", {}, label), el("p", { class: "value" }, value), el("p", { class: "hint" }, note));

function journalInWords(journal) {
  if (!journal || journal.enabled === false) return ["off", "predictions and feedback are not recorded"];
  const { written = 0, dropped = 0, failing = false, last_error: problem } = journal;
  const lost = dropped ? `${count(dropped, "event")} lost` : "none lost";
  return [failing ? "failing" : "recording", `${count(written, "event")} written, ${lost}${failing && problem ? `: ${problem}` : ""}`];
}

function milliseconds(ms) {
  if (typeof ms !== "number") return null;
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)}\u202fms`;
}

function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return `${Math.round(seconds)} s`;
  if (minutes < 120) return `${minutes} min`;
  return minutes < 2880 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 1440)} days`;
}

/** The elements of a model card: its blocks are headings, tables, lists and paragraphs. */
function markdown(text) {
  return text.replace(/^(#+ .*)$/gm, "\n$1\n").split(/\n\s*\n/).map((block) => block.trim()).filter(Boolean)
    .map((block) => {
      const [, marks, heading] = /^(#{1,5}) +(.*)$/.exec(block) ?? [];
      if (marks) return el(`h${marks.length + 1}`, {}, ...inline(heading));
      if (block.startsWith("|")) return table(block.split("\n"));
      if (block.startsWith("- ")) return bullets(block);
      return el("p", {}, ...inline(block.replace(/\s+/g, " ")));
    });
}

function bullets(block) {
  const items = block.split(/^- +/m).slice(1);
  return el("ul", {}, ...items.map((item) => el("li", {}, ...inline(item.trim().replace(/\s+/g, " ")))));
}

/** A table that scrolls by itself; columns of numbers are set right. */
function table(lines) {
  const [head, , ...rows] = lines.map((line) => line.replace(/^\||\|\s*$/g, "").split("|").map((cell) => cell.trim()));
  const numeric = head.map((_, i) => rows.every((row) => /^[-+]?[\d.,]+( %)?$/.test(row[i] ?? "")));
  const cellsOf = (row, tag, more = {}) => row.map((cell, i) =>
    el(tag, { ...more, class: numeric[i] && "number" }, ...inline(cell)));
  return el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `Table: ${head.join(", ")}` }, el("table", {},
    el("thead", {}, el("tr", {}, ...cellsOf(head, "th", { scope: "col" }))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...cellsOf(row, "td"))))));
}

/** Code and bold words of a line; all else stays as it is. */
function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (/^`.+`$/.test(part)) return el("code", {}, part.slice(1, -1));
    return /^\*\*.+\*\*$/.test(part) ? el("strong", {}, part.slice(2, -2)) : part;
  });
}

// ---- the page itself -------------------------------------------------------------------------

function route({ focus = true } = {}) {
  if (focus && location.hash === "#work") return; // the skip link
  const view = location.hash === "#status" ? "status" : "classify";
  for (const name of ["classify", "status"]) {
    $(name).hidden = name !== view;
    const link = document.querySelector(`[data-view="${name}"]`);
    if (name === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = view === "status" ? "Model and status – classmark" : "classmark: where does this paper belong?";
  if (view === "status") readStatus();
  if (location.hash.startsWith("#p=")) openLink(location.hash.slice(3));
  else if (focus) $(`${view}-title`).focus();
}

function setTheme(theme) {
  html.dataset.theme = theme;
  $("theme").setAttribute("aria-pressed", theme === "dark");
}

function bindTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => localStorage.getItem("theme");
  const follow = () => setTheme(chosen() ?? (system.matches ? "dark" : "light"));
  follow();
  system.addEventListener("change", follow);
  $("theme").addEventListener("click", () => {
    localStorage.setItem("theme", html.dataset.theme === "dark" ? "light" : "dark");
    follow();
  });
}

function bindForm() {
  $("paper-form").addEventListener("submit", (event) => (event.preventDefault(), classify()));
  box.addEventListener("input", describeReading);
  $("clear").addEventListener("click", () => {
    box.value = "";
    describeReading();
    box.focus();
  });
  $("file").addEventListener("change", () => {
    if ($("file").files[0]) classifyFile($("file").files[0]);
    $("file").value = "";
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("classify").hidden) classify();
    if (event.key === "Escape" && current) (current.abort(), say("Cancelled."));
  });
}

function bindDrop() {
  const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    $("drop").hidden = false;
  });
  addEventListener("dragleave", (event) => ($("drop").hidden = event.relatedTarget === null || $("drop").hidden));
  addEventListener("drop", (event) => {
    $("drop").hidden = true;
    if (!carriesFile(event)) return;
    event.preventDefault();
    if (location.hash === "#status") location.hash = "";
    classifyFile(event.dataTransfer.files[0]);
  });
}

async function offerExamples() {
  const examples = await (await fetch("static/examples.json")).json();
  $("examples").append(...examples.map(({ field, title, abstract }) => el("li", {}, el("button", {
    type: "button",
    onclick: () => {
      box.value = `${title}\n\n${abstract}`;
      describeReading();
      classify();
    },
  }, el("span", { class: "field" }, field), el("span", {}, title)))));
}

bindTheme();
bindForm();
bindDrop();
describeReading();
addEventListener("hashchange", () => route());
setInterval(() => {
  const waits = $("status").hidden || document.hidden || $("status-notice").hasChildNodes();
  if (!waits) readStatus();
}, STATUS_EVERY_MS);
$("refresh").addEventListener("click", readStatus);
offerExamples().catch(() => $("examples").closest("section").remove());
catalogue();
route({ focus: false });
