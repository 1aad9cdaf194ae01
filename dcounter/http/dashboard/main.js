import { advice, verdict } from "./advice.js";
import { Refused, ask, question, send, token } from "./api.js";
import { Audit } from "./audit.js";
import { Bars } from "./bars.js";
import { Chart, SPAN_S, recolour } from "./charts.js";
import { $, element, fill, icon, say, seldom } from "./dom.js";
import { duration, integer, rate } from "./format.js";
import { Feed } from "./feed.js";
import { History } from "./history.js";
import { note, noteChange } from "./log.js";
import { login } from "./login.js";
import { Picture } from "./picture.js";
import { nodeFacts } from "./node_facts.js";
import { nodeRows } from "./nodes_table.js";
import { parseMetrics } from "./prometheus.js";
import { Rates } from "./rates.js";
import { Tenant } from "./tenant.js";
import { Top } from "./top.js";

/** The daemon is asked for what events do not tell this often (ms), and at most that often for what they do tell. */
const POLL_MS = 2_000;
const TOTALS_MS = 1_000;
/** After very many changes events come late: so often (polls) the largest tenants are asked for all the same. */
const LARGEST_POLLS = 5;
const DRAW_MS = 200;
const LARGEST = 15;
const KNOWN = 100;

const now = () => Date.now() / 1000;

/** What the daemon has answered, by what was asked. What it denies is not asked again. */
const known = { cluster: null, ready: null, stats: null, facts: new Map() };
const denied = new Set();
/** Names of tenants that the token is bound to; `null`: all may be read. */
let bound = null;
let connected = false;
let signingIn = false;

const rates = new Rates();
const refusedAt = new Map();
const taken = new Map();
const top = new Top({ shown: LARGEST, known: KNOWN });
const history = new History();
const picture = new Picture($("picture"));
const audit = new Audit(() => restart());
const tenant = new Tenant(history, () => drawSoon());
const bars = new Bars((name) => tenant.choose(name));
const requests = new Chart("rates", {
  series: [
    { name: "Writes", colour: "writes" },
    { name: "Reads", colour: "reads" },
  ],
  format: rate,
  filled: true,
});
const latencies = new Chart("latency", {
  series: [
    { name: "p50", colour: "p50" },
    { name: "p99", colour: "p99" },
  ],
  format: duration,
});

/** What tells of more than some tenants, and so is denied to tokens that are bound to those. */
const OF_ALL = ["cluster", "metrics", "audit"];

/**
 * Ask for something, unless the daemon has denied it.
 *
 * @returns {Promise<*>} what `ask` returns; `undefined` if it is denied
 * @throws {Refused} the daemon does not answer, or wants a token
 */
async function may(what, call) {
  if (denied.has(what)) return undefined;
  try {
    return await call();
  } catch (refused) {
    if (!(refused instanceof Refused) || ![403, 404, 501].includes(refused.status)) throw refused;
    denied.add(what);
    return undefined;
  }
}

/** What may be asked of tenants: all, or those that begin with what the token is bound to. */
const prefixes = () => bound ?? [undefined];

async function askTotals() {
  if (bound === null) {
    const stats = await may("stats", () => ask(question("stats")));
    if (stats) known.stats = stats;
  } else {
    const parts = await Promise.all(bound.map((prefix) => ask(question("counts", { prefix }))));
    const all = (name) => parts.reduce((sum, part) => sum + part[name], 0);
    const missing = parts.find((part) => part.missing)?.missing;
    known.stats = { items: all("counter"), tenants: all("tenants"), missing };
  }
  // What is missing now is there soon, and no event may tell so.
  if (known.stats?.missing) askTotalsSeldom();
  drawSoon();
}

async function askLargest() {
  const pages = await Promise.all(
    prefixes().map((prefix) =>
      may("tenants", () => ask(question("tenants", { sort: "-count", limit: KNOWN, prefix }))),
    ),
  );
  const found = pages.filter(Boolean);
  const tenants = found.flatMap((page) => page.tenants).sort((one, other) => other.counter - one.counter);
  top.load(tenants, found.some((page) => page.cursor));
  if (found.some((page) => page.missing)) askLargestSeldom();
  drawSoon();
}

async function askCluster() {
  const cluster = await may("cluster", () => ask("cluster"));
  if (!cluster) return;
  const at = now();
  for (const node of cluster.nodes) {
    const last = taken.get(node.id);
    const more = last && last.pid === node.pid ? node.items_taken - last.items : 0;
    const rate = last && at > last.at ? more / (at - last.at) : 0;
    if (!last || at - last.at > 1) taken.set(node.id, { at, pid: node.pid, items: node.items_taken, rate });
  }
  const version = ({ software }) => software?.version;
  // The daemon was upgraded, and has another page.
  if (known.cluster && version(known.cluster) !== version(cluster)) location.reload();
  known.cluster = cluster;
  drawSoon();
}

async function askReady() {
  try {
    known.ready = await ask("readyz");
  } catch (refused) {
    if (refused.status !== 503 || !refused.content.missing) throw refused;
    known.ready = refused.content;
  }
  drawSoon();
}

async function askMetrics() {
  const response = await may("metrics", () => send("metrics"));
  if (!response) return;
  const metrics = parseMetrics(await response.text());
  known.facts = nodeFacts(metrics);
  const before = new Map(rates.refused);
  rates.add(now(), metrics);
  for (const [code, count] of rates.refused) {
    if (count !== before.get(code)) refusedAt.set(code, now());
  }
  for (const [code, at] of refusedAt) {
    if (now() - at > SPAN_S) {
      refusedAt.delete(code);
      rates.refused.delete(code);
    }
  }
  drawSoon();
}

const askAudit = () => may("audit", () => audit.refresh());

/**
 * See to it that a question that failed is noticed, once for all of them.
 *
 * @param {() => void} [again] asks again, if the daemon is only busy
 */
async function answered(promise, again) {
  try {
    await promise;
  } catch (refused) {
    if (!(refused instanceof Refused)) throw refused;
    if (refused.status === 401) signIn(refused.message);
    else if (refused.status === 0 && connected) {
      // Events may be silent for longer, and the daemon is not there all the same.
      lost();
      feed.start();
    }
    else if (refused.status >= 429) again?.();
  }
}

const askTotalsSeldom = seldom(TOTALS_MS, () => connected && answered(askTotals(), askTotalsSeldom));
const askLargestSeldom = seldom(TOTALS_MS, () => connected && answered(askLargest(), askLargestSeldom));
const askClusterSeldom = seldom(DRAW_MS, () => connected && answered(Promise.all([askCluster(), askReady()])));

function askAll() {
  askTotalsSeldom();
  askLargestSeldom();
  askClusterSeldom();
  tenant.refresh();
}

let polls = 0;

async function poll() {
  polls++;
  if (connected) {
    // Without events, whatever may have changed.
    const largest = denied.has("events") || polls % LARGEST_POLLS === 0;
    await Promise.all([
      answered(askCluster()),
      answered(askReady()),
      answered(askMetrics()),
      answered(askAudit()),
      answered(askTotals()),
      tenant.refreshCount(),
      largest ? answered(askLargest()) : null,
    ]);
  }
  setTimeout(poll, POLL_MS);
}

const feed = new Feed({
  event(name, data) {
    if (name === "hello") {
      bound = data.nodes ? null : data.prefixes;
      if (bound !== null) OF_ALL.forEach((what) => denied.add(what));
      live();
      if (!data.resumed) askAll();
    } else if (name === "reset") {
      askAll();
    } else if (name === "count") {
      history.add(data.tenant, now(), data.counter);
      top.apply(data.tenant, data.counter);
      if (data.tenant === tenant.chosen) tenant.changed();
      if (top.stale) askLargestSeldom();
      askTotalsSeldom();
      drawSoon();
    } else if (name === "node") {
      noteChange(data);
      askClusterSeldom();
    }
  },
  down(refused, wait_ms) {
    if (refused.status === 401) return signIn(refused.message);
    if (refused.status === 501 || refused.code === "too_many_watchers") {
      // The figures come all the same, only not at once.
      denied.add("events");
      return live();
    }
    lost();
    const again = wait_ms < 1000 ? "trying again" : `trying again in ${Math.round(wait_ms / 1000)} s`;
    say($("connection-text"), `The daemon does not answer; ${again}`);
    return undefined;
  },
});

/** What is shown is so now. */
function live() {
  if (!connected) note("good", "Connected to the daemon");
  connected = true;
  delete document.documentElement.dataset.stale;
  drawSoon();
}

/** What is shown was so once. */
function lost() {
  if (connected) {
    note("bad", "The daemon does not answer");
    rates.gap(now());
    say($("connection-text"), "The daemon does not answer");
  }
  connected = false;
  document.documentElement.dataset.stale = "";
  drawSoon();
}

/** Begin anew, such as with another token. */
function restart() {
  denied.clear();
  bound = null;
  feed.forget();
  feed.start();
  drawSoon();
}

async function signIn(why) {
  feed.stop();
  connected = false;
  draw();
  if (signingIn) return;
  signingIn = true;
  const changed = await login(why);
  signingIn = false;
  if (changed) restart();
  else say($("connection-text"), "A token is needed");
}

let drawing = false;

function drawSoon() {
  if (drawing) return;
  drawing = true;
  setTimeout(() => {
    drawing = false;
    draw();
  }, DRAW_MS);
}

function draw() {
  drawConnection();
  drawTotals();
  drawAdvice();
  drawCluster();
  drawRates();
  const largest = top.list();
  bars.show(largest, tenant.chosen);
  say($("top-aside"), known.stats?.tenants > largest.length ? `${largest.length} of ${integer(known.stats.tenants)}` : "");
  tenant.show();
  audit.show();
}

function drawConnection() {
  $("connection").dataset.state = connected ? "live" : "down";
  if (connected) say($("connection-text"), denied.has("events") ? "Live, every 2 seconds" : "Live");
  $("reconnect").hidden = connected;
  $("token").replaceChildren(icon("key"), element("span", {}, token.get() ? "Token set" : "Token"));
  $("token").setAttribute("aria-label", token.get() ? "Token: one is set" : "Token: none is set");
}

function drawTotals() {
  const { items, tenants } = known.stats ?? {};
  say($("items"), integer(items));
  $("items").dataset.length = integer(items).length > 11 ? "long" : "short";
  say($("tenants"), integer(tenants));
  say($("tenants-word"), tenants === 1 ? "tenant" : "tenants");
  document.title = items === undefined ? "dcounter" : `${integer(items)} items · dcounter`;
  const { level, text } = connected ? verdict(known) : { level: "bad", text: "These figures are not up to date" };
  if ($("verdict").dataset.shown === level + text) return;
  $("verdict").dataset.shown = level + text;
  $("verdict").dataset.level = level;
  $("verdict").replaceChildren(icon(level), element("span", {}, text));
}

function drawAdvice() {
  const since = new Map([...refusedAt].map(([code, at]) => [code, now() - at]));
  const found = connected ? advice({ ...known, audit: audit.state, refused: rates.refused, since }) : [];
  const shown = JSON.stringify(found);
  const section = $("advice");
  if (section.dataset.shown === shown) return;
  section.dataset.shown = shown;
  section.hidden = !found.length;
  const items = found.map(({ level, what, todo }) =>
    element("li", { "data-level": level }, icon(level), element("strong", {}, what), element("p", {}, todo)),
  );
  section.querySelector("ul").replaceChildren(...items);
}

function drawCluster() {
  const { cluster } = known;
  $("audit").hidden = denied.has("audit");
  $("cluster").hidden = denied.has("cluster");
  if (!cluster || $("cluster").hidden) return;
  const up = cluster.nodes.filter(({ state }) => state === "up").length;
  say($("cluster-aside"), `${up} of ${cluster.nodes.length} up`);
  picture.show(cluster.nodes, cluster.primary, new Map([...taken].map(([id, each]) => [id, each.rate])), known.facts);
  if ($("nodes-table").closest("details").open) fill($("nodes-table"), nodeRows(cluster, known.facts));
  say($("cluster-id"), cluster.cluster ? `· cluster ${cluster.cluster.slice(0, 8)}` : "");
  const version = cluster.software?.version;
  say($("version"), version ? `dcounter ${version}` : "dcounter");
}

function drawRates() {
  for (const id of ["tiles", "rates", "latency"]) $(id).hidden = denied.has("metrics");
  const { points } = rates;
  const column = (name) => points.map((point) => point[name]);
  const last = points.at(-1) ?? {};
  say($("writes"), rate(last.writes));
  say($("reads"), rate(last.reads));
  say($("items-rate"), last.items > 0 ? `${rate(last.items)} items/s` : "\u00a0");
  say($("p50"), duration(last.p50));
  say($("p99"), duration(last.p99));
  requests.show([column("at"), column("writes"), column("reads")]);
  latencies.show([column("at"), column("p50"), column("p99")]);
}

const THEMES = { auto: "System", light: "Light", dark: "Dark" };

function drawTheme() {
  const theme = document.documentElement.dataset.theme;
  $("theme").replaceChildren(icon(theme), element("span", {}, THEMES[theme]));
  $("theme").setAttribute("aria-label", `Theme: ${THEMES[theme].toLowerCase()}`);
}

$("theme").addEventListener("click", () => {
  const order = Object.keys(THEMES);
  const next = order[(order.indexOf(document.documentElement.dataset.theme) + 1) % order.length];
  document.documentElement.dataset.theme = next;
  localStorage.setItem("dcounter-theme", next);
  drawTheme();
  recolour();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
$("reconnect").addEventListener("click", () => restart());
$("token").addEventListener("click", async () => {
  if (await login("With a token you can see, and do, what it permits.")) restart();
});
$("nodes-table").closest("details").addEventListener("toggle", drawSoon);
say(
  $("top-example"),
  `curl ${new URL("items", document.baseURI)} -d '[{"ID":1,"tenant":"hello"}]'`,
);

drawTheme();
tenant.follow();
feed.start();
poll();
