// Live pages and keys. Pages work without it; it only moves nodes that the server made.
"use strict";

const body = document.body;
const base = body.dataset.base;

// -- keys -------------------------------------------------------------------------------------

const entries = () => [...document.querySelectorAll("[data-entry]")];
let current = -1;

function select(index) {
  const all = entries();
  if (!all.length) return;
  current = Math.max(0, Math.min(index, all.length - 1));
  all[current].focus({ preventScroll: true });
  all[current].scrollIntoView({ block: "nearest" });
}

function follow(selector) {
  const link = document.querySelector(selector);
  if (link) link.click();
}

const keys = {
  1: () => location.assign(`${base}/`),
  2: () => location.assign(`${base}/lineage`),
  3: () => location.assign(`${base}/gallery`),
  4: () => location.assign(`${base}/transcript`),
  5: () => location.assign(`${base}/evaluation`),
  j: () => select(current + 1),
  k: () => select(current - 1),
  n: () => follow('a[rel="next"]'),
  p: () => follow('a[rel="prev"]'),
  u: () => follow("[data-up]"),
  "/": () => {
    const field = document.querySelector("[data-search]");
    if (field) field.focus();
    else location.assign(`${base}/transcript`);
  },
  "?": () => document.getElementById("keys").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target;
  if (target.closest("input, select, textarea, dialog[open]")) return;
  if (event.key === "Enter" && target.matches("[data-entry]")) {
    const link = target.querySelector("[data-open]");
    if (link) link.click();
    return;
  }
  const act = keys[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});

document.addEventListener("focusin", (event) => {
  const entry = event.target.closest("[data-entry]");
  if (entry) current = entries().indexOf(entry);
});

for (const button of document.querySelectorAll("[data-keys]")) {
  button.addEventListener("click", () => document.getElementById("keys").showModal());
}

// -- live -------------------------------------------------------------------------------------

async function fresh(address) {
  const answer = await fetch(address, { credentials: "omit" });
  if (!answer.ok) throw new Error(`${answer.status}`);
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

function adopt(page) {
  for (const old of document.querySelectorAll("[data-live]")) {
    const now = page.querySelector(`[data-live="${old.dataset.live}"]`);
    if (!now || now.isEqualNode(old)) continue;
    const open = [...old.querySelectorAll("details")].map((details) => details.open);
    const held = old.contains(document.activeElement) ? document.activeElement.id : "";
    old.replaceWith(document.adoptNode(now));
    [...now.querySelectorAll("details")].forEach((details, i) => (details.open = !!open[i]));
    if (held) document.getElementById(held)?.focus({ preventScroll: true });
  }
}

// The transcript grows at its end; nothing that is being read moves.
async function lengthen() {
  const list = document.querySelector("ol[data-tail]");
  if (!list || !list.dataset.tail) return;
  const address = new URL(location.href);
  for (const name of ["before", "at", "after"]) address.searchParams.delete(name);
  address.searchParams.set("after", list.dataset.tail);
  const page = await fresh(address);
  const more = page.querySelector("ol[data-tail]");
  if (!more) return;
  for (const entry of more.querySelectorAll(":scope > [data-entry]")) {
    list.append(document.adoptNode(entry));
  }
  list.dataset.tail = more.dataset.tail;
  const pager = page.querySelector('a[rel="next"]');
  const news = document.querySelector("[data-news]");
  if (pager && news) news.replaceWith(document.adoptNode(pager));
  adopt(page);
}

let busy = false;
let again = false;

async function renew() {
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  do {
    again = false;
    try {
      if (document.querySelector("ol[data-tail]")) await lengthen();
      else adopt(await fresh(location.href));
    } catch {
      // The server has gone; the stream says when it is back.
    }
  } while (again);
  busy = false;
}

if (body.dataset.seq !== undefined) {
  const stream = new EventSource(`${base}/events`);
  stream.addEventListener("message", (event) => {
    const news = JSON.parse(event.data);
    if (String(news.seq) === body.dataset.seq) return;
    body.dataset.seq = news.seq;
    if (document.visibilityState === "visible") renew();
    else again = true;
  });
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible" && again) renew();
  });
  addEventListener("pagehide", () => stream.close());
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });
}
