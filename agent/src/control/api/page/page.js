// The status page: asks its own agent, and nobody else. Whatever comes from the agent
// is put into the page as text, never as markup: tenants choose names.
"use strict";

const VERDICTS = ["unknown", "up", "down", "draining"];
const MARKS = { unknown: "?", up: "●", down: "✕", draining: "◐" };
// The worst first.
const RANK = [1, 3, 0, 2];
const FORCED = 1, CARRIED = 2, FROZEN = 4, DEGRADED = 8;
const LISTED = 100;
const EVENTS = 200;

const $ = (id) => document.getElementById(id);
const seen = { life: null, version: 0, last: 0, origins: new Map(), events: [], pop: null, now: 0 };
const view = { cells: [], size: 4, columns: 1, cursor: 0, hidden: new Set(), query: "" };

// What an element holds: texts and other elements.
function make(tag, attributes, ...children) {
  const svg = ["g", "circle", "line", "text", "title"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "onclick") element.addEventListener("click", value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// ---- the agent

function key() {
  const fragment = location.hash.slice(1);
  if (fragment) {
    sessionStorage.setItem("key", fragment);
    // Neither the address bar nor a bookmark keeps it.
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("key");
}

class Refused extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

async function ask(path, query) {
  const headers = {};
  const known = key();
  if (known) headers.Authorization = "Bearer " + known;
  const answer = await fetch(path + "?" + new URLSearchParams(query), { headers, cache: "no-store", credentials: "omit" });
  const body = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, body.error || String(answer.status));
  return body;
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const visible = () => new Promise((done) => {
  if (!document.hidden) return done();
  document.addEventListener("visibilitychange", () => visible().then(done), { once: true });
});

async function follow() {
  let patience = 1000;
  for (;;) {
    // A page that nobody sees costs nobody anything.
    await visible();
    try {
      const query = { version: seen.version, last: seen.last, follow: true };
      if (seen.life) query.life = seen.life;
      take(await ask("/v1/screen", query));
      patience = 1000;
      say(seen.crowded ? "many look on: every 5 s" : "live", false);
      await sleep(seen.again);
    } catch (error) {
      if (error.status === 401 || error.status === 403) {
        say(error.message, true);
        await wanted();
      } else {
        say("no answer from the agent since " + clock(seen.now || Date.now()) + "; asking again", true);
        await sleep(patience);
        patience = Math.min(patience * 2, 5000);
      }
    }
  }
}

function say(text, lost) {
  const link = $("link");
  if (link.textContent !== text) link.textContent = text;
  link.classList.toggle("lost", lost);
}

// Waits for a key.
function wanted() {
  $("key-form").hidden = false;
  return new Promise((done) => {
    const go = (event) => {
      event.preventDefault();
      if (event.type === "submit") sessionStorage.setItem("key", $("key").value.trim());
      $("key").value = "";
      $("key-form").hidden = true;
      $("key-form").removeEventListener("submit", go);
      removeEventListener("hashchange", go);
      done();
    };
    $("key-form").addEventListener("submit", go);
    addEventListener("hashchange", go);
  });
}

function take(screen) {
  if (screen.whole) {
    seen.origins.clear();
    if (seen.life !== screen.life) seen.events = [];
  }
  const rows = screen.origins;
  rows.name.forEach((name, at) => {
    seen.origins.set(name, {
      name, verdict: rows.verdict[at], flags: rows.flags[at],
      reason: rows.reasons[rows.reason[at]], owner: rows.owners[rows.owner[at]],
      since: rows.since_ms[at], latency: rows.latency_us[at],
    });
  });
  for (const name of screen.gone) seen.origins.delete(name);
  seen.events = seen.events.concat(screen.events).slice(-EVENTS);
  Object.assign(seen, {
    life: screen.life, version: screen.version, last: screen.last, pop: screen.pop, now: screen.now_ms,
    fresh: screen.fresh, left: screen.left_out, lateness: screen.lateness, again: screen.again_ms, crowded: screen.again_ms > 0,
  });
  $("main").hidden = false;
  if (screen.whole || rows.name.length || screen.gone.length) choose();
  head();
  members();
  given();
  if (screen.whole || screen.events.length) events();
  document.body.dataset.version = seen.version;
}

// ---- words

function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + (s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
  return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
}
const clock = (ms) => new Date(ms).toISOString().slice(11, 19);
const word = (origin) => VERDICTS[origin.verdict] || "unknown";
const held = (origin) => origin.since ? span(seen.now - origin.since) : "not yet";
function flags(origin) {
  const words = [];
  if (origin.flags & FORCED) words.push("forced");
  if (origin.flags & FROZEN) words.push("frozen");
  if (origin.flags & CARRIED) words.push("carried");
  if (origin.flags & DEGRADED) words.push("degraded");
  return words.length ? " (" + words.join(", ") + ")" : "";
}
const badge = (verdict) => make("span", { class: "verdict " + verdict }, (MARKS[verdict] || "") + " " + verdict);
const opener = (name) => make("button", { type: "button", onclick: () => open(name) }, name);
const row = (...cells) => make("tr", null, ...cells.map((cell) => make("td", null, cell)));
const by = (it) => it.op + " by " + it.who + ", " + span(seen.now - it.at_ms) + " ago"
  + (it.until_ms ? ", until " + new Date(it.until_ms).toISOString().slice(0, 19) + "Z" : "")
  + (it.why ? " (" + it.why + ")" : "");

function head() {
  const pop = seen.pop;
  $("node").textContent = pop.node;
  document.title = pop.node + " - Watchfire";
  const counts = [0, 0, 0, 0];
  for (const origin of seen.origins.values()) counts[origin.verdict]++;
  const count = seen.origins.size + (seen.left ? " of " + (seen.origins.size + seen.left) : "");
  $("about").textContent = count + " origins, " + pop.checks + " checks, " + pop.members.length
    + (pop.members.length === 1 ? " member, up " : " members, up ") + span(pop.uptime_s * 1000) + ", version " + pop.version;
  VERDICTS.forEach((verdict, code) => {
    let button = $("show-" + verdict);
    if (!button) {
      button = make("button", { type: "button", id: "show-" + verdict, class: verdict, "aria-pressed": "true" });
      button.addEventListener("click", () => {
        if (!view.hidden.delete(code)) view.hidden.add(code);
        button.setAttribute("aria-pressed", String(!view.hidden.has(code)));
        choose();
      });
      $("verdicts").append(button, " ");
    }
    button.textContent = MARKS[verdict] + " " + counts[code] + " " + verdict;
  });
  const alarms = [];
  if (!seen.fresh) alarms.push("The table is stale: nobody writes it. Verdicts are what they were.");
  if (pop.braked) alarms.push("BRAKED for " + span(pop.braked.for_s * 1000) + ": so much fails at once that the POP's own uplink may be at fault; "
    + pop.braked.held + " failing checks are not called Down.");
  const others = pop.members.filter((it) => it.braked && it.name !== pop.node).map((it) => it.name);
  if (others.length) alarms.push("Braked: " + others.join(", "));
  if (pop.overrides.frozen) alarms.push("FROZEN: no verdict changes in any table; " + by(pop.overrides.frozen));
  if (pop.evicted) alarms.push("This agent was put out of the POP: " + by(pop.evicted));
  for (const it of pop.evictions) alarms.push("Member " + it.name + " is put out of the POP: " + by(it));
  if (pop.prober_ailment) alarms.push("This agent cannot probe: " + pop.prober_ailment);
  if (pop.draining) alarms.push("This agent is draining: it hands over what it owns.");
  const text = alarms.join("\n");
  if ($("alarms").dataset.text !== text) {
    $("alarms").dataset.text = text;
    $("alarms").replaceChildren(...alarms.map((alarm) => make("p", { class: "alarm" }, alarm)));
  }
}

// ---- members

function remark(member) {
  const words = [member.state];
  if (member.draining) words.push("draining");
  if (member.braked) words.push("braked");
  if (!member.prober_healthy) words.push("cannot measure");
  return words.join(", ");
}

function mark(member) {
  if (member.state === "suspect") return "?";
  if (member.state === "dead") return "✕";
  if (member.state === "left") return "–";
  if (!member.prober_healthy) return "!";
  return member.draining ? "◐" : "●";
}

function members() {
  const all = seen.pop.members;
  const load = new Map();
  for (const origin of seen.origins.values()) load.set(origin.owner, (load.get(origin.owner) || 0) + 1);
  const most = Math.max(1, ...all.map((it) => load.get(it.name) || 0));
  const ring = [make("circle", { class: "round", r: 90 })];
  all.forEach((member, at) => {
    const angle = 2 * Math.PI * at / all.length - Math.PI / 2;
    const [x, y] = [Math.cos(angle), Math.sin(angle)];
    const share = (load.get(member.name) || 0) / most;
    const [from, to] = [98, 98 + 30 * share];
    const sick = member.state !== "alive" || !member.prober_healthy;
    const group = make("g", { class: sick ? "bad" : "well" },
      make("title", null, member.name + ": " + remark(member) + ", decided " + (load.get(member.name) || 0)),
      make("line", { class: "load", x1: x * from, y1: y * from, x2: x * to, y2: y * to }),
      make("text", { x: x * 90, y: y * 90 }, mark(member)));
    if (all.length <= 16) {
      const name = member.name.length > 12 ? member.name.slice(0, 11) + "…" : member.name;
      group.append(make("text", { x: x * 62, y: y * 76 }, name));
    }
    ring.push(group);
  });
  $("ring").replaceChildren(...ring);
  const rows = all.map((member) => {
    const filter = make("button", { type: "button", onclick: () => find("owner:" + member.name) }, member.name);
    return row(filter, mark(member) + " " + remark(member), String(load.get(member.name) || 0),
      member.name === seen.pop.node ? "itself" : member.answered_ms_ago == null ? "never" : span(member.answered_ms_ago) + " ago",
      member.clock_off_ms == null ? "" : member.clock_off_ms + " ms");
  });
  swap($("members").tBodies[0], rows);
  const late = seen.lateness;
  $("late").textContent = late.count ? "This agent's probes begin late by " + (late.p50_us / 1000).toFixed(1) + " ms (half) and "
    + (late.p99_us / 1000).toFixed(1) + " ms (99 of 100) at most." : "";
}

// Changes what a table shows, unless somebody is at one of its buttons and it says
// the same.
function swap(body, rows) {
  const focused = body.contains(document.activeElement) ? document.activeElement.textContent : null;
  body.replaceChildren(...rows);
  if (focused !== null) [...body.querySelectorAll("button")].find((it) => it.textContent === focused)?.focus();
}

function given() {
  const all = seen.pop.given;
  $("given-none").hidden = all.length > 0;
  $("given").hidden = all.length === 0;
  swap($("given").tBodies[0], all.map((it) => row(opener(it.name), it.op, it.who + ", " + span(seen.now - it.at_ms) + " ago", it.why)));
}

function events() {
  const items = seen.events.slice().reverse().map((event) => make("li", null,
    make("time", { datetime: new Date(event.since_ms).toISOString() }, clock(event.since_ms)), " ",
    badge(event.to), " ", make("button", { type: "button", onclick: () => open(event.origin) }, event.origin),
    " " + event.reason + ", by " + event.owner));
  swap($("events"), items);
}

// ---- which origins

// A query is words: parts of names, names with *, and owner:, reason:, is:.
function matcher(query) {
  const tests = query.trim().split(/\s+/).filter(Boolean).map((part) => {
    const [, kind, value] = part.match(/^(owner|reason|is):(.*)$/) || [null, "name", part];
    if (kind === "owner") return (it) => it.owner === value;
    if (kind === "reason") return (it) => it.reason.includes(value);
    if (kind === "is") return (it) => flags(it).includes(value) || word(it) === value;
    if (!value.includes("*")) return (it) => it.name.includes(value);
    const pieces = value.split("*").map((piece) => piece.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    const pattern = new RegExp("^" + pieces.join(".*") + "$", "s");
    return (it) => pattern.test(it.name);
  });
  return (it) => tests.every((test) => test(it));
}

const names = (a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
const ORDERS = {
  verdict: (a, b) => RANK[a.verdict] - RANK[b.verdict] || names(a, b),
  name: names,
  owner: (a, b) => (a.owner < b.owner ? -1 : a.owner > b.owner ? 1 : names(a, b)),
  since: (a, b) => b.since - a.since || names(a, b),
};

function find(query) {
  $("search").value = query;
  view.query = query;
  choose();
}

function choose() {
  const fits = matcher(view.query);
  const under = view.cells[view.cursor]?.name;
  view.cells = [...seen.origins.values()].filter((it) => !view.hidden.has(it.verdict) && fits(it)).sort(ORDERS[$("order").value]);
  const kept = view.cells.findIndex((it) => it.name === under);
  // Who has not moved looks at the first, whichever it is now.
  view.cursor = view.cursor > 0 ? Math.max(0, kept) : 0;
  draw();
  const worst = view.query ? view.cells : view.cells.filter((it) => it.verdict !== 1 || it.flags);
  $("shown").textContent = view.cells.length + " of " + seen.origins.size + " origins are in the map; the list has "
    + Math.min(worst.length, LISTED) + " of " + worst.length + (view.query ? " that match" : " that are not simply up");
  swap($("list").tBodies[0], worst.slice(0, LISTED).map((it) =>
    row(opener(it.name), make("span", null, badge(word(it)), flags(it)), held(it), it.reason, it.owner)));
}

// ---- the map

// How much of a cell is inked says the verdict, so that it is read without colours:
// a dot is up, a full cell is down, a hollow one is unknown, the lower half drains.
function draw() {
  const canvas = $("map");
  const wide = Math.max(100, canvas.clientWidth);
  const count = Math.max(1, view.cells.length);
  view.size = Math.max(4, Math.min(22, Math.floor(Math.sqrt(wide * 360 / count))));
  view.columns = Math.max(1, Math.floor(wide / view.size));
  const high = Math.max(1, Math.ceil(count / view.columns)) * view.size + 2;
  const scale = devicePixelRatio || 1;
  canvas.width = wide * scale;
  canvas.height = high * scale;
  canvas.style.height = high + "px";
  const ink = canvas.getContext("2d");
  ink.scale(scale, scale);
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue("--" + name).trim();
  const colors = VERDICTS.map(color);
  const [ground, focus] = [color("panel"), color("focus")];
  const side = view.size - 1;
  view.cells.forEach((it, at) => {
    const x = (at % view.columns) * view.size + 1;
    const y = Math.floor(at / view.columns) * view.size + 1;
    ink.fillStyle = ink.strokeStyle = colors[it.verdict];
    if (it.verdict === 2) {
      ink.fillRect(x, y, side, side);
      if (side > 8) {
        ink.strokeStyle = ground;
        ink.lineWidth = 1.5;
        ink.beginPath();
        ink.moveTo(x + 3, y + 3); ink.lineTo(x + side - 3, y + side - 3);
        ink.moveTo(x + side - 3, y + 3); ink.lineTo(x + 3, y + side - 3);
        ink.stroke();
      }
    } else if (it.verdict === 1) {
      const dot = Math.max(2, Math.round(side * .5));
      const rest = (side - dot) / 2;
      ink.fillRect(x + rest, y + rest, dot, dot);
      if (it.flags & DEGRADED) ink.fillRect(x, y + side - 1, side, 1);
    } else if (it.verdict === 3) {
      ink.fillRect(x, y + side / 2, side, side / 2);
    } else {
      ink.lineWidth = 1;
      ink.strokeRect(x + .5, y + .5, side - 1, side - 1);
    }
    if (it.flags & FORCED && side > 6) {
      ink.fillStyle = focus;
      ink.fillRect(x, y, 3, 3);
    }
  });
  if (view.cells.length && document.activeElement === canvas) {
    ink.strokeStyle = focus;
    ink.lineWidth = 2;
    ink.strokeRect((view.cursor % view.columns) * view.size, Math.floor(view.cursor / view.columns) * view.size, view.size + 1, view.size + 1);
  }
}

const describe = (it) => it ? it.name + ": " + word(it) + flags(it) + " for " + held(it) + ", " + it.reason + ", by " + (it.owner || "nobody") : "";

function at(event) {
  const box = $("map").getBoundingClientRect();
  const column = Math.floor((event.clientX - box.left - 2) / view.size);
  if (column < 0 || column >= view.columns) return -1;
  return Math.floor((event.clientY - box.top - 2) / view.size) * view.columns + column;
}

function keys(event) {
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -view.columns, ArrowDown: view.columns, Home: -view.cells.length, End: view.cells.length }[event.key];
  if (step) {
    view.cursor = Math.max(0, Math.min(view.cells.length - 1, view.cursor + step));
    $("under").textContent = describe(view.cells[view.cursor]);
    draw();
  } else if (event.key === "Enter" || event.key === " ") {
    if (view.cells[view.cursor]) open(view.cells[view.cursor].name);
  } else {
    return;
  }
  event.preventDefault();
}

// ---- one origin

async function open(name) {
  const dialog = $("record");
  $("record-head").textContent = name;
  $("record-body").replaceChildren("asking the agent");
  if (!dialog.open) dialog.showModal();
  try {
    const why = await ask("/v1/why", { origin: name });
    if ($("record-head").textContent === name) $("record-body").replaceChildren(...story(why));
  } catch (error) {
    $("record-body").replaceChildren(make("p", { class: "alarm" }, error.message));
  }
}

function story(why) {
  const parts = [];
  const facts = make("dl");
  const fact = (what, ...value) => facts.append(make("dt", null, what), make("dd", null, ...value));
  if (why.override) fact("override", by(why.override));
  if (why.frozen) fact("frozen", by(why.frozen));
  fact(why.override ? "measured" : "verdict", badge(why.verdict), " " + why.because);
  fact("since", why.since_ms ? new Date(why.since_ms).toISOString() + ", " + span(seen.now - why.since_ms) + " ago" : "not yet");
  fact("decided by", why.owner || "nobody");
  fact("probed", why.probed_here ? "here" : why.owner ? "by another agent" : "nowhere");
  fact("next in line", why.ranks.join(", "));
  fact("check", why.definition + " (" + why.check + ")");
  if (why.resolved) {
    const it = why.resolved;
    fact("address", (it.address || "none") + ", of the name " + it.name);
    if (it.addresses.length) fact("resolved to", it.addresses.join(", ") + (it.left_out ? ", and " + it.left_out + " more" : "")
      + ", for " + span(seen.now - it.since_ms));
    if (it.missing_since_ms) fact("not found", "the DNS has said so for " + span(seen.now - it.missing_since_ms));
    if (it.failing) fact("resolver", "fails, and what was known stays: " + it.failing);
  }
  if (why.certificate_ends_ms) fact("certificate", "ends " + new Date(why.certificate_ends_ms).toISOString());
  if (why.shared_with.length) fact("shared with", why.shared_with.join(", "));
  fact("runbook", "docs/runbook.md, \"" + why.reason + "\"");
  parts.push(facts);
  if (why.history.length) {
    const list = why.history.slice().reverse().map((it) => row(clock(it.since_ms), badge(it.from), badge(it.to), it.reason, it.owner
      + (it.opinions ? " (asked: " + it.opinions.map((one) => one.node + " " + one.said).join(", ") + ")" : "")));
    parts.push(make("h2", null, "Last transitions"), table(["When", "From", "To", "Because", "By"], list));
  }
  if (why.probes.length) {
    const ms = (us) => us == null ? "" : (us / 1000).toFixed(2);
    const list = why.probes.slice(-20).reverse().map((it) => row(clock(it.at_ms), (it.outcome === "fail" ? "✕ " : "") + it.reason + (it.status ? " " + it.status : ""),
      ms(it.connect_us), ms(it.tls_us), ms(it.first_byte_us), ms(it.total_us)));
    parts.push(make("h2", null, "Last probes here, milliseconds"), table(["When", "Outcome", "Connect", "TLS", "First byte", "Total"], list));
  } else if (!why.probed_here && why.owner) {
    parts.push(make("p", null, "Its probes are remembered where they are made: look at " + why.owner + "."));
  }
  for (const it of why.answers.slice().reverse()) {
    parts.push(make("h2", null, "What came when it turned " + it.to + " at " + clock(it.at_ms) + ": " + it.because),
      make("pre", null, (it.tls ? "TLS: " + it.tls + "\n" : "") + (it.head || "(no bytes)")));
  }
  if (why.sent) parts.push(make("h2", null, "What a probe sends"), make("pre", null, why.sent));
  return parts;
}

const table = (heads, rows) => make("table", null,
  make("thead", null, make("tr", null, ...heads.map((it) => make("th", null, it)))), make("tbody", null, ...rows));

// ---- hands

$("search").addEventListener("input", () => find($("search").value));
$("order").addEventListener("change", choose);
const map = $("map");
map.addEventListener("keydown", keys);
map.addEventListener("focus", draw);
map.addEventListener("blur", draw);
map.addEventListener("mousemove", (event) => { $("under").textContent = describe(view.cells[at(event)]); });
map.addEventListener("click", (event) => {
  const index = at(event);
  if (!view.cells[index]) return;
  view.cursor = index;
  open(view.cells[index].name);
});
addEventListener("keydown", (event) => {
  if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && !$("record").open) {
    $("search").focus();
    event.preventDefault();
  }
});
addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
follow();
