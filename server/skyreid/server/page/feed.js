// What happened, newest first, as sentences.

import { h } from "/page/dom.js";
import { clock, percent } from "/page/format.js";
import { lookOf } from "/page/palette.js";
import { grouped, identityName } from "/page/mark.js";
import { store } from "/page/store.js";

const place = document.getElementById("feed");

export function drawFeed() {
  if (!store.events.length) {
    place.replaceChildren(h("li", { class: "quiet" }, "Nothing since this page was opened."));
    return;
  }
  place.replaceChildren(
    ...store.events.map((event) =>
      h("li", { "data-identity": event.identity, class: event.type },
        h("time", {}, event.at_ns ? clock(event.at_ns) : ""),
        identityName(event.identity, lookOf(event.identity)),
        h("span", {}, sentence(event)),
      ),
    ),
  );
}

function sentence(event) {
  const where = (event.tracks ?? []).map((t) => t.camera);
  const cameras = [...new Set(where)].join(", ");
  const sure = event.match ? ` (${percent(event.match.probability)})` : "";
  switch (event.type) {
    case "assigned":
      return event.match ? `also in ${cameras}${sure}` : `first seen in ${cameras || "a camera"}`;
    case "tentative":
      return `perhaps also in ${cameras}${sure}`;
    case "merged":
      return `is the same as ${grouped(event.other ?? "another")}${sure}`;
    case "split":
      return `${cameras || "a tracklet"} is somebody else, now ${grouped(event.other ?? "apart")}`;
    case "erased":
      return "was erased";
    default:
      return event.type;
  }
}
