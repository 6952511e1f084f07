// Saves what is typed as a draft, so that neither a sign-out nor a closed window loses it.
"use strict";

const SAVE_AFTER = 2_000; // milliseconds after the last key
const form = document.getElementById("answer");
const draftStatus = document.getElementById("draft-status");
const fileInput = document.getElementById("files");
let timer;
let isSending = false;

const DRAFT_MESSAGES = {
  401:
    "You have been signed out. Press a button: what you typed is saved and shown again when you" +
    " have signed in.",
  409: "This mail was sent from another window.",
};

function describeResult(status) {
  if (status === 204) return `Draft saved at ${new Date().toLocaleTimeString()}.`;
  return DRAFT_MESSAGES[status] ?? "The draft could not be saved: copy the text before you leave.";
}

async function saveDraft() {
  if (isSending) return;
  const body = new FormData(form);
  body.delete("files"); // files are sent with the next button
  const response = await fetch(form.dataset.draft, { method: "POST", body });
  // The form may have been sent meanwhile: its page says what happened.
  if (!isSending) draftStatus.textContent = describeResult(response.status);
}

function scheduleDraft() {
  clearTimeout(timer);
  // Without a network the draft stays unsaved; the next key tries again.
  timer = setTimeout(() => saveDraft().catch(() => {}), SAVE_AFTER);
}

function checkFileSize() {
  const size = [...fileInput.files].reduce((sum, file) => sum + file.size, 0);
  const limit = Number(form.dataset.maxBytes);
  const isTooLarge = size > limit;
  fileInput.setCustomValidity(
    isTooLarge ? `All files together may be ${limit / 1_000_000} MB.` : "",
  );
  fileInput.reportValidity();
}

if (form) {
  form.addEventListener("input", scheduleDraft);
  form.addEventListener("submit", () => {
    isSending = true;
    clearTimeout(timer);
  });
  fileInput.addEventListener("change", checkFileSize);
  document.querySelector("#changed, #warned, #faults, #preview")?.scrollIntoView();
}
