"use strict";
// Keys, copying, and a word when the gateway does not answer. Every page works without this file.

document.addEventListener("keydown", (event) => {
  const field = event.target.closest("input, textarea, select");
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && field?.form) {
    event.preventDefault();
    field.form.requestSubmit();
  } else if (!field && !event.ctrlKey && !event.metaKey && !event.altKey) {
    if (event.key === "?") document.getElementById("keys").showModal();
    if (event.key === "n") document.querySelector("nav a")?.click();
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
  for (const button of event.target.querySelectorAll("button.primary")) button.classList.add("busy");
});
window.addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("button.busy")) button.classList.remove("busy");
});

const lost = document.getElementById("lost");
document.addEventListener("htmx:error", (event) => { if (event.detail.ctx) lost.hidden = false; });
document.addEventListener("htmx:after:request", () => { lost.hidden = true; });
document.addEventListener("htmx:after:swap", offerCopies);
offerCopies();
