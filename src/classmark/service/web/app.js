// The page of classmark: one module, no framework, nothing from other hosts. Text from people, files
// and the service reaches the document only as text nodes, never as markup.

const TOP = 10; // categories asked for, so that a prediction set is rarely longer than the ranking
const SIMILAR_SHOWN = 5;
const ALWAYS_SHOWN = 5; // categories listed even if the set is smaller
const ROWS_A_STEP = 100; // table rows added at a time
const EXPLAINED_FILE_BYTES = 1 << 20; // above it the rows of a file come without reasons
const LINKED_BYTES = 1 << 20; // a link that unpacks to more is refused
const STATUS_EVERY_MS = 10_000;
const LABEL_CHARS = 8; // a longer mark is set smaller, so that the label does not break it
const SPINE_CHARS = 30; // a longer label of one's own is not put on the spine,
const WORD_CHARS = 9; // nor one whose words would be broken
const LEAST_WEIGHT = 0.005; // of a term that is listed: it would be shown as × 1.00
const FEW_PAPERS = 20; // a category that came first on fewer test papers is uncertain
const SHOWN_LABELS = 24; // of a model with its own labels, before the first answer
const NO_PAPER = "Not a paper"; // the field of the example that suits every model
const SLOW_MS = 1500; // a screen reader announces work that takes longer

/** What columns that nobody has named yet are often called; only the first choice on a form. */
const LIKELY_COLUMNS = {
  title: /tit|überschrift|headline|^name$/i,
  abstract: /abstr|zusammenfassung|summary|r[eé]sum|text|inhalt|description/i,
  id: /^(?:id|nr\.?|no\.?|key|doi|.*(?:number|nummer|[^a-z]id))$/i,
};

const COLUMNS_SHOWN = 24; // names that are listed; the lists to choose from have all of them

const TERMS_IN_WORDS = {
  "(bias)": "how common each of the two is",
  "(other terms)": "all other words together",
  "(residual)": "what no single word explains",
  "(authors)": "what its authors wrote about before",
  "(neighbours)": "the categories of similar papers",
  "(authors and neighbours)": "what its authors wrote before, and similar papers",
  "(rounding)": "rounding",
};

const NO_SET = {
  few_known_terms: "No short list: the text has too few words that the model knows to give one that can be trusted.",
  out_of_scope: "No short list: for a text that does not read like a paper, it would mean nothing.",
};

const $ = (id) => document.getElementById(id);
const box = $("text");
const html = document.documentElement;
const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en-GB")} ${n === 1 ? one : many}`;
const shelfOf = (code) => (ownLabels ? "" : code.split(".")[0]);
const markOf = (code) => code.slice(shelfOf(code).length);
const fitsSpine = (label) => label.length <= SPINE_CHARS && label.split(" ").every((word) => word.length <= WORD_CHARS);

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
  constructor(title, advice, { canRetry = false, asksKey = false, calm = false, problem = {} } = {}) {
    super(title);
    Object.assign(this, { title, advice, canRetry, asksKey, calm, problem });
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
  const asksKey = status === 401 || (status === 403 && problem.kind !== "cross_site");
  return new Fault(title, advice, { asksKey, canRetry: asksKey || status === 429 || status >= 500, problem });
}

/** A title and an advice for a response that is a problem. */
function inWords(status, headers, problem) {
  const seconds = Number(headers.get("Retry-After")) || 1;
  const wait = `Wait ${count(seconds, "second")}, then try again.`;
  const detail = [problem.detail, ...(problem.errors ?? []).map((e) => `${e.field}: ${e.message}`)]
    .filter((part) => typeof part === "string").map(sentence).join(" ");
  const byKind = {
    key_unknown: ["The service does not know this API key.", "It may be mistyped or revoked. Enter it again, or ask the operator of the service."],
    key_expired: ["The API key has expired.", "Ask the operator of the service for a new key, and enter it."],
    cross_site: ["The service does not take requests from this page.", detail],
    journal_off: ["This service has no journal.", "So it cannot store corrections; its operator can turn the journal on."],
    not_ready: ["The service is stopping.", "Try again in a moment."],
    wrong_columns: ["No title or abstract is recognised in this file.", "Name its columns title and abstract, then try again."],
  };
  const byStatus = {
    401: ["The service needs an API key.", "Enter yours; it is kept until you leave this page."],
    403: ["This API key is not allowed to do that.", "Enter another one, or ask the operator of the service."],
    404: ["The service did not find that.", detail],
    413: ["That is more than the service accepts at once.", detail || "Shorten the text or split the file."],
    415: ["The service cannot read this kind of file.", detail],
    422: ["The service cannot read that.", detail || "Check the text and try again."],
    429: ["Too many requests in a short time.", wait],
    503: ["The service is busy at the moment.", wait],
    504: ["The service took too long.", "Try again, or shorten the text."],
  };
  const request = headers.get("X-Request-ID");
  return byKind[problem.kind] ?? byStatus[status] ?? [
    "Something went wrong in the service.",
    `Try again; if that does not help, contact the operator of the service${request ? ` with the request id ${request}` : ""}.`,
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
let ownLabels = false; // the categories are not arXiv's: a code is its own name
const categories = once(async () => {
  const { categories: all, label_space: space } = await call("v1/categories");
  namesByCode = new Map(all.map(({ code, name }) => [code, name]));
  ownLabels = space === "free";
  return all.filter(({ active }) => active !== false);
});

let similarShown = 0; // papers like this one that the service can find
let knowsAuthors = false; // the model has a table of authors
let coverage = null; // that prediction sets were built for, 0..1
const model = once(async () => {
  const { models } = await call("v1/models");
  const answering = models[0]; // with a registry, others may follow that answer some clients
  coverage = answering.set_coverage ?? null;
  similarShown = Math.min(SIMILAR_SHOWN, answering.similar ?? 0);
  knowsAuthors = answering.authors ?? false;
  $("authors-part").hidden = !knowsAuthors;
  describeReading();
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
    : new Fault("Something went wrong in this page.", `Reload it and try again (${error.message}).`);
  const [notice, slot] = copy("notice");
  slot("title").textContent = fault.title;
  slot("advice").textContent = fault.advice;
  slot("key-form").hidden = !fault.asksKey;
  const button = notice.querySelector('[data-act="again"]');
  notice.classList.toggle("calm", fault.calm);
  button.parentNode.hidden = !fault.canRetry;
  if (fault.asksKey) button.textContent = "Use this key";
  const retry = () => {
    apiKey = slot("key").value.replace(/[^!-~]/g, "") || apiKey; // a header holds nothing else
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

/** Title and abstract of a pasted text, and what a copied arXiv page says of its authors. */
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
      authors: /^[ \t]*authors?[ \t]*:\s*(.+)$/im.exec(before)?.[1].trim(),
    };
  }
  const [first, ...rest] = page.replace(/^title[ \t]*:\s*/i, "").split("\n");
  if (!rest.length) return { title: "", abstract: first };
  return { title: first.trim(), abstract: rest.join("\n").trim() };
}

const RECORDS = [
  [/^@\w+\s*\{/, "BibTeX"],
  [/^TY {1,2}- /, "RIS"],
  [/^PMID- \d+\s*$/m, "PubMed records"],
  [/^FN .*\n\s*VR [\d.]+\s*$/m, "Web of Science records"],
  [/^%0 [A-Z][\w -]+$/m, "EndNote records"],
];

/** The name of the format if a pasted text is records, which are read as a file. */
function recordsIn(text) {
  const start = text.trimStart();
  return RECORDS.find(([opening]) => start.search(opening) === 0)?.[1];
}

function describeReading() {
  $("clear").hidden = !box.value && !$("authors").value;
  $("reading").textContent = readingOf(box.value);
}

function readingOf(text) {
  if (!text.trim()) return "The first line is read as the title. A copied arXiv page, BibTeX or RIS works too.";
  const records = recordsIn(text);
  if (records) return `Read as ${records}.`;
  const { title, abstract, authors } = readPaper(text);
  const names = authors && namesToUse(authors) === authors ? ", its authors" : "";
  const words = count(abstract.split(/\s+/).filter(Boolean).length, "word");
  const short = title.length > 60 ? `${title.slice(0, 58)}…` : title;
  return title ? `Read as the title “${short}”${names} and an abstract of ${words}.`
    : `Read as an abstract of ${words} without a title.`;
}

/** The names that count: those of the field, else those of a pasted page; undefined if none do. */
function namesToUse(pasted) {
  return knowsAuthors && $("use-authors").checked ? $("authors").value.trim() || pasted : undefined;
}

/** What tells one paper in the address from another. */
const sameAs = (text, authors) => JSON.stringify([text, authors || ""]);

function classify() {
  const text = box.value;
  if (!text.trim()) {
    const fault = new Fault("There is nothing to classify yet.", "Paste a title and an abstract first.");
    showFault(fault, $("notice"), classify);
    box.focus();
    return;
  }
  const records = recordsIn(text);
  if (records) {
    classifyFile(new File([text], `pasted ${records}`, { type: "text/plain" }));
    return;
  }
  const paper = readPaper(text);
  if (location.hash.startsWith("#p=") && sameAs(text, $("authors").value) !== linked) history.pushState(null, "", "./");
  work(async (signal) => {
    await catalogue();
    const authors = namesToUse(paper.authors);
    const body = { ...paper, authors, top: TOP, explain: true, ...(similarShown ? { similar: similarShown } : {}) };
    const answer = await call("v1/classify", { body, signal });
    show(answerView(answer, { ...paper, text, authors }));
    say(verdict(answer).join(answer.primary && !ownLabels ? `, ${answer.primary}. ` : ". "));
  });
}

/** `columns`: field of a paper -> the column that holds it, as somebody chose on this page. */
function classifyFile(file, columns = {}) {
  work(async (signal) => {
    const form = new FormData();
    form.append("file", file);
    form.append("top", TOP);
    form.append("explain", file.size <= EXPLAINED_FILE_BYTES);
    if (!$("use-authors").checked) form.append("authors", false);
    if (Object.keys(columns).length) form.append("columns", JSON.stringify(columns));
    const { answers, unread } = await answersOrColumns(form, signal);
    if (unread) return askColumns(file, unread, columns);
    await catalogue();
    show(batchView(answers, file.name));
    say(`${count(answers.length, "paper")} of ${file.name} classified.`);
  });
}

/** The answers to a file, or the names of its columns if no paper can be read from them. */
async function answersOrColumns(form, signal) {
  let answers;
  try {
    ({ answers } = await call("v1/files", { body: form, signal }));
  } catch (error) {
    const { kind, columns_seen: unread } = error.problem ?? {};
    if (kind !== "wrong_columns" || !unread?.length) throw error;
    return { unread };
  }
  const unread = [...new Set(answers.flatMap(({ error }) => error?.columns_seen ?? []))];
  return { answers, unread: unread.length && answers.every(({ error }) => error?.columns_seen) ? unread : null };
}

// ---- which columns hold the papers -----------------------------------------------------------

/** Let somebody say which columns hold title, abstract and identifier, and send the file again. */
function askColumns(file, names, chosen) {
  const before = [...$("output").childNodes];
  const [form, slot] = copy("columns");
  slot("said").textContent = `classmark recognises neither a title nor an abstract among the columns of ${file.name}.`;
  slot("names").append(...names.slice(0, COLUMNS_SHOWN).map((name) => el("li", {}, name)));
  const further = names.length - COLUMNS_SHOWN;
  if (further > 0) slot("names").append(el("li", { class: "further" }, `and ${count(further, "more", "more")}`));
  const selects = Object.fromEntries(Object.keys(LIKELY_COLUMNS).map((field) => [field, slot(field)]));
  const taken = new Set();
  for (const [field, select] of Object.entries(selects)) {
    select.append(...names.map((name) => el("option", { value: name }, name)));
    select.value = chosen[field] ?? names.find((name) => LIKELY_COLUMNS[field].test(name) && !taken.has(name)) ?? "";
    taken.add(select.value);
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const columns = Object.fromEntries(Object.entries(selects).map(([field, { value }]) => [field, value]).filter(([, name]) => name));
    slot("fault").textContent = columns.title || columns.abstract ? ""
      : "Choose the column of the title, of the abstract, or both.";
    if (slot("fault").textContent) return selects.title.focus();
    return classifyFile(file, columns);
  });
  form.querySelector('[data-act="cancel"]').addEventListener("click", () => {
    $("output").replaceChildren(...before);
    $("file").focus();
  });
  show(form);
  slot("heading").focus({ preventScroll: true });
}

// ---- the answer ------------------------------------------------------------------------------

/** Code and name as elements; one of your own labels is both, and appears once. */
function codeAndName(code, name = namesByCode.get(code)) {
  return name === code ? [el("span", {}, code)] : [el("span", { class: "code" }, code), ` ${name ?? ""}`];
}

function called(code, name = namesByCode.get(code)) {
  return !name || name === code ? code : `${name} (${code})`;
}

/** The verdict in words: a heading and a sentence. */
function verdict({ primary, reason, ranked: [top] }) {
  if (primary) {
    const hundred = Math.round(top.probability * 100);
    return [top.name, `${percent(top.probability)} probable: of a hundred answers given with this probability, about ${hundred} are right.`];
  }
  if (reason === "out_of_scope") {
    const known = ownLabels ? "texts" : "English scientific abstracts";
    return [`No category: this does not read like ${ownLabels ? "what the model knows" : "a paper"}`,
      `The text is unlike the ${known} the model was trained on, so it gets no category. The guesses below mean little.`];
  }
  return ["No category: not sure enough",
    `The most probable one, ${called(top.code, top.name)}, reaches ${percent(top.probability)}, which is below its threshold. Take the ranking as a hint.`];
}

/** The view of an answer. `paper` is null in a batch, whose rows show the verdict themselves. */
function answerView(answer, paper) {
  const [view, slot] = copy("answer");
  if (paper) fillVerdict(answer, view, slot);
  else view.querySelector(".verdict").remove();
  slot("based").textContent = basedOn(answer, paper);
  fillRanking(answer, view, slot);
  fillCrossLists(answer, view, slot);
  fillSimilar(answer, view, slot);
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
  slot("code").hidden = primary !== null && ownLabels;
  view.classList.toggle("abstains", !primary);
  slot("shelf").textContent = primary ? shelfOf(primary) : "";
  slot("mark").textContent = primary ? markOf(primary) : "—";
  slot("mark").hidden = ownLabels && primary !== null && !fitsSpine(primary);
  slot("mark").classList.toggle("long", slot("mark").textContent.length > LABEL_CHARS);
  slot("share").textContent = primary ? percent(probability) : "";
}

/** What an answer is based on, and what the text alone says where authors changed that. */
function basedOn({ evidence = [], text_alone: alone }, paper) {
  const words = evidence.map((kind) => (kind === "neighbours" ? "similar papers" : kind));
  const last = words.pop();
  const parts = [words.join(", "), last].filter(Boolean).join(" and ");
  const unknown = paper?.authors && !evidence.includes("authors");
  return [parts && `Based on ${parts}.`, unknown && "The model knows no earlier paper of these authors.",
    alone && `The text alone says: ${called(alone.code)}, ${percent(alone.probability)}.`].filter(Boolean).join("\n");
}

function fillRanking({ ranked, set, set_reason: why }, view, slot) {
  const members = new Set(set ?? []);
  const shown = ranked.filter(({ code }, i) => i < ALWAYS_SHOWN || members.has(code));
  const inside = shown.filter(({ code }) => members.has(code));
  const outside = shown.filter(({ code }) => !members.has(code));
  slot("inside").append(...inside.map(rankedRow));
  slot("outside").append(...outside.map(rankedRow));
  slot("outside").setAttribute("start", inside.length + 1);
  if (!outside.length) slot("outside").remove();
  if (!ranked.some(({ reliability }) => reliability)) slot("worth").remove();
  if (set) slot("no-set").remove();
  else slot("no-set").textContent = NO_SET[why] ?? NO_SET.out_of_scope;
  if (!inside.length) return void view.querySelector(".set").remove();
  const unseen = set.filter((code) => !inside.some((row) => row.code === code));
  const list = `Short list of ${set.length === 1 ? "one" : set.length}${unseen.length ? ` (with ${unseen.join(ownLabels ? "; " : ", ")})` : ""}`;
  const share = coverage === null ? "most" : percent(coverage);
  slot("sure").replaceChildren(el("strong", {}, list), `: ${share} of the lists made like this hold the right category, on average over papers like those the model was calibrated on.`);
}

/** How often a category was right when it came first on test papers, in words. */
function worth(reliability) {
  if (!reliability) return "";
  const { precision, papers } = reliability;
  if (!papers) return "rarely right: never came first";
  if (!precision) return `rarely right: 0 of ${count(papers, "time")}`;
  const unsure = papers < FEW_PAPERS ? ", too few to be sure" : "";
  return `right ${percent(precision)} of ${count(papers, "time")}${unsure}`;
}

function rankedRow({ code, name, probability, reliability }) {
  const [row, slot] = copy("row");
  slot("code").textContent = code;
  slot("name").textContent = name;
  if (reliability) slot("name").append(el("small", {}, worth(reliability)));
  if (name === code) slot("code").remove();
  slot("share").textContent = percent(probability);
  slot("bar").style.setProperty("--share", probability);
  return row;
}

function fillCrossLists({ cross_lists: codes }, view, slot) {
  if (!codes.length) return void view.querySelector('[data-part="cross"]').remove();
  slot("cross").append(...codes.map((code) => el("li", {}, ...codeAndName(code))));
}

/** Papers of the index that are like this one, with what is known of them. */
function fillSimilar({ similar }, view, slot) {
  if (!similar?.length) return void view.querySelector('[data-part="similar"]').remove();
  slot("similar").append(...similar.map(({ id, year, categories, similarity, title }) => el("li", {},
    el("span", { class: "name" }, title ?? id),
    el("span", { class: "share" }, similarity.toFixed(2)),
    el("small", {}, [title && id, year, categories.join(" ")].filter(Boolean).join(", ")))));
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
    if (!terms.length) slot(side).append(el("li", { class: "none" }, "no terms"));
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
  const heaviest = Math.max(...[...weights].filter(([term]) => !/[(:]/.test(term)) // of words alone
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
  if (paper) act("link").addEventListener("click", async () => slot("extra").replaceChildren(await linkPanel(paper)));
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

async function linkPanel({ text, authors }) {
  const [panel, slot] = copy("link");
  const names = authors && readPaper(text).authors !== authors ? `&a=${await packText(authors)}` : "";
  const url = new URL(`./#p=${await packText(text)}${names}`, location.href).href;
  history.replaceState(null, "", url);
  linked = sameAs(text, names && authors);
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
  if (ownLabels) slot("input").placeholder = "Search the labels";
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

  /** The category whose code is in the field, if any. */
  chosen() {
    const typed = this.input.value.trim();
    if (namesByCode.has(typed)) return typed; // your own labels may differ only in case
    return [...namesByCode.keys()].find((code) => code.toLowerCase() === typed.toLowerCase());
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
    }, ...codeAndName(code, name));
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

/** The name of a file without the endings that the page offers to choose. */
function stemOf(name) {
  const ending = $("file").accept.split(",").find((one) => name.toLowerCase().endsWith(one));
  return ending ? stemOf(name.slice(0, -ending.length)) : name;
}

function batchView(answers, fileName) {
  const [view, slot] = copy("batch");
  const numbers = { accepted: 0, abstained: 0, failed: 0 };
  answers.forEach((answer) => (numbers[stateOf(answer)] += 1));
  slot("heading").textContent = `${count(answers.length, "paper")} in ${fileName}`;
  slot("summary").textContent = [`${numbers.accepted} with a category`, `${numbers.abstained} without`,
    numbers.failed && `${numbers.failed} cannot be read`].filter(Boolean).join(", ") + ".";
  bindRows(answers, slot("rows"), slot("filter"), view.querySelector('[data-act="more"]'));
  const stem = stemOf(fileName);
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

/** Why a record has no answer; the service's advice about columns is for those who send forms. */
function inWordsOfPage({ message, columns_seen: names }) {
  return names ? `No title or abstract is recognised among ${names.join(", ")}.` : sentence(message);
}

/** The row of a paper, and the hidden row beneath it that its button unfolds. */
function batchRow(answer, index) {
  const name = answer.id ?? `no. ${index + 1}`;
  if (answer.error) {
    return [el("tr", { class: "failed" }, el("th", { scope: "row" }, name),
      el("td", { colspan: "2" }, inWordsOfPage(answer.error)))];
  }
  const below = el("tr", { id: `below-${index}`, hidden: true }, el("td", { colspan: "3" }));
  const unfold = el("button", { type: "button", class: "unfold", "aria-expanded": "false", "aria-controls": below.id },
    el("span", {}, el("span", { class: "code" }, name), ...(answer.title ? [" ", el("span", { class: "title" }, answer.title)] : [])));
  unfold.addEventListener("click", () => {
    if (!below.firstChild.hasChildNodes()) below.firstChild.append(answerView(answer, null));
    below.hidden = !below.hidden;
    unfold.setAttribute("aria-expanded", !below.hidden);
  });
  return [el("tr", {}, el("th", { scope: "row" }, unfold), ...verdictCells(answer)), below];
}

/** The cells with category and probability; a guess that is not given as an answer looks like one. */
function verdictCells(answer) {
  const { primary, reason, ranked: [{ code, name, probability }] } = answer;
  const share = el("td", { class: "number" }, percent(probability));
  if (primary) return [el("td", {}, ...codeAndName(code, name), ...furtherCodes(answer)), share];
  share.classList.add("none");
  const unlike = ownLabels ? "not like what the model knows" : "not like a paper";
  if (reason === "out_of_scope") return [el("td", { class: "none" }, unlike), el("td", { class: "number none" }, "–")];
  return [el("td", { class: "none" }, "not sure enough; most probable ", ...codeAndName(code, name), ...furtherCodes(answer)), share];
}

/** The short list and the cross-lists of an answer, as lines below its category. */
function furtherCodes({ set, cross_lists: crossLists }) {
  return [["Short list", set ?? []], ["Cross-lists", crossLists]].filter(([, codes]) => codes.length)
    .map(([label, codes]) => el("p", { class: "hint" }, `${label}: `,
      ...codes.flatMap((code, i) => [i ? (ownLabels ? "; " : ", ") : "", el("span", { class: ownLabels ? "" : "code" }, code)])));
}

/** What a spreadsheet would take for a formula gets an apostrophe in front: the rule of `records`. */
const FORMULA = /^(?:[\t\r\n]|[\x00-\x20\x7f-\xa0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff]*[=+@\-\uff1d\uff0b\uff20\uff0d])/;
const CSV_MARK = "\ufeff"; // Excel takes a file without it for the encoding of the country
const harmless = (cell) => (FORMULA.test(cell) ? `'${cell}` : cell);

/** What `classmark classify --csv --output` writes; papers that cannot be read have no row. */
function toCsv(answers) {
  const good = answers.filter(({ error }) => !error);
  const width = Math.max(0, ...good.map(({ ranked }) => ranked.length));
  const tops = Array.from({ length: width }, (_, i) => [`top${i + 1}`, `top${i + 1}_name`, `top${i + 1}_probability`]);
  const header = ["id", "title", "primary", "name", "reason", "probability", "set", "cross_lists", ...tops.flat()];
  const rows = good.map(({ id, title, primary, reason, probability, set, cross_lists: crossLists, ranked }) =>
    [id ?? "", title ?? "", primary ?? "", primary ? ranked[0].name : "", reason, probability.toFixed(6),
      (set ?? []).join("; "), crossLists.join("; "), ...ranked.flatMap((one) => [one.code, one.name, one.probability.toFixed(6)])]);
  const quoted = (cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
  return CSV_MARK + [header, ...rows].map((row) => `${row.map(harmless).map(quoted).join(",")}\n`).join("");
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

let linked = ""; // the paper that the address holds

async function openLink(packed) {
  const [text, authors] = packed.split("&a=");
  try {
    box.value = await unpackText(text);
    $("authors").value = authors ? await unpackText(authors) : "";
    linked = sameAs(box.value, $("authors").value);
  } catch {
    showFault(new Fault("This link is damaged or incomplete.", "Ask for it again, or paste the paper itself."),
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
  $("registry").replaceChildren(...(status.value?.registry ? registryParts(status.value.registry) : []));
  if (answering.value) $("status-time").textContent = `Read at ${new Date().toLocaleTimeString("en-GB")}.`;
  const failed = [answering, status].find(({ reason }) => reason);
  if (failed) showFault(failed.reason.asksKey ? keptFigures() : failed.reason, $("status-notice"), readStatus);
}

/** The bundles that the registry names, with their shares, and the last changes. */
function registryParts({ bundles, events }) {
  const share = ({ role, percent: share }) => ({
    challenger: `canary: answers ${share}\u202f% of the clients`,
    shadow: `scores ${share}\u202f% of the papers too`,
  })[role] ?? "answers all others";
  const named = bundles.map((one) => figure(
    one.role[0].toUpperCase() + one.role.slice(1), one.model.replace("@", " "), `${share(one)}, digest ${one.digest.slice(0, 16)}`));
  const rows = events.map(({ at_utc: at, action, outcome, bundle, who, why }) => [
    `${at.slice(0, 10)} ${at.slice(11, 19)}`, [action, outcome].filter(Boolean).join(": ").replaceAll("_", " "), bundle ?? "", who, why]);
  return [
    el("h2", {}, "Registry"),
    el("div", { class: "figures" }, ...named),
    tableOf(["Time (UTC)", "Change", "Model", "Who", "Why"], rows),
  ];
}

const keptFigures = () => new Fault(
  apiKey ? "This API key cannot read the figures of the service." : "The figures of the service are for its operator.",
  "Papers, requests, latency and the journal need an API key with the scope admin. The model and its card are below.",
  { asksKey: true, canRetry: true, calm: true },
);

function showModel({ digest, card }) {
  if (shownCard !== digest) $("card").replaceChildren(...markdown(card ?? ""));
  shownCard = digest;
}

const modelFigure = ({ name, version, digest, labels, rarely_right: rare = [] }) => figure(
  "Model", `${name} ${version}`, `${ownLabels ? count(labels, "label") : count(labels, "category", "categories")}, digest ${digest.slice(0, 16)}${
    rare.length ? `; never right on its test papers: ${rare.join(ownLabels ? "; " : ", ")}` : ""}`);

function figures({ requests = {}, latency_ms: latency = {}, papers = {}, uptime_s: uptime = 0, workers = 1, journal }) {
  const failed = Object.entries(requests.by_status ?? {}).filter(([code]) => code >= "400");
  const each = failed.map(([code, n]) => `${n.toLocaleString("en-GB")} × ${code}`).join(", ");
  const [p50, p95, p99] = ["p50", "p95", "p99"].map((p) => milliseconds(latency[p]));
  const nPapers = Object.values(papers).reduce((sum, n) => sum + n, 0);
  return [
    figure("Papers", nPapers.toLocaleString("en-GB"), nPapers
      ? `${percent((papers.accepted ?? 0) / nPapers)} given a category` : "none since the start"),
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
  const [head, , ...rows] = lines.map((line) => line.replace(/^\||\|\s*$/g, "").split(/(?<!\\)\|/)
    .map((cell) => cell.trim().replaceAll("\\|", "|")));
  return tableOf(head, rows, inline);
}

function tableOf(head, rows, inside = (cell) => [cell]) {
  const numeric = head.map((_, i) => rows.every((row) => /^[-+]?[\d.,]+( %)?$/.test(row[i] ?? "")));
  const cellsOf = (row, tag, more = {}) => row.map((cell, i) =>
    el(tag, { ...more, class: numeric[i] && "number" }, ...inside(cell)));
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

/** What `use` makes of the storage; null in a browser that blocks it. */
function withStorage(use) {
  try {
    return use(localStorage);
  } catch {
    return null;
  }
}

function bindTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = withStorage((storage) => storage.getItem("theme"));
  const follow = () => setTheme(chosen ?? (system.matches ? "dark" : "light"));
  follow();
  system.addEventListener("change", follow);
  $("theme").addEventListener("click", () => {
    chosen = html.dataset.theme === "dark" ? "light" : "dark";
    withStorage((storage) => storage.setItem("theme", chosen));
    follow();
  });
}

function bindForm() {
  $("paper-form").addEventListener("submit", (event) => (event.preventDefault(), classify()));
  for (const field of [box, $("authors"), $("use-authors")]) field.addEventListener("input", describeReading);
  $("clear").addEventListener("click", () => {
    box.value = $("authors").value = "";
    describeReading();
    box.focus();
  });
  $("file").addEventListener("change", () => {
    if ($("file").files[0]) classifyFile($("file").files[0]);
    $("file").value = "";
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("classify").hidden) {
      event.preventDefault();
      (event.target.closest("form") ?? $("paper-form")).requestSubmit();
    }
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

/** What the service chooses from: its words where the labels are not arXiv's. */
async function describeChoices() {
  const [all, { name, version }] = await Promise.all([categories(), model()]);
  $("choices").textContent = ownLabels ? `labels of the model ${name} ${version}` : "arXiv categories";
  if (!ownLabels) return;
  const labels = all.map(({ code }) => code).sort((a, b) => a.localeCompare(b));
  const rest = labels.length - SHOWN_LABELS;
  $("labels").replaceChildren(
    el("h2", { class: "small" }, `It chooses among ${count(labels.length, "label")}`),
    el("ul", {}, ...labels.slice(0, SHOWN_LABELS).map((label) => el("li", {}, label)),
      ...(rest > 0 ? [el("li", { class: "hint" }, `and ${rest.toLocaleString("en-GB")} more`)] : [])),
  );
  $("labels").hidden = false;
}

async function offerExamples() {
  const invented = await (await fetch("static/examples.json")).json();
  await describeChoices().catch(() => {}); // the next answer asks again
  const examples = ownLabels ? invented.filter(({ field }) => field === NO_PAPER) : invented;
  $("examples").append(...examples.map(({ field, title, abstract }) => el("li", {}, el("button", {
    type: "button",
    onclick: () => {
      box.value = `${title}\n\n${abstract}`;
      $("authors").value = "";
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
