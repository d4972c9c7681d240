"use strict";
// Keys, copying, and a word when the gateway does not answer. Every page works without this file.

const busy = () => document.querySelector("button.busy") !== null;

// Press what the page offers for a key; return false where it offers nothing. Of choices the first is meant that nobody
// has made, and the last one sends the form.
const press = (key) => {
  const open = (it) => it.type !== "radio" || !it.form.querySelector(`[name="${CSS.escape(it.name)}"]:checked`);
  const it = [...document.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key && open(one));
  if (!it || busy()) return false;
  it.click();
  if (it.type === "radio" && it.form.checkValidity()) it.form.requestSubmit();
  if (it.tagName === "SUMMARY") it.parentElement.querySelector("textarea, input:not([type=hidden])")?.focus();
  return true;
};

document.addEventListener("keydown", (event) => {
  const field = event.target.closest("input:not([type=radio], [type=checkbox]), textarea, select");
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && field?.form) {
    event.preventDefault();
    field.form.requestSubmit();
  } else if (!field && !event.ctrlKey && !event.metaKey && !event.altKey && !event.repeat) {
    const keys = document.getElementById("keys");
    if (keys.open) return;
    if (event.key === "?") keys.showModal();
    else if (document.querySelector("[data-key]")) { if (press(event.key)) event.preventDefault(); }
    else if (event.key === "n") document.querySelector("nav a")?.click();
  }
});

const offerCopies = () => {
  if (navigator.clipboard) for (const button of document.querySelectorAll("button.copy")) button.hidden = false;
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});

// One sending of a form is enough; the server knows a second one for the same, too.
document.addEventListener("submit", (event) => {
  for (const button of event.target.querySelectorAll("button.primary, button[data-key]")) button.classList.add("busy");
});
window.addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("button.busy")) button.classList.remove("busy");
});

const lost = document.getElementById("lost");
document.addEventListener("htmx:error", (event) => { if (event.detail.ctx) lost.hidden = false; });
document.addEventListener("htmx:after:request", () => { lost.hidden = true; });
document.addEventListener("htmx:after:swap", offerCopies);
offerCopies();
