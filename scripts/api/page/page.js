// The page of a node: it speaks to the node that served it, and to nobody else.
// What comes from the network enters as text, never as markup.

const NANO = 1_000_000_000;
const find = (selector) => document.querySelector(selector);

// --- elements ---

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function draw(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// --- words ---

function ton(nano) {
  if (nano === null || nano === undefined) return "unknown";
  return `${(nano / NANO).toFixed(9).replace(/\.?0+$/, "")} TON`;
}

const short = (id) => id.slice(0, 6);
const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

function costLine(answer) {
  const { usage, cost, timing_ms: timing, privacy } = answer;
  const words = [count(usage.completion_tokens, "token")];
  if (answer.tokens_per_s) words.push(`${answer.tokens_per_s} a second`);
  if (timing.first_token !== null) words.push(`first after ${(timing.first_token / 1000).toFixed(1)} s`);
  words.push(cost.paid_nano ? ton(cost.paid_nano) : "free");
  words.push(privacy.relays ? `${count(privacy.relays, "relay")}, one worker of ${privacy.slots}` : "no relay");
  return words.join(" · ");
}

// --- the key ---

const KEY = "tussah-key";
let key = "";

function takeKey() {
  const given = new URLSearchParams(location.hash.slice(1)).get("k");
  if (given) {
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname);
  }
  key = given ?? sessionStorage.getItem(KEY) ?? "";
}

function askKey(problem = "") {
  find("#door-error").textContent = problem;
  if (!find("#door").open) find("#door").showModal();
}

find("#key-form").addEventListener("submit", () => {
  key = find("#key").value.trim();
  sessionStorage.setItem(KEY, key);
  find("#key").value = "";
  begin();
});

// --- the node ---

class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `The node answered ${status}.`);
    this.status = status;
  }
}

async function call(path, options = {}) {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  if (!response.ok) throw new Refused(response.status, (await response.json().catch(() => ({}))).error);
  return response;
}

const read = async (path) => (await call(path)).json();

// Yields what stands behind "data: " in a stream of events.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "data: [DONE]") return;
      if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
    }
  }
}

// --- how well to hide, and for what ---

const LEVELS = {
  steady: {
    name: "steady", relays: 3, shaping: 1, swift: false,
    says: "The text comes at one even rate, so that nobody on the way sees how long it is or when it was written. Costs time.",
  },
  swift: {
    name: "steady and swift", relays: 3, shaping: 1, swift: true,
    says: "As steady, two and a half times as fast, for twice the bytes.",
  },
  bare: {
    name: "as it comes", relays: 3, shaping: 0, swift: false,
    says: "Fastest over three relays. When each piece came shows on every link; what it says does not.",
  },
  two: {
    name: "two relays", relays: 2, shaping: 0, swift: false,
    says: "Your guard and the one relay after it can tell together that it was you who asked this worker.",
  },
  none: {
    name: "no relay", relays: 0, shaping: 0, swift: false,
    says: "The worker sees your address beside your question. Only workers that allow it answer.",
  },
};

const USUAL = "steady";

find("#privacy").append(...Object.entries(LEVELS).map(([value, { name }]) =>
  make("option", { value, textContent: name })));

let offers = new Map();
let standing = null;

// The level's own words, and among whom it hides: those that may have asked, those that may answer.
function level() {
  const chosen = find("#privacy").value;
  const { relays, says } = LEVELS[chosen];
  const words = [make("span", { className: chosen === USUAL ? "usual" : "", textContent: `${says} ` })];
  if (standing && relays) {
    const workers = offers.get(find("#model").value) ?? standing.network.workers;
    const { clients_claimed: clients } = standing.network;
    words.push(`You hide among ${count(clients, "client")} that the relays claim; one of ${count(workers, "worker")} answers.`);
  }
  find("#level").replaceChildren(...words);
}

find("#privacy").addEventListener("change", level);
find("#model").addEventListener("change", level);

// --- the conversation ---

const said = [];
let running = null;
let last = null;

function body() {
  const { relays, shaping, swift } = LEVELS[find("#privacy").value];
  const own = { relays, shaping, ...(shaping ? { swift } : {}) };
  const cap = find("#cap").value.trim().replace(",", ".");
  if (cap) own.max_price_nano = Math.round(Number(cap) * NANO);
  return { model: find("#model").value, messages: said, stream: true, tussah: own };
}

async function ask(prompt) {
  said.push({ role: "user", content: prompt });
  find("#welcome").hidden = true;
  const answer = show(prompt);
  running = new AbortController();
  busy(true);
  try {
    const request = { method: "POST", body: JSON.stringify(body()), signal: running.signal };
    await hear(await call("/v1/chat/completions", request), answer);
    said.push({ role: "assistant", content: answer.text.textContent });
  } catch (error) {
    broken(error, answer);
  } finally {
    answer.text.classList.remove("waiting");
    running = null;
    busy(false);
    refresh();
  }
}

function show(prompt) {
  const answer = { text: make("div", { className: "text waiting" }), item: make("li") };
  answer.item.append(answer.text);
  find("#talk").append(make("li", { className: "asked", textContent: prompt }), answer.item);
  answer.item.scrollIntoView({ block: "end" });
  return answer;
}

async function hear(response, answer) {
  for await (const chunk of events(response)) {
    if (chunk.error) throw new Refused(0, chunk.error);
    const delta = chunk.choices?.[0]?.delta ?? {};
    if (delta.reasoning_content) think(answer, delta.reasoning_content);
    if (delta.content) write(answer, delta.content);
    if (chunk.tussah) done(answer, chunk.tussah);
  }
}

function write(answer, text) {
  const talk = find("#talk");
  const follows = talk.scrollHeight - talk.scrollTop - talk.clientHeight < 80;
  answer.text.append(text);
  if (follows) talk.scrollTop = talk.scrollHeight;
}

function think(answer, text) {
  if (!answer.thought) {
    answer.thought = make("div", { className: "thought" });
    answer.text.before(answer.thought);
  }
  answer.thought.append(text);
}

function done(answer, told) {
  last = told;
  answer.item.append(make("p", { className: "cost fine", textContent: costLine(told) }));
  knows(told);
}

function broken(error, answer) {
  const isStopped = error.name === "AbortError";
  if (error.status === 401) askKey("The node does not know this key.");
  if (!isStopped && !answer.text.textContent) said.pop();
  else said.push({ role: "assistant", content: answer.text.textContent });
  const words = isStopped ? "Stopped. The worker was told; what it had not earned comes back." : error.message;
  answer.item.append(make("p", { className: isStopped ? "fine" : "error", textContent: words }));
}

function busy(is) {
  find("#stop").hidden = !is;
  find("#send").hidden = is;
  find("#talk").setAttribute("aria-busy", is);
}

find("#ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const prompt = find("#prompt").value.trim();
  if (!prompt || running) return;
  const cap = find("#cap").value.trim().replace(",", ".");
  if (cap && !(Number(cap) >= 0)) {
    find("#hint").textContent = "The price is a number, such as 0.01.";
    return;
  }
  find("#hint").textContent = "";
  find("#prompt").value = "";
  ask(prompt);
});

find("#prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  find("#ask").requestSubmit();
});

find("#stop").addEventListener("click", () => running?.abort());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});

for (const button of document.querySelectorAll("#ideas button")) {
  button.addEventListener("click", () => {
    find("#prompt").value = button.textContent;
    find("#ask").requestSubmit();
  });
}

find("#fresh").addEventListener("click", () => {
  running?.abort();
  said.length = 0;
  find("#talk").replaceChildren();
  find("#welcome").hidden = false;
  find("#prompt").focus();
});

// --- who knows what ---

const YES = "yes", PART = "part", NO = "no";
const READ = { yes: "knows", part: "knows in part", no: "does not know" };

// Of each party its name, a word on it, and what it knows: who you are, that you ask, text, price.
function parties({ privacy, worker, cost }) {
  const paid = cost.paid_nano > 0;
  const relays = privacy.path.map((id, at) => at === 0
    ? ["guard", short(id), YES, YES, NO, NO]
    : [`relay ${at + 1}`, short(id), NO, PART, NO, NO]);
  const direct = privacy.relays === 0;
  const reader = ["worker", short(worker.id), direct ? YES : NO, direct ? YES : PART, YES, paid ? YES : NO];
  const rows = [["your network", "when, how long", YES, PART, NO, NO], ...relays, reader];
  if (paid) rows.push(["mint", "sums, not whose", NO, NO, NO, PART]);
  return rows;
}

function knows(answer) {
  const table = find("#knows table");
  table.tBodies[0].replaceChildren(...parties(answer).map(row));
  table.hidden = false;
  find("#knows .signs").hidden = false;
  find("#knows-none").hidden = true;
  find("#reasons").replaceChildren(...answer.privacy.reasons.map((reason) => make("li", { textContent: reason })));
}

function row([party, word, ...cells]) {
  const head = make("th", { scope: "row", textContent: party });
  head.append(make("small", { textContent: word }));
  return make("tr", {}, head, ...cells.map(sign));
}

function sign(knowledge) {
  const mark = make("span", { className: knowledge, title: READ[knowledge], role: "img" });
  mark.setAttribute("aria-label", READ[knowledge]);
  return make("td", {}, mark);
}

// --- the map ---

const RINGS = { relay: 42, mint: 66, worker: 86 };
const MOST = 60;

function kind(peer) {
  return ["worker", "mint", "relay"].find((role) => peer.roles.includes(role));
}

function places(peers) {
  const found = new Map();
  for (const [role, radius] of Object.entries(RINGS)) {
    const group = peers.filter((peer) => kind(peer) === role).slice(0, MOST);
    group.forEach((peer, at) => {
      const angle = (2 * Math.PI * at) / group.length - Math.PI / 2 + radius / 50;
      const silent = peer.live === false;
      found.set(peer.id, { role, silent, x: radius * Math.cos(angle), y: radius * Math.sin(angle) });
    });
  }
  return found;
}

function chart(peers) {
  const found = places(peers);
  const way = last ? [...last.privacy.path, last.worker.id].filter((id) => found.has(id)) : [];
  const parts = [draw("title", { id: "map-text" }, `${count(peers.length, "node")}; the last question went through ${way.length - 1 > 0 ? count(way.length - 1, "relay") : "none"}`)];
  for (const radius of Object.values(RINGS)) parts.push(draw("circle", { class: "ring", r: radius }));
  let from = { x: 0, y: 0 };
  for (const id of way) {
    const to = found.get(id);
    parts.push(draw("line", { x1: from.x, y1: from.y, x2: to.x, y2: to.y }));
    from = to;
  }
  for (const [id, place] of found) parts.push(spot(id, place, way.includes(id)));
  parts.push(draw("circle", { class: "you", r: 4 }));
  for (const [at, id] of way.entries()) parts.push(name(at, way.length - 1, found.get(id)));
  find("#map svg").replaceChildren(...parts);
}

// What a party of the way is to the question, beside its spot and away from the middle.
function name(at, end, { x, y }) {
  const word = at === end ? "worker" : at === 0 ? "guard" : `${at + 1}`;
  const isOuter = Math.hypot(x, y) > RINGS.mint;
  const far = isOuter ? 1 : 1 + 11 / Math.hypot(x, y);
  const down = isOuter ? (y < 0 ? 12 : -7) : 2.5;
  return draw("text", { x: x * far, y: y * far + down }, word);
}

function spot(id, { role, silent, x, y }, isOn) {
  const kinds = [role, ...(isOn ? ["on"] : []), ...(silent ? ["silent"] : [])];
  const circle = draw("circle", { class: kinds.join(" "), cx: x, cy: y, r: isOn ? 4 : 3 });
  circle.append(draw("title", {}, `${role} ${short(id)}${silent ? ", silent of late" : ""}`));
  return circle;
}

// --- how the node stands ---

function stand(status) {
  const { network, node } = status;
  standing = status;
  const words = network.joined ? `${node.network} · ${count(network.relays, "relay")}, ${count(network.workers, "worker")}` : `${node.network} · joining …`;
  find("#network").textContent = words;
  find("#counts").textContent = `The relays claim ${count(network.clients_claimed, "active client")}: you hide among these.`;
  const alerts = status.alerts.map(({ message, advice }) => make("li", { textContent: `${message} ${advice}` }));
  find("#alerts").replaceChildren(...alerts);
  find("#alerts").hidden = alerts.length === 0;
  money(status);
  work(status);
  level();
}

function fill(list, rows) {
  list.replaceChildren(...rows.flatMap(([name, value]) =>
    [make("dt", { textContent: name }), make("dd", { textContent: value })]));
}

function money({ money: has, node }) {
  const rows = [["in the wallet", has.wallet_nano], ["in credits", has.credits_nano], ["due to you", has.due_nano],
    ["due to others", has.owed_nano], ["earned today", has.earned_today_nano], ["spent today", has.spent_today_nano]];
  const known = rows.filter(([, nano]) => nano !== null);
  fill(find("#money dl"), known.map(([name, nano]) => [name, ton(nano)]));
  find("#deposit").hidden = known.length === 0;
  find("#money-note").textContent = node.chain === null
    ? "Answers on this network are free."
    : known.length ? `On the chain ${node.chain}.` : "The wallet is not open yet: tussah wallet unlock.";
}

// --- coins, in and out ---

find("#deposit").addEventListener("toggle", async () => {
  if (!find("#deposit").open || find("#address").textContent) return;
  try {
    const { address, link, qr, worthless } = await read("/tussah/v1/deposit");
    find("#address").textContent = address;
    if (link.startsWith("ton://transfer/")) find("#link").href = link;
    find("#deposit-note").textContent = worthless ? "Coins of this chain are worth nothing." : "Only send coins of this chain.";
    square(find("#deposit .qr"), qr);
  } catch (error) {
    find("#deposit-note").textContent = error.message;
  }
});

// Rows of zeros and ones, with the quiet zone that readers need.
function square(svg, rows) {
  const size = rows.length + 8;
  svg.setAttribute("viewBox", `-4 -4 ${size} ${size}`);
  const dots = rows.flatMap((row, y) => [...row].map((dot, x) => (dot === "1" ? `M${x} ${y}h1v1h-1z` : "")));
  svg.replaceChildren(draw("rect", { x: -4, y: -4, width: size, height: size }), draw("path", { d: dots.join("") }));
}

const DAYS = 14;

function earnings({ groups, earned_nano: all, answers }) {
  const days = groups.filter(({ day }) => day).slice(-DAYS);
  const most = Math.max(1, ...days.map((each) => each.earned_nano));
  const bars = days.map(({ day, earned_nano: nano }, at) => {
    const high = Math.max(1, (32 * nano) / most);
    const bar = draw("rect", { x: at * 10 + 1, y: 34 - high, width: 7, height: high, rx: 1.5 });
    bar.append(draw("title", {}, `${day}: ${ton(nano)}`));
    return bar;
  });
  find("#earned svg").replaceChildren(draw("title", { id: "earned-text" }, "Earned by day"), ...bars);
  find("#earned figcaption").textContent = `${ton(all)} earned with ${count(answers, "answer")}, by day`;
  find("#earned").hidden = days.length === 0;
}

// --- the worker of this machine ---

function work({ worker, machine }) {
  const is = worker !== null;
  find("#work").hidden = !is;
  find("nav [data-pane=work]").hidden = !is;
  if (!is) return;
  find("#work-state").textContent = worker.state;
  find("#work-state").className = `badge ${worker.state}`;
  find("#work-model").textContent = (worker.model ?? "no model yet").split(":")[0];
  find("#work-reasons").replaceChildren(...worker.reasons.map((reason) => make("li", { textContent: reason })));
  const rows = [
    ["answers", String(worker.answered)],
    ["tokens", worker.tokens_per_s ? `${worker.tokens}, up to ${Math.round(worker.tokens_per_s)} a second` : String(worker.tokens)],
    ["at work", `${worker.slots.busy ?? 0} of ${worker.slots.total ?? 0}, ${worker.queue ?? 0} waiting`],
  ];
  if (machine.temperature_c !== null) rows.push(["hottest sensor", `${Math.round(machine.temperature_c)} °C`]);
  if (machine.battery !== null) rows.push(["battery", `${Math.round(machine.battery.percent)} %${machine.battery.on_mains ? ", on mains" : ""}`]);
  fill(find("#work dl"), rows);
  find("#resume").disabled = worker.state !== "paused";
  find("#pause").disabled = worker.state === "paused" || worker.state === "stopped";
}

async function order(action, body) {
  find("#work-error").textContent = "";
  try {
    await call(`/tussah/v1/worker/${action}`, { method: "POST", body: JSON.stringify(body) });
    await refresh();
  } catch (error) {
    find("#work-error").textContent = error.message;
  }
}

find("#pause").addEventListener("click", () => order("pause", { seconds: 3600 }));
find("#resume").addEventListener("click", () => order("resume", {}));

// What 1,000 tokens of an answer cost at the worker in the middle.
function price(model) {
  const range = model?.price_range;
  if (!range) return "";
  return range.median ? `${ton(Math.round(range.median))} a thousand tokens` : "free";
}

function models(list) {
  offers = new Map(list.filter(({ tussah }) => tussah).map(({ id, tussah }) => [id, tussah.workers]));
  const select = find("#model");
  const chosen = select.value;
  select.replaceChildren(...list.map(({ id, tussah }) =>
    make("option", { value: id, textContent: [id.split(":")[0], price(tussah)].filter(Boolean).join(" · ") })));
  select.value = list.some(({ id }) => id === chosen) ? chosen : "auto";
}

async function refresh() {
  try {
    stand(await read("/tussah/v1/status"));
    chart((await read("/tussah/v1/peers")).peers);
    models((await read("/v1/models")).data);
    if (standing.worker) earnings(await read("/tussah/v1/earnings"));
    level();
  } catch (error) {
    if (error.status === 401) askKey("The node does not know this key.");
    else find("#network").textContent = error instanceof Refused ? error.message : "The node does not answer. Start it: tussah up";
  }
}

// --- panes, on small screens ---

for (const button of document.querySelectorAll("nav button")) {
  button.addEventListener("click", () => {
    find("main").dataset.pane = button.dataset.pane;
    for (const other of document.querySelectorAll("nav button")) other.setAttribute("aria-pressed", other === button);
  });
}

// --- begin ---

let ticking = null;

function begin() {
  refresh();
  ticking ??= setInterval(() => document.hidden || running || refresh(), 5000);
}

find("main").dataset.pane = "chat";
takeKey();
if (key) begin();
else askKey();
