// The strip that says that what you see is old, or that nothing new can come.

import { connect } from "/page/api.js";
import { h } from "/page/dom.js";
import { clock } from "/page/format.js";
import { store } from "/page/store.js";

const place = document.getElementById("banner");

export function drawBanner() {
  document.body.classList.toggle("stale", store.connection === "gone");
  const text = trouble();
  place.replaceChildren(...(text ? [h("div", { class: "banner" }, text)] : []));
}

function trouble() {
  if (store.connection === "gone") {
    const since = clock(store.goneSince * 1e6);
    const known = store.loaded ? `Everything below is as of ${since}. ` : "";
    return [
      h("strong", {}, store.loaded ? "The server is gone." : "The server does not answer."),
      h("span", {}, `${known}Trying again by itself, every few seconds.`),
      h("button", { type: "button", onclick: connect }, "Try now"),
    ];
  }
  if (store.ready?.journal_writable === false) {
    return [h("strong", {}, "The server cannot write its journal."), h("span", {}, "Devices keep their sightings until it can. Is the disk full?")];
  }
  if (store.ready?.broker_connected === false) {
    return [h("strong", {}, "The message broker is away."), h("span", {}, "Nothing new arrives; devices keep their sightings until it is back.")];
  }
  if (store.ready?.degraded?.length) return [h("strong", {}, "Degraded."), h("span", {}, store.ready.degraded.join("; "))];
  return null;
}
