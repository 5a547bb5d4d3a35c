// Who this may be, of those who had left: a picture, how sure, among how many, and the way back.

import { h } from "/page/dom.js";
import { checkedLine } from "/page/evidence.js";
import { duration, percent } from "/page/format.js";
import { identityName } from "/page/mark.js";
import { lookOf } from "/page/palette.js";
import { pictureOf } from "/page/picture.js";
import { isRefusal, refused, send } from "/page/session.js";
import { change, store } from "/page/store.js";

const MAY_UNDO = ["operator", "officer", "admin"];
/** Why it is not done, where trying again would not help. */
const FOR_GOOD = {
  403: "Not undone: only an operator may.",
  404: "There is no return any more.",
};

/** What a card says of a return; nothing where there is none. */
export function returned(identity) {
  const { returns } = identity;
  if (!returns) return "";
  const who = identityName(returns.person, lookOf(returns.person));
  if (returns.state === "undone") {
    return h("section", { class: "returned undone", "aria-label": "Here before" }, h("p", {}, "Not ", who, ": somebody said so."));
  }
  const unsure = returns.state === "tentative";
  return h("section", { class: `returned ${returns.state}`, "aria-label": "Here before" },
    pictureOf(returns.tracklet, returns.views[1], returns.person),
    h("div", {},
      h("p", {}, h("b", {}, unsure ? "Perhaps back" : "Back"), ` after ${duration(returns.gap_s)}: `, who),
      unsure && returns.reason ? h("p", {}, `Only a suggestion: ${returns.reason}`) : "",
      h("p", { class: "quiet" }, `${percent(returns.probability)} by looks, told from ${people(returns.told_from)}`),
      checkedLine(returns),
      MAY_UNDO.includes(store.session?.role) ? undoButton(identity) : "",
    ),
  );
}

const people = (n) => (n === 1 ? "one person" : `about ${n} people`);

function undoButton(identity) {
  let asked = false;
  const said = h("span", { role: "status" });
  const button = h("button", {
    type: "button", class: "quiet-button",
    onclick: async () => {
      if (!asked) {
        asked = true;
        said.textContent = " This cannot be taken back: press again.";
        return;
      }
      button.disabled = true;
      said.textContent = "";
      try {
        const answer = await send("POST", `/v1/identities/${identity.id}/return/undo`);
        if (answer.ok) {
          const now = await answer.json();
          return change({ identities: new Map(store.identities).set(now.id, now) });
        }
        if (isRefusal(answer.status)) return refused(answer.status);
        said.textContent = ` ${FOR_GOOD[answer.status] ?? "Not undone: try again."}`;
      } catch {
        said.textContent = " The server does not answer.";
      }
      button.disabled = false;
    },
  }, "They are two people");
  return h("p", {}, button, said);
}
