// One identity: what it looks like from above and from the ground, how sure, why, where and when.

import { h, viewSign } from "/page/dom.js";
import { reasons, sure } from "/page/evidence.js";
import { percent, position, span } from "/page/format.js";
import { allLinks, clearestLink, faceOf } from "/page/links.js";
import { identityName } from "/page/mark.js";
import { lookOf } from "/page/palette.js";
import { pictureOf } from "/page/picture.js";
import { isCross, isTentative } from "/page/store.js";

/** The inside of a card, as a list of nodes. */
export function cardContent(identity) {
  const link = clearestLink(identity);
  return isCross(identity) ? wide(identity, link) : narrow(identity, link);
}

function wide(identity, link) {
  return [
    h("div", { class: "pair" }, ["aerial", "ground"].map((v) => pictureOf(faceOf(identity, v, link), v, identity.id))),
    h("div", { class: "why" },
      head(identity),
      sure(identity.confidence ?? link?.match.probability, identity.state),
      link ? [title(link), reasons(link)] : "",
      places(identity),
      others(identity, link),
    ),
  ];
}

function narrow(identity, link) {
  const view = identity.views[0] ?? "ground";
  return [
    pictureOf(faceOf(identity, view, link), view, identity.id),
    h("div", { class: "why" },
      head(identity),
      link ? sure(identity.confidence ?? link.match.probability, identity.state) : "",
      places(identity),
    ),
  ];
}

function head(identity) {
  return h("header", {},
    h("h3", {}, identityName(identity.id, lookOf(identity.id))),
    isTentative(identity) ? h("span", { class: "badge" }, "not sure yet") : "",
    identity.aliases.length
      ? h("span", { class: "aliases", title: `Also known as ${identity.aliases.join(", ")}` }, `+${identity.aliases.length} merged`)
      : "",
  );
}

function title({ from, to, match }) {
  const first = to ?? match.with;
  return h("p", { class: "link" },
    match.state === "tentative" ? "Perhaps " : "", h("b", {}, first.camera), " and ", h("b", {}, from.camera), " because");
}

function places(identity) {
  const shown = [...identity.tracklets].sort((a, b) => b.last_seen_ns - a.last_seen_ns).slice(0, 6);
  const more = identity.tracklets.length - shown.length;
  return h("ul", { class: "places", "aria-label": "Where and when" },
    shown.map((t) =>
      h("li", { class: t.ended ? "" : "now", title: t.ground ? `${position(t.ground)} of the site's origin` : "position unknown" },
        viewSign(t.view), h("b", {}, t.camera), h("time", {}, span(t.first_seen_ns, t.last_seen_ns)),
        t.ended ? "" : h("em", {}, "in view"))),
    more ? h("li", { class: "more" }, `and ${more} more`) : "",
  );
}

function others(identity, link) {
  const rest = allLinks(identity).filter((l) => l.from !== link?.from);
  if (!rest.length) return "";
  return h("details", { class: "others" },
    h("summary", {}, rest.length === 1 ? "1 more link" : `${rest.length} more links`),
    rest.map((l) => [
      h("p", { class: "link" }, h("b", {}, (l.to ?? l.match.with).camera), " and ", h("b", {}, l.from.camera),
        `, ${percent(l.match.probability)}${l.match.state === "tentative" ? ", not sure yet" : ""}`),
      reasons(l),
    ]),
  );
}
