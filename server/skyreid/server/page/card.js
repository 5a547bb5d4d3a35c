// One identity: what it looks like from above and from the ground, how sure, why, where and when.

import { h, viewSign } from "/page/dom.js";
import { checkedLine, meter, reasons, surely } from "/page/evidence.js";
import { percent, position, span } from "/page/format.js";
import { allLinks, clearestLink, faceOf } from "/page/links.js";
import { identityName } from "/page/mark.js";
import { lookOf } from "/page/palette.js";
import { pictureOf } from "/page/picture.js";
import { returned } from "/page/returned.js";
import { inView, isCross } from "/page/store.js";

/** The inside of a card, as a list of nodes. */
export function cardContent(identity) {
  const link = clearestLink(identity);
  if (isCross(identity)) {
    return wide(identity, link, ["aerial", "ground"].map((v) => pictureOf(faceOf(identity, v, link), v, identity.id)));
  }
  if (!link?.apart) return narrow(identity, link);
  return wide(identity, link, [link.to, link.from].map((t) => pictureOf(t, t.view, identity.id)));
}

function wide(identity, link, pictures) {
  return [
    h("div", { class: "pair" }, pictures),
    h("div", { class: "why" },
      head(identity, link),
      link ? [title(link), reasons(link), checkedLine(link.match)] : "",
      returned(identity),
      h("footer", {}, places(identity), others(identity, link)),
    ),
  ];
}

function narrow(identity, link) {
  const view = identity.views[0] ?? "ground";
  return [
    pictureOf(faceOf(identity, view, link), view, identity.id),
    h("div", { class: "why" }, head(identity, link), places(identity)),
    returned(identity),
  ];
}

function head(identity, link) {
  const match = link?.match;
  const unsure = allLinks(identity).filter((l) => l.match.state === "tentative").length;
  return [
    h("header", {},
      h("h3", {}, identityName(identity.id, lookOf(identity.id))),
      unsure ? h("span", { class: "badge" }, match.state === "tentative" ? "not sure yet" : `${unsure} more not sure yet`) : "",
      identity.aliases.length
        ? h("span", { class: "aliases", title: `Also known as ${identity.aliases.join(", ")}` }, `+${identity.aliases.length} merged`)
        : "",
      match ? surely(match) : "",
    ),
    match ? meter(match.probability, match.state) : "",
  ];
}

function title({ from, to, match }) {
  const first = to ?? match.with;
  return h("p", { class: "link" },
    match.state === "tentative" ? "Perhaps " : "", h("b", {}, first.camera), " and ", h("b", {}, from.camera), " because");
}

/** One entry a camera, the latest first. */
function places(identity) {
  const cameras = new Map();
  for (const t of [...identity.tracklets].sort((a, b) => b.last_seen_ns - a.last_seen_ns)) {
    const seen = cameras.get(t.camera) ?? { ...t, count: 0, now: false };
    seen.count += 1;
    seen.first_seen_ns = Math.min(seen.first_seen_ns, t.first_seen_ns);
    seen.now ||= inView(t);
    cameras.set(t.camera, seen);
  }
  return h("ul", { class: "places", "aria-label": "Where and when" },
    [...cameras.values()].map((seen) =>
      h("li", { title: whereabouts(seen) },
        viewSign(seen.view), h("b", {}, seen.camera), h("time", {}, span(seen.first_seen_ns, seen.last_seen_ns)),
        seen.now ? h("em", {}, "in view") : "")));
}

function whereabouts({ ground, count }) {
  const place = ground ? `last ${position(ground)} of the site's origin` : "position unknown";
  return `${count === 1 ? "1 tracklet" : `${count} tracklets`}, ${place}`;
}

function others(identity, link) {
  const rest = allLinks(identity).filter((l) => l.from !== link?.from);
  if (!rest.length) return "";
  const weakest = percent(Math.min(...rest.map((l) => l.match.probability)));
  return h("details", { class: "others" },
    h("summary", {}, rest.length === 1 ? `1 more link, ${weakest}` : `${rest.length} more links, the weakest ${weakest}`),
    rest.map((l) => [
      h("p", { class: "link" }, h("b", {}, (l.to ?? l.match.with).camera), " and ", h("b", {}, l.from.camera),
        `, ${percent(l.match.probability)}${l.match.state === "tentative" ? ", not sure yet" : ""}`),
      reasons(l),
    ]),
  );
}
