// What happened, newest first, as sentences.

import { h } from "/page/dom.js";
import { clock, duration, percent } from "/page/format.js";
import { lookOf } from "/page/palette.js";
import { grouped, identityName } from "/page/mark.js";
import { store, trackletName } from "/page/store.js";

const place = document.getElementById("feed");
const LENGTH = 60;

export function drawFeed() {
  const told = [...store.events, ...before()].sort((a, b) => (b.at_ns ?? 0) - (a.at_ns ?? 0)).slice(0, LENGTH);
  if (!told.length) {
    place.replaceChildren(h("li", { class: "quiet" }, "Nothing yet."));
    return;
  }
  place.replaceChildren(
    ...told.map((event) =>
      h("li", { "data-identity": event.identity, class: event.type },
        h("time", {}, event.at_ns ? clock(event.at_ns) : ""),
        identityName(event.identity, lookOf(event.identity)),
        h("span", {}, sentence(event)),
      ),
    ),
  );
}

/** What the identities themselves tell of the time before this page was opened. */
function before() {
  const heard = new Set(store.events.flatMap((event) => (event.tracks ?? []).map(trackletName)));
  const told = new Set(store.events.filter((event) => event.type === "returned").map((event) => event.identity));
  const returns = [...store.identities.values()].filter((i) => i.returns && !told.has(i.id)).map((i) => ({
    type: "returned", identity: i.id, other: i.returns.identity, at_ns: i.last_seen_ns, return: i.returns,
  }));
  const seen = [...store.identities.values()].flatMap((identity) =>
    identity.tracklets
      .filter((t) => !heard.has(trackletName(t)))
      .map((t) => ({
        type: t.match?.state === "tentative" ? "tentative" : "assigned",
        identity: identity.id,
        at_ns: t.first_seen_ns,
        tracks: [t],
        match: t.match,
      })));
  return [...seen, ...returns];
}

function back({ other, return: link }) {
  if (link.state === "undone") return `is not ${grouped(other)}, somebody said`;
  const sure = `${duration(link.gap_s)} (${percent(link.probability)})`;
  return `${link.state === "tentative" ? "perhaps " : ""}is ${grouped(other)}, back after ${sure}`;
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
    case "returned":
      return back(event);
    case "erased":
      return "was erased";
    default:
      return event.type;
  }
}
