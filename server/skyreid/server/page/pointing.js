// One identity at a time may be pointed at, with the pointer or the focus, in any panel; every panel
// then shows it and dims the others. Anything with data-identity takes part.

import { change, store } from "/page/store.js";

function named(target) {
  return target instanceof Element ? (target.closest("[data-identity]")?.dataset.identity ?? null) : null;
}

function point(id) {
  if (id !== store.pointed) change({ pointed: id });
}

document.addEventListener("pointerover", (event) => point(named(event.target)));
document.addEventListener("focusin", (event) => point(named(event.target)));
document.addEventListener("focusout", (event) => point(named(event.relatedTarget)));
document.addEventListener("click", (event) => {
  const id = named(event.target);
  if (!id || event.target.closest(".card")) return;
  const card = document.querySelector(`.card[data-identity="${CSS.escape(id)}"]`);
  card?.focus({ preventScroll: true });
  card?.scrollIntoView({ block: "center" });
});

export function showPointed() {
  document.body.classList.toggle("pointing", store.pointed !== null);
  for (const element of document.querySelectorAll("[data-identity]")) {
    element.classList.toggle("pointed", element.dataset.identity === store.pointed);
  }
}
