// What of an identity is worth showing first.

import { trackletName } from "/page/store.js";

/**
 * The link that speaks most clearly: one between the two views before one within a view, one between
 * two cameras before one within a camera, an accepted one before a tentative one, the surest first.
 * `{from, to, match, cross, apart}`, or null for one tracklet.
 */
export function clearestLink(identity) {
  const links = allLinks(identity);
  links.sort(
    (a, b) =>
      b.cross - a.cross ||
      b.apart - a.apart ||
      (b.match.state === "accepted") - (a.match.state === "accepted") ||
      b.match.probability - a.match.probability,
  );
  return links[0] ?? null;
}

/** Every link of an identity, in the order in which its tracklets joined. */
export function allLinks(identity) {
  const byName = new Map(identity.tracklets.map((t) => [trackletName(t), t]));
  return identity.tracklets
    .filter((t) => t.match)
    .map((from) => {
      const to = byName.get(trackletName(from.match.with)) ?? null;
      const apart = Boolean(to && to.camera !== from.camera);
      return { from, to, match: from.match, cross: Boolean(to && to.view !== from.view), apart };
    });
}

/** The tracklet to show for a view: the one of the clearest link, else the best picture. */
export function faceOf(identity, view, link) {
  const mine = identity.tracklets.filter((t) => t.view === view);
  const linked = [link?.from, link?.to].find((t) => t && t.view === view && t.picture);
  if (linked) return linked;
  return mine.sort((a, b) => Boolean(b.picture) - Boolean(a.picture) || b.quality - a.quality)[0] ?? null;
}
