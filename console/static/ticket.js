// Keeps the ticket page up to date without a reload: deadlines count down, and the page shows who
// else looks at the ticket and what others have changed.
"use strict";

const INTERVAL = 30_000; // milliseconds
const MINUTE = 60_000;
const page = document.getElementById("ticket");
const notices = document.getElementById("notices");
// Deadlines follow the server's clock: this machine's may be wrong.
const clockDifference = page ? new Date(page.dataset.now) - Date.now() : 0;

// The same words as the filter `age` of the templates.
function formatDuration(milliseconds) {
  const minutes = Math.floor(milliseconds / MINUTE);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.floor(hours / 24)} d`;
}

function updateCountdowns() {
  for (const time of document.querySelectorAll("[data-countdown] time")) {
    const left = new Date(time.dateTime) - Date.now() - clockDifference;
    time.textContent = left > 0 ? `in ${formatDuration(left)}` : `${formatDuration(-left)} ago`;
  }
}

async function fetchNews() {
  if (document.hidden) return;
  const body = new URLSearchParams({
    seen: page.dataset.seen,
    csrf_token: document.querySelector('input[name="csrf_token"]')?.value ?? "",
  });
  const response = await fetch(page.dataset.pulse, { method: "POST", body });
  if (!response.ok) return;
  const { watching, changed } = await response.json();
  showViewers(watching);
  showChanges(changed);
}

function showViewers(names) {
  const lines = [...notices.querySelectorAll("[data-viewer]")];
  const oldLines = new Map(lines.map((line) => [line.dataset.viewer, line]));
  for (const name of names) {
    const line = oldLines.get(name) ?? notices.appendChild(document.createElement("div"));
    line.className = "alert alert-warning py-2";
    line.dataset.viewer = name;
    line.textContent = `${name} is viewing this ticket now.`;
    oldLines.delete(name);
  }
  for (const line of oldLines.values()) line.remove();
}

function showChanges(changes) {
  const line = document.getElementById("changed");
  line.hidden = !changes.length;
  const text =
    `Changed since you opened this page: ${changes.join("; ")}.` +
    " Reload the page before you reply.";
  // Set only when it differs: a screen reader reads it out each time it is set.
  if (changes.length && line.textContent !== text) line.textContent = text;
}

if (page) {
  setInterval(updateCountdowns, INTERVAL);
  // Without a network the page stays as it is; the next round tries again.
  setInterval(() => fetchNews().catch(() => {}), INTERVAL);
}
