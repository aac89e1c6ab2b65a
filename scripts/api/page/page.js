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

// --- the conversation ---

const said = [];
let running = null;
let last = null;

function body() {
  const own = { relays: Number(find("#relays").value) };
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
      found.set(peer.id, { role, x: radius * Math.cos(angle), y: radius * Math.sin(angle) });
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
  for (const [id, { role, x, y }] of found) parts.push(spot(id, role, x, y, way.includes(id)));
  parts.push(draw("circle", { class: "you", r: 4 }));
  find("#map svg").replaceChildren(...parts);
}

function spot(id, role, x, y, isOn) {
  const circle = draw("circle", { class: isOn ? `${role} on` : role, cx: x, cy: y, r: isOn ? 4 : 3 });
  circle.append(draw("title", {}, `${role} ${short(id)}`));
  return circle;
}

// --- how the node stands ---

function stand(status) {
  const { network, node } = status;
  const words = network.joined ? `${node.network} · ${count(network.relays, "relay")}, ${count(network.workers, "worker")}` : `${node.network} · joining …`;
  find("#network").textContent = words;
  find("#counts").textContent = `The relays claim ${count(network.clients_claimed, "active client")}: you hide among these.`;
  const alerts = status.alerts.map(({ message, advice }) => make("li", { textContent: `${message} ${advice}` }));
  find("#alerts").replaceChildren(...alerts);
  find("#alerts").hidden = alerts.length === 0;
  money(status);
}

function money({ money: has, node }) {
  const rows = [["in the wallet", has.wallet_nano], ["in credits", has.credits_nano], ["due to you", has.due_nano],
    ["earned today", has.earned_today_nano], ["spent today", has.spent_today_nano]];
  const known = rows.filter(([, nano]) => nano !== null);
  find("#money dl").replaceChildren(...known.flatMap(([name, nano]) =>
    [make("dt", { textContent: name }), make("dd", { textContent: ton(nano) })]));
  find("#money-note").textContent = node.chain === null
    ? "Answers on this network are free."
    : known.length ? `On the chain ${node.chain}.` : "The wallet is not open yet.";
}

function models(list) {
  const select = find("#model");
  const chosen = select.value;
  select.replaceChildren(...list.map(({ id }) => make("option", { value: id, textContent: id.split(":")[0] })));
  select.value = list.some(({ id }) => id === chosen) ? chosen : "auto";
}

async function refresh() {
  try {
    stand(await read("/tussah/v1/status"));
    chart((await read("/tussah/v1/peers")).peers);
    models((await read("/v1/models")).data);
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
