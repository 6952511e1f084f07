// The list of tickets: what is new without reloading, and the keyboard. The page works without it.
"use strict";
(() => {
  const list = document.getElementById("list");
  const rows = document.getElementById("rows");
  const title = document.title.replace(/^\(.*?\) /, "");
  const all = () => [...rows.querySelectorAll("tr")];
  const say = words => { document.getElementById("told").textContent = words; };

  // -- what is new ----------------------------------------------------------------------------------------------
  const EVERY = 15000;
  let digest = list.dataset.digest;
  let timer = 0;

  const merge = html => {
    const box = document.createElement("template");
    box.innerHTML = html;
    const fresh = [...box.content.querySelectorAll("tr")];
    const old = new Map(all().map(row => [row.dataset.ticket, row]));
    let before = null;
    let news = 0;
    for (const row of fresh) {
      const known = old.get(row.dataset.ticket);
      old.delete(row.dataset.ticket);
      if (known) {
        const tick = known.querySelector("[name=ticket]");
        row.classList.toggle("here", known.classList.contains("here"));
        row.classList.toggle("fresh", known.classList.contains("fresh"));
        if (tick && tick.checked) row.querySelector("[name=ticket]").checked = true;
        if (known.contains(document.activeElement)) { before = known; continue; }
        known.replaceWith(row);
      } else {
        row.classList.add("fresh");
        news += 1;
        if (before) before.after(row); else rows.prepend(row);
      }
      before = row;
    }
    for (const row of old.values()) {  // somebody took it: no jump under the hand of who is about to click
      row.classList.add("gone");
      row.querySelectorAll("input, button").forEach(one => { one.disabled = true; if (one.checked) one.checked = false; });
      row.querySelector("[data-label=Owner]").textContent = "no longer here";
    }
    const some = rows.children.length > 0;
    rows.closest(".cards").hidden = !some;
    document.getElementById("empty").hidden = some;
    const bulk = document.getElementById("bulk");
    if (bulk) bulk.hidden = !some;
    return news;
  };

  const look = async () => {
    let again = true;
    try {
      const answer = await fetch(`/queue/news?${list.dataset.here}&seen=${digest}`, { redirect: "manual" });
      again = answer.ok || answer.status >= 500;  // signed out, or no right any more: be silent
      if (answer.status === 200) {
        const told = await answer.json();
        digest = told.digest;
        const news = merge(told.rows);
        document.title = `(${told.count}) ${title}`;
        document.getElementById("count").textContent = `(${told.count})`;
        const badge = document.querySelector("details.views .active .badge");
        if (badge) badge.textContent = told.count;
        if (news) say(news === 1 ? "One new ticket" : `${news} new tickets`);
      }
    } catch { /* the network is away: the next look finds it */ }
    if (again && !document.hidden) timer = setTimeout(look, EVERY);
    else timer = again ? 0 : -1;
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { clearTimeout(timer); if (timer > 0) timer = 0; } else if (timer === 0) { timer = 1; look(); }
  });
  timer = setTimeout(look, EVERY);

  // -- the keyboard ---------------------------------------------------------------------------------------------
  const keys = document.getElementById("keys");
  const on = document.getElementById("keys-on");
  on.checked = localStorage.getItem("single-keys") !== "off";
  on.addEventListener("change", () => localStorage.setItem("single-keys", on.checked ? "on" : "off"));
  const help = document.getElementById("help");
  help.classList.remove("d-none");
  help.addEventListener("click", () => keys.showModal());

  const here = () => rows.querySelector("tr.here");
  const left = Number(sessionStorage.getItem("here")); // where one was before reading a ticket
  if (left) rows.querySelector(`tr[data-ticket="${left}"]`)?.classList.add("here");
  const go = step => {
    const each = all();
    const at = Math.min(Math.max(each.indexOf(here()) + step, 0), each.length - 1);
    if (at < 0) return;
    here()?.classList.remove("here");
    each[at].classList.add("here");
    sessionStorage.setItem("here", each[at].dataset.ticket);
    each[at].querySelector("a.open").focus();
    each[at].scrollIntoView({ block: "nearest" });
  };
  const act = {
    j: () => go(1),
    k: () => go(-1),
    x: () => { const tick = here()?.querySelector("[name=ticket]"); if (tick && !tick.disabled) tick.checked = !tick.checked; },
    "/": () => { const search = document.getElementById("search"); search.closest(".collapse")?.classList.add("show"); search.focus(); },
    "?": () => keys.showModal(),
    Enter: () => here()?.querySelector("a.open").click(),
  };
  document.addEventListener("keydown", event => {
    const typing = event.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]");
    const pressed = event.key === "Enter" && event.target.closest("a, button, input, select, summary");
    if (!on.checked || typing || pressed || keys.open || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!(event.key in act)) return;
    event.preventDefault();
    act[event.key]();
  });
})();
