// Why: each reason as a signed bar, a number and plain words.

import { h } from "/page/dom.js";
import { duration, metres, percent, signed, sureness } from "/page/format.js";

const FULL_LLR = 6; // a bar is full at odds of about 400 to 1

/** How sure a match is: percent and words. */
export function surely(probability) {
  return h("p", { class: "sure" }, h("b", {}, percent(probability)), " ", h("span", {}, sureness(probability)));
}

/** The same as a bar. */
export function meter(probability, state) {
  const bar = h("i");
  bar.style.width = `${100 * probability}%`;
  return h("div", {
    class: `meter ${state}`,
    role: "meter",
    "aria-label": "How sure the match is",
    "aria-valuemin": 0,
    "aria-valuemax": 100,
    "aria-valuenow": Math.round(100 * probability),
    "aria-valuetext": `${percent(probability)}, ${sureness(probability)}${state === "tentative" ? ", not sure yet" : ""}`,
  }, bar);
}

/** The reasons of one link. */
export function reasons(link) {
  const { match } = link;
  const gap = match.evidence.find((e) => e.kind === "time")?.gap_s ?? 0;
  return h("ul", { class: "reasons", "aria-label": "Why" }, match.evidence.map((e) => reason(e, gap)));
}

function reason(evidence, gap) {
  const bar = h("i", { class: evidence.llr < 0 ? "against" : "for" });
  bar.style.width = `${50 * Math.min(Math.abs(evidence.llr) / FULL_LLR, 1)}%`;
  const odds = Math.exp(Math.abs(evidence.llr));
  const times = odds >= 100 ? Math.round(odds) : Number(odds.toPrecision(2));
  const side = evidence.llr < 0 ? "against" : "for";
  return h("li", { class: evidence.kind, title: `Odds ${times} to 1 ${side} one person (log-likelihood ratio ${signed(evidence.llr)})` },
    h("span", { class: "kind" }, evidence.kind === "prior" ? "at first" : evidence.kind),
    h("span", { class: "bar", "aria-hidden": "true" }, bar),
    h("span", { class: "llr" }, signed(evidence.llr)),
    h("span", { class: "words" }, words(evidence, gap)),
  );
}

function words(evidence, gap) {
  switch (evidence.kind) {
    case "appearance":
      return `${evidence.llr < 0 ? "looks different" : "looks alike"} ${evidence.similarity.toFixed(2)}`;
    case "place":
      return gap > 0
        ? `${metres(evidence.distance_m)} away, ${duration(gap)} later`
        : `${metres(evidence.distance_m)} apart at the same moment`;
    case "time":
      return evidence.gap_s > 0 ? `seen ${duration(evidence.gap_s)} later` : "in both pictures at once";
    case "prior":
      return rivals(evidence.llr);
    default:
      return evidence.kind;
  }
}

/** The prior in words: how many people it could be before anything is compared. */
function rivals(llr) {
  const people = Math.round(Math.exp(-llr));
  return people > 1 ? `any of about ${people} people` : "nobody else is near";
}
