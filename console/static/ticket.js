// The ticket page, kept fresh: times count down, and who else is here or has answered shows without a reload.
"use strict";

const EVERY = 30_000;
const page = document.getElementById("ticket");
const notices = document.getElementById("notices");
const ahead = page ? new Date(page.dataset.now) - Date.now() : 0; // the server's clock decides, not this machine's

function span(milliseconds) {
  const minutes = Math.floor(milliseconds / 60_000);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.floor(hours / 24)} d`;
}

function countDown() {
  for (const time of document.querySelectorAll("[data-countdown] time")) {
    const left = new Date(time.dateTime) - Date.now() - ahead;
    time.textContent = left > 0 ? `in ${span(left)}` : `${span(-left)} ago`;
  }
}

async function pulse() {
  if (document.hidden) return;
  const body = new URLSearchParams({
    seen: page.dataset.seen,
    csrf_token: document.querySelector('input[name="csrf_token"]')?.value ?? "",
  });
  const answer = await fetch(page.dataset.pulse, { method: "POST", body });
  if (!answer.ok) return;
  const { watching, changed } = await answer.json();
  show(watching);
  warn(changed);
}

function show(watching) {
  const known = new Map([...notices.querySelectorAll("[data-viewer]")].map((line) => [line.dataset.viewer, line]));
  for (const name of watching) {
    const line = known.get(name) ?? notices.appendChild(document.createElement("div"));
    line.className = "alert alert-warning py-2";
    line.dataset.viewer = name;
    line.textContent = `${name} is looking at this ticket now.`;
    known.delete(name);
  }
  for (const line of known.values()) line.remove();
}

function warn(changed) {
  const line = document.getElementById("changed");
  line.hidden = !changed.length;
  const words = `Changed since you opened this page: ${changed.join("; ")}. Load the page again before you answer.`;
  if (changed.length && line.textContent !== words) line.textContent = words; // said once, not each half minute
}

if (page) {
  setInterval(countDown, EVERY);
  setInterval(() => pulse().catch(() => {}), EVERY);
}
