// Keeps what is typed as a draft, so that neither a sign-off nor a closed window loses it.
"use strict";

const QUIET = 2_000; // after the last key
const form = document.getElementById("answer");
const said = document.getElementById("kept");
const files = document.getElementById("files");
let timer;
let sending = false;

async function keep() {
  if (sending) return;
  const body = new FormData(form);
  body.delete("files"); // they go with the next button
  const answer = await fetch(form.dataset.draft, { method: "POST", body });
  if (sending) return;
  said.textContent = {
    204: `Draft kept at ${new Date().toLocaleTimeString()}.`,
    401: "You have been signed out. Press a button: what you typed is kept and shown again when you have signed in.",
    409: "This mail was sent from another window.",
  }[answer.status] ?? "The draft could not be kept: copy the text before you leave.";
}

if (form) {
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => keep().catch(() => {}), QUIET);
  });
  form.addEventListener("submit", () => {
    sending = true;
    clearTimeout(timer);
  });
  files.addEventListener("change", () => {
    const size = [...files.files].reduce((sum, file) => sum + file.size, 0);
    const most = Number(form.dataset.most);
    files.setCustomValidity(size > most ? `All files together may be ${most / 1_000_000} MB.` : "");
    files.reportValidity();
  });
  document.querySelector("#changed, #warned, #faults, #preview")?.scrollIntoView();
}
