// Nobody to show: say what is there, what is missing, and what to do about it.

import { h } from "/page/dom.js";
import { siteState, store } from "/page/store.js";

export function emptyState() {
  if (!store.loaded) {
    return store.connection === "gone" ? gone() : waiting();
  }
  if (store.identities.size) return filteredOut();
  return nobodyYet();
}

function waiting() {
  return h("div", { class: "empty", "aria-busy": "true" },
    h("h2", {}, "Asking the server…"),
    h("div", { class: "ghosts", "aria-hidden": "true" }, [1, 2, 3].map(() => h("div", { class: "ghost" }))),
  );
}

function gone() {
  return h("div", { class: "empty" },
    h("h2", {}, "Nothing to show yet"),
    h("p", {}, "The server does not answer. Is ", h("code", {}, "skyreid-server run"), " running on this address?"),
  );
}

function filteredOut() {
  const cross = store.filter === "cross";
  return h("div", { class: "empty" },
    h("h2", {}, cross ? "Nobody was seen from both views yet" : "Nothing to be unsure of"),
    h("p", {}, cross ? missingView() : "Every match that was made is good enough. Press 1 to see everyone."),
  );
}

function missingView() {
  const views = new Set([...store.identities.values()].flatMap((i) => i.views));
  if (views.size === 2) return "Both views see people, but no two of them were matched so far. Press 1 to see everyone.";
  return views.has("aerial")
    ? "Only cameras in the air have seen people so far. A match needs a camera on the ground as well."
    : "Only cameras on the ground have seen people so far. A match needs a camera in the air as well.";
}

function nobodyYet() {
  const state = siteState();
  if (state === "silent" || state === "ended") return overAndNobody();
  const online = store.devices.filter((d) => d.status === "online");
  const views = new Set(online.map((d) => d.view));
  const steps = [
    [true, "The server answers."],
    [online.length > 0, online.length
      ? `${online.length} ${online.length === 1 ? "device is" : "devices are"} online.`
      : ["No device is online: start one with ", h("code", {}, "skyreid-edge run edge.toml"), "."]],
    [views.has("aerial"), views.has("aerial") ? "A camera in the air is there." : "No camera in the air is online."],
    [views.has("ground"), views.has("ground") ? "A camera on the ground is there." : "No camera on the ground is online."],
    [false, "Nobody was seen yet."],
  ];
  return h("div", { class: "empty" },
    h("h2", {}, "Nobody yet"),
    h("ul", { class: "steps" }, steps.map(([done, text]) =>
      h("li", { class: done ? "done" : "missing" }, h("span", { class: "visually-hidden" }, done ? "there: " : "missing: "), text))),
  );
}

function overAndNobody() {
  return h("div", { class: "empty" },
    h("h2", {}, "Nobody was seen"),
    h("p", {}, "Every device has gone, and none told of anybody. ",
      h("code", {}, "skyreid-edge preview edge.toml"), " shows what its detector finds and which crops are kept."),
  );
}
