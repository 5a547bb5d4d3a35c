// Keyboard: 1 2 3 4 choose the filter, j and k walk through the cards, Escape lets go.

import { FILTERS } from "/page/filters.js";
import { change } from "/page/store.js";

export function listenForKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("form")) return;
    const filter = FILTERS.find((f) => f.key === event.key);
    if (filter) change({ filter: filter.name });
    else if (event.key === "j") walk(1);
    else if (event.key === "k") walk(-1);
    else if (event.key === "Escape") {
      document.activeElement?.blur();
      for (const open of document.querySelectorAll("details[open].devices")) open.open = false;
    } else return;
    event.preventDefault();
  });
}

function walk(step) {
  const cards = [...document.querySelectorAll(".card")];
  const here = cards.indexOf(document.activeElement?.closest(".card"));
  const next = cards[here < 0 ? 0 : Math.min(Math.max(here + step, 0), cards.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}
