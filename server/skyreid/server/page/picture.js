// One picture of a person, or why there is none.

import { h, viewSign } from "/page/dom.js";
import { clock } from "/page/format.js";
import { store } from "/page/store.js";

const VIEW_WORD = { aerial: "from above", ground: "from the ground" };

/** A figure for a view; `tracklet` is null when nobody was seen from there yet. */
export function pictureOf(tracklet, view, name) {
  const caption = tracklet
    ? [viewSign(view), h("b", {}, tracklet.camera), h("time", {}, clock(tracklet.last_seen_ns))]
    : [viewSign(view), h("span", {}, VIEW_WORD[view])];
  return h("figure", { class: `picture ${view}${tracklet ? "" : " unseen"}` },
    h("div", { class: "frame", "data-notice": store.site?.notice || null }, inside(tracklet, view, name)),
    h("figcaption", {}, caption),
  );
}

function inside(tracklet, view, name) {
  if (!tracklet) return h("p", { class: "none" }, `not seen ${VIEW_WORD[view]} yet`);
  if (!tracklet.picture) {
    return h("p", { class: "none" }, h("b", {}, "no picture"), h("br"), tracklet.picture_reason ?? "none was sent");
  }
  // The revision in the address makes the browser ask again when the device has sent a better crop.
  const image = h("img", {
    src: `${tracklet.picture}?revision=${tracklet.revision}`,
    alt: `${name} ${VIEW_WORD[view]}, ${tracklet.camera}`,
    decoding: "async",
  });
  image.addEventListener("error", () => image.replaceWith(unloadable()));
  return image;
}

const unloadable = () => h("p", { class: "none" }, h("b", {}, "no picture"), h("br"), "it could not be loaded");
const ofWhat = (image) => image.getAttribute("src").split("?")[0];

/** Put the loaded images of `before` in the place of equal ones in `after`, and of those of which a
 * better one is on its way until it is there: no flicker. */
export function keepImages(before, after) {
  const loaded = new Map([...before.querySelectorAll("img")].map((i) => [ofWhat(i), i]));
  for (const image of after.querySelectorAll("img")) {
    const old = loaded.get(ofWhat(image));
    if (!old?.complete || !old.naturalWidth) continue;
    image.replaceWith(old);
    const better = image.getAttribute("src") === old.getAttribute("src") ? null : image;
    old.better = better; // the latest asked for, and no earlier one that comes late
    better?.addEventListener("load", () => old.better === better && old.replaceWith(better));
    better?.addEventListener("error", () => old.better === better && old.replaceWith(unloadable()));
  }
}
