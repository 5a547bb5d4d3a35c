// Which identities are shown: all, those seen from both views, those that need a better look, those who may be back.

import { h } from "/page/dom.js";
import { change, isBack, isCross, isTentative, store } from "/page/store.js";

export const FILTERS = [
  { name: "all", label: "Everyone", key: "1", keep: () => true },
  { name: "cross", label: "Both views", key: "2", keep: isCross },
  { name: "tentative", label: "Not sure yet", key: "3", keep: isTentative },
  { name: "back", label: "Here before", key: "4", keep: isBack },
];

const place = document.getElementById("filters");

export function drawFilters() {
  const people = [...store.identities.values()];
  const buttons = FILTERS.map(({ name, label, key, keep }) =>
    h("button", {
      type: "button",
      class: "filter",
      "data-filter": name,
      "aria-pressed": store.filter === name,
      title: `Key ${key}`,
      onclick: () => change({ filter: name }),
    }, label, " ", h("span", { class: "count" }, people.filter(keep).length)),
  );
  const beyond = store.total - people.length;
  const focused = document.activeElement?.dataset?.filter;
  place.replaceChildren(
    ...buttons,
    beyond > 0 ? h("span", { class: "beyond" }, `and ${beyond} older`) : "",
    h("span", { class: "keys", "aria-hidden": "true" }, h("kbd", {}, "j"), h("kbd", {}, "k"), " next, previous"),
  );
  if (focused) place.querySelector(`[data-filter="${focused}"]`)?.focus();
}
