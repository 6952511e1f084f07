// The list of tickets: new ones appear without a reload, and single keys move through it.
// The page works without this script.
"use strict";

(() => {
  const list = document.getElementById("list");
  const rows = document.getElementById("rows");
  const title = document.title.replace(/^\(.*?\) /, ""); // without the number in front

  function allRows() {
    return [...rows.querySelectorAll("tr")];
  }

  // Read out by screen readers, invisible to everybody else.
  function announce(text) {
    document.getElementById("announcement").textContent = text;
  }

  // -- new tickets --

  const INTERVAL = 15_000; // milliseconds
  let digest = list.dataset.digest;
  // The timer that waits for the next round: IDLE while the window is hidden, STOPPED for good
  // once the server refuses.
  const IDLE = 0;
  const STOPPED = -1;
  let timer = IDLE;

  function copyState(oldRow, newRow) {
    const oldBox = oldRow.querySelector("[name=ticket]");
    newRow.classList.toggle("current", oldRow.classList.contains("current"));
    newRow.classList.toggle("new", oldRow.classList.contains("new"));
    if (oldBox && oldBox.checked) newRow.querySelector("[name=ticket]").checked = true;
  }

  // Rows that left the list stay, crossed out: nothing may move under the hand of somebody who is
  // about to click.
  function markTaken(row) {
    row.classList.add("taken");
    for (const control of row.querySelectorAll("input, button")) {
      control.disabled = true;
      control.checked = false;
    }
    row.querySelector('[data-label="Assigned to"]').textContent = "no longer here";
  }

  function showOrHideTable() {
    const hasRows = rows.children.length > 0;
    rows.closest(".cards").hidden = !hasRows;
    document.getElementById("empty").hidden = hasRows;
    const bulkActions = document.getElementById("bulk");
    if (bulkActions) bulkActions.hidden = !hasRows;
  }

  // Puts the rows the server sent in place of the old ones; returns how many tickets are new.
  function mergeRows(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    const oldRows = new Map(allRows().map((row) => [row.dataset.ticket, row]));
    let previous = null;
    let newCount = 0;
    for (const row of template.content.querySelectorAll("tr")) {
      const oldRow = oldRows.get(row.dataset.ticket);
      oldRows.delete(row.dataset.ticket);
      if (!oldRow) {
        row.classList.add("new");
        newCount += 1;
        if (previous) previous.after(row);
        else rows.prepend(row);
        previous = row;
      } else if (oldRow.contains(document.activeElement)) {
        previous = oldRow; // replacing it would take the focus away
      } else {
        copyState(oldRow, row);
        oldRow.replaceWith(row);
        previous = row;
      }
    }
    for (const row of oldRows.values()) markTaken(row);
    showOrHideTable();
    return newCount;
  }

  function showNews(news) {
    digest = news.digest;
    const newCount = mergeRows(news.rows);
    document.title = `(${news.count}) ${title}`;
    document.getElementById("count").textContent = `(${news.count})`;
    const badge = document.querySelector("details.ticket-lists .active .badge");
    if (badge) badge.textContent = news.count;
    if (newCount) announce(newCount === 1 ? "One new ticket" : `${newCount} new tickets`);
  }

  async function fetchNews() {
    let goOn = true;
    try {
      const address = `/queue/news?${list.dataset.here}&seen=${digest}`;
      const response = await fetch(address, { redirect: "manual" });
      // Signed out, or without the right: asking again would only fill the log.
      goOn = response.ok || response.status >= 500;
      if (response.status === 200) showNews(await response.json());
    } catch {
      // The network is away; the next round tries again.
    }
    if (goOn && !document.hidden) timer = setTimeout(fetchNews, INTERVAL);
    else timer = goOn ? IDLE : STOPPED;
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      clearTimeout(timer);
      if (timer > IDLE) timer = IDLE;
    } else if (timer === IDLE) {
      timer = 1; // a round is running: coming back twice must not start two
      fetchNews();
    }
  });
  timer = setTimeout(fetchNews, INTERVAL);

  // -- the keyboard --

  const helpDialog = document.getElementById("keys");
  const keysSwitch = document.getElementById("keys-on");
  keysSwitch.checked = localStorage.getItem("single-keys") !== "off";
  keysSwitch.addEventListener("change", () => {
    localStorage.setItem("single-keys", keysSwitch.checked ? "on" : "off");
  });
  const helpButton = document.getElementById("help");
  helpButton.classList.remove("d-none"); // without a script there are no keys to explain
  helpButton.addEventListener("click", () => helpDialog.showModal());

  function currentRow() {
    return rows.querySelector("tr.current");
  }

  // Coming back from a ticket, its row is the current one again.
  const lastTicket = Number(sessionStorage.getItem("current-ticket"));
  if (lastTicket) {
    rows.querySelector(`tr[data-ticket="${lastTicket}"]`)?.classList.add("current");
  }

  function moveBy(step) {
    const each = allRows();
    const index = Math.min(Math.max(each.indexOf(currentRow()) + step, 0), each.length - 1);
    if (index < 0) return; // no rows
    const row = each[index];
    currentRow()?.classList.remove("current");
    row.classList.add("current");
    sessionStorage.setItem("current-ticket", row.dataset.ticket);
    row.querySelector("a.open").focus();
    row.scrollIntoView({ block: "nearest" });
  }

  function toggleSelection() {
    const box = currentRow()?.querySelector("[name=ticket]");
    if (box && !box.disabled) box.checked = !box.checked;
  }

  function focusSearch() {
    const search = document.getElementById("search");
    search.closest(".collapse")?.classList.add("show"); // the folded menu of a narrow window
    search.focus();
  }

  const KEYS = {
    j: () => moveBy(1),
    k: () => moveBy(-1),
    x: toggleSelection,
    "/": focusSearch,
    "?": () => helpDialog.showModal(),
    Enter: () => currentRow()?.querySelector("a.open").click(),
  };
  const TEXT_FIELDS = "input:not([type=checkbox]), textarea, select, [contenteditable]";
  const CONTROLS = "a, button, input, select, summary"; // Enter has a meaning of its own there

  function isShortcut(event) {
    if (!keysSwitch.checked || helpDialog.open) return false;
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    if (event.target.closest(TEXT_FIELDS)) return false;
    if (event.key === "Enter" && event.target.closest(CONTROLS)) return false;
    return event.key in KEYS;
  }

  document.addEventListener("keydown", (event) => {
    if (!isShortcut(event)) return;
    event.preventDefault();
    KEYS[event.key]();
  });
})();
