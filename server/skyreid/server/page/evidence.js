// Why: each reason as a signed bar, a number and plain words.

import { h } from "/page/dom.js";
import { duration, metres, percent, plusMinus, signed, sureness } from "/page/format.js";

const FULL_LLR = 6; // a bar is full at odds of about 400 to 1

/** How sure a match is: percent and words. */
export function surely({ probability, checked }) {
  const estimate = "The matcher's own estimate from looks, place and time.";
  const title = `${estimate} ${checked.source === "prior" ? "Too few like it were checked on this site." : takenBack(checked)}`;
  return h("p", { class: "sure", title }, h("b", {}, percent(probability)), " ", h("span", {}, sureness(probability)));
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

/** What became of links told as sure as this: nothing where they are too few. */
export function checkedLine({ checked }) {
  const looked = checked.source === "operator" ? "Operators undo what they see is wrong." : "Looked at again when more had been seen.";
  const title = `${looked} What was not taken back is not proven right.`;
  return checked.source === "prior" ? "" : h("p", { class: "checked", title }, takenBack(checked));
}

function takenBack({ told, wrong, source }) {
  const [what, end] = source === "operator" ? ["returns", "undone by operators"] : ["links", "taken back since (stream)"];
  return `Of ${told} ${what} told as sure as this ${wrong} ${wrong === 1 ? "was" : "were"} ${end}`;
}

/** The reasons of one link. */
export function reasons(link) {
  const { match } = link;
  const clocks = match.evidence.find((e) => e.kind === "clock");
  // The errors of two clocks stand beside what is measured with them; alone only where that is nothing.
  const told = match.evidence.filter((e) => e !== clocks || e.error_s === undefined);
  return h("ul", { class: "reasons", "aria-label": "Why" }, told.map((e) => reason(e, clocks?.error_s)));
}

function reason(evidence, error) {
  const bar = h("i", { class: evidence.llr < 0 ? "against" : "for" });
  bar.style.width = `${50 * Math.min(Math.abs(evidence.llr) / FULL_LLR, 1)}%`;
  const odds = Math.exp(Math.abs(evidence.llr));
  const times = odds >= 100 ? Math.round(odds) : Number(odds.toPrecision(2));
  const side = evidence.llr < 0 ? "against" : "for";
  return h("li", { class: evidence.kind, title: `Odds ${times} to 1 ${side} one person (log-likelihood ratio ${signed(evidence.llr)})` },
    h("span", { class: "kind" }, evidence.kind === "prior" ? "at first" : evidence.kind),
    h("span", { class: "bar", "aria-hidden": "true" }, bar),
    h("span", { class: "llr" }, evidence.kind === "clock" ? "" : signed(evidence.llr)),
    h("span", { class: "words" }, words(evidence, error)),
  );
}

function words(evidence, error) {
  const clocks = (error ?? 0) < 0.05 ? "" : `, clocks ${plusMinus(error)}`;
  switch (evidence.kind) {
    case "appearance":
      return `${evidence.llr < 0 ? "looks different" : "looks alike"} ${evidence.similarity.toFixed(2)}${strangers(evidence)}`;
    case "place":
      return `${metres(evidence.distance_m)} apart at the same moment${clocks}`;
    case "time": // between the last place here and the first one there; each may be in view for longer
      return `${duration(evidence.gap_s)} between their known places${clocks}`;
    case "clock":
      return "no common clock: time and place say nothing";
    case "prior":
      return rivals(evidence.llr);
    default:
      return evidence.kind;
  }
}

/** What looks were held against. */
function strangers({ strangers: seen, as_alike: alike }) {
  return seen ? `: so do ${alike} of ${seen} pairs of strangers here` : "";
}

/** The prior in words: how many people it could be before anything is compared. */
function rivals(llr) {
  const people = Math.round(Math.exp(-llr));
  return people > 1 ? `any of about ${people} people` : "nobody else is near";
}
