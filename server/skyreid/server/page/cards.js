// The cards: people seen from both views first, then by several cameras of one view, then the others,
// smaller. A card keeps its element
// for as long as its identity lives, so that focus, open details and pictures stay.

import { cardContent } from "/page/card.js";
import { h } from "/page/dom.js";
import { emptyState } from "/page/empty.js";
import { zoneName } from "/page/format.js";
import { FILTERS } from "/page/filters.js";
import { clearestLink } from "/page/links.js";
import { lookOf } from "/page/palette.js";
import { keepImages } from "/page/picture.js";
import { isCross, isSeveral, store } from "/page/store.js";

const place = document.getElementById("cards");
const both = group("Seen from both views", "wide");
const several = group("Seen by several cameras of one view", "wide");
const one = group("Seen from one view so far", "narrow");
const elements = new Map(); // id -> { card, shown }

const isOpen = (identity) => clearestLink(identity)?.match.state === "tentative";

/** Sure of both views first, then unsure of both, the same of several cameras, then one camera; in
 * each whoever appeared last. */
function sorted() {
  const rank = (i) => (isCross(i) ? 0 : isSeveral(i) ? 2 : 4) + (isOpen(i) ? 1 : 0);
  const people = [...store.identities.values()].map((i) => [rank(i), i]);
  people.sort(([m, a], [n, b]) => m - n || b.first_seen_ns - a.first_seen_ns || (a.id < b.id ? -1 : 1));
  return people.map(([, i]) => i);
}

export function drawCards() {
  const { keep } = FILTERS.find((f) => f.name === store.filter);
  const people = sorted().filter(keep);
  if (!people.length) {
    elements.clear();
    place.replaceChildren(emptyState());
    return;
  }
  const kept = new Set(people.map((i) => i.id));
  for (const id of elements.keys()) if (!kept.has(id)) elements.delete(id);
  fill(both, people.filter(isCross));
  fill(several, people.filter(isSeveral));
  fill(one, people.filter((i) => !isCross(i) && !isSeveral(i)));
  const groups = [both, several, one].filter((g) => g.list.children.length);
  const wanted = groups.map((g) => g.section);
  if (wanted.length !== place.children.length || wanted.some((s, i) => place.children[i] !== s)) {
    place.replaceChildren(...wanted);
  }
}

function group(title, form) {
  const count = h("span", { class: "count" });
  const list = h("div", { class: `list ${form}` });
  const section = h("section", { class: "group", "aria-label": title }, h("h2", {}, title, " ", count), list);
  return { section, list, count };
}

function fill({ list, count }, people) {
  count.textContent = people.length;
  const cards = people.map(cardOf);
  for (const old of [...list.children]) if (!cards.includes(old)) old.remove();
  cards.forEach((card, index) => {
    if (list.children[index] !== card) list.insertBefore(card, list.children[index] ?? null);
  });
}

function cardOf(identity) {
  // Times read differently in another zone.
  const shown = zoneName() + (store.session?.role ?? "") + (store.site?.notice ?? "") + JSON.stringify(identity);
  let entry = elements.get(identity.id);
  if (!entry) {
    const card = h("article", { class: "card", tabindex: 0, "data-identity": identity.id, "aria-label": `Identity ${identity.id}` });
    card.style.setProperty("--mark", lookOf(identity.id).colour);
    entry = { card, shown: null };
    elements.set(identity.id, entry);
  }
  if (entry.shown !== shown) {
    const fresh = h("div", {}, cardContent(identity));
    keepImages(entry.card, fresh);
    const open = entry.card.querySelector("details")?.open;
    entry.card.replaceChildren(...fresh.childNodes);
    const details = entry.card.querySelector("details");
    if (details && open) details.open = true;
    entry.shown = shown;
  }
  entry.card.classList.toggle("tentative", isOpen(identity));
  return entry.card;
}
