// The bar at the top: which site, are we live, who is online, how much arrives, what may be shown.

import { h, viewSign } from "/page/dom.js";
import { clock, duration, plusMinus, zoneName } from "/page/format.js";
import { ask, leave } from "/page/session.js";
import { newestNs, siteState, store, withoutClock } from "/page/store.js";

const place = document.getElementById("status");
const time = h("time", { class: "clock" });

const CONNECTION = { connecting: "Connecting", locked: "Locked", gone: "Server gone" };
const SITE = { live: "Live", replay: "Replay", ended: "Replay ended", silent: "No device online", empty: "No device yet", cut: "Nothing arrives" };
const PICTURES = {
  never: ["Pictures: never", "No picture of a person leaves a device (policy of the site)."],
  on_request: ["Pictures: on request", "A device sends a picture when an operator asks (policy of the site)."],
  always: ["Pictures: always", "Every tracklet's best picture is sent and shown (policy of the site)."],
};

export function drawStatus() {
  const [policy, meaning] = PICTURES[store.site?.pictures] ?? ["Pictures: unknown", ""];
  const open = place.querySelector("details")?.open;
  const state = store.connection === "live" ? siteState() : store.connection;
  const facts = h("div", { class: "facts" },
    h("span", { class: "brand" }, "skyreid", store.site ? h("b", {}, store.site.site) : ""),
    store.site?.notice ? h("strong", { class: "notice" }, store.site.notice) : "",
    h("span", { class: `connection ${state}`, role: "status" }, CONNECTION[state] ?? SITE[state]),
    devices(open, state),
    store.rate === null || !["live", "replay"].includes(state) ? "" : h("span", { class: "fact", title: "Sightings stored by the server, per second" },
      `${store.rate.toFixed(store.rate < 10 ? 1 : 0)} sightings/s`),
    h("span", { class: `fact policy ${store.site?.pictures ?? ""}`, title: meaning }, policy),
    recorded(),
    unrelated(),
    ...waiting(),
    ...who(),
  );
  place.replaceChildren(facts, time);
  tick();
}

/** Who is logged in, and for which case; or that nobody has to be. */
function who() {
  const { session } = store;
  if (!session) return [];
  if (session.open) {
    const title = "Nobody made a token: whoever is on the server's machine as its own user may do everything. skyreid-server token create ends that.";
    return [h("span", { class: "fact policy always", title }, "Open: no log-in")];
  }
  return [
    session.purpose_required && h("button", { type: "button", class: "fact quiet-button", title: `${session.purpose}. Press to say another`, onclick: ask }, `case ${session.case}`),
    h("span", { class: "fact", title: `Logged in as ${session.name} until ${session.until}` }, session.name, ", ", session.role),
    h("button", { type: "button", class: "fact quiet-button", onclick: leave }, "Log out"),
  ].filter(Boolean);
}

/** What is shown was not captured just now: say when. */
function recorded() {
  const newest = newestNs() / 1e6;
  if (!newest || Math.abs(Date.now() - newest) < 10 * 60 * 1000) return "";
  const day = new Date(newest).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
  return h("span", { class: "fact", title: "Times on the cards are times of capture" }, `captured ${day}`);
}

/** Of which cameras the times say nothing of the others. */
function unrelated() {
  const cameras = withoutClock();
  if (!cameras.length) return "";
  const title = "Nobody said when these began: between them and the others nothing is concluded from time or place, and looks alone make no sure match.";
  return h("span", { class: "fact policy always", title }, `no common clock: ${cameras.join(", ")}`);
}

/** Who holds the site up, who is too late to be waited for, and whose name two devices use. */
function waiting() {
  const { device, by_s: byS, late = [] } = store.ready?.wait ?? {};
  const doubled = store.devices.filter((d) => Object.keys(d.alarms ?? {}).length).map((d) => d.device);
  return [
    device && ["What was captured since waits for this device", `waiting for ${device}, ${byS.toFixed(1)} s`],
    late.length && ["Too far behind to be waited for: slow, or a wrong clock", `late: ${late.join(", ")}`],
    doubled.length && ["Two devices, or a copy, speak under this name", `one name twice: ${doubled.join(", ")}`],
  ].filter(Boolean).map(([title, text]) => h("span", { class: "fact policy always", title }, text));
}

/** Set the clock; called every second. */
export function tick() {
  time.replaceChildren(`${clock(Date.now() * 1e6)} `, h("small", {}, zoneName()));
}

function devices(open, state) {
  const list = store.devices;
  const online = store.ready?.devices_online ?? list.filter((d) => d.status === "online").length;
  const known = store.ready?.devices ?? list.length; // the list may end before all are in it
  const label = known ? `${online} of ${known} devices online` : "no device yet";
  // A replay that is over has no device to miss.
  const lamp = state === "ended" ? "rest" : online === 0 ? "off" : online < known ? "some" : "on";
  return h("details", { class: "devices", open },
    h("summary", {}, h("i", { class: `lamp ${lamp}` }), label),
    h("div", { class: "drop" },
      list.length
        ? h("table", {},
            h("thead", {}, h("tr", {}, ["Device", "Camera", "State", "Last heard", "Frames/s", "Clock", "Left out"]
              .map((t) => h("th", { scope: "col" }, t)))),
            h("tbody", {}, list.map(row)),
            known > list.length ? h("caption", {}, `and ${known - list.length} more: /v1/devices`) : "")
        : h("p", {}, "No device has spoken to this server. Start one with ", h("code", {}, "skyreid-edge run edge.toml"), "."),
    ),
  );
}

function row(device) {
  const health = device.health ?? {};
  const heard = device.last_message_at_ns;
  const dropped = Object.entries(health.dropped ?? {}).filter(([, n]) => n > 0);
  return h("tr", { class: device.status },
    h("th", { scope: "row" }, device.device),
    h("td", {}, device.view ? viewSign(device.view) : "", " ", device.camera ?? "–"),
    h("td", {}, device.status ?? "unknown"),
    h("td", {}, heard ? `${duration(Math.max(0, Date.now() / 1000 - heard / 1e9))} ago` : "–"),
    h("td", {}, typeof health.fps === "number" ? health.fps.toFixed(1) : "–"),
    h("td", {}, clockOf(health)),
    h("td", {}, dropped.map(([reason, n]) => `${reason} ${n}`).join(", ") || "–"),
  );
}

/** Where a device's times come from and how far off they may be. */
function clockOf({ clock: word, clock_error_ms: error }) {
  if (!word) return "–";
  if (error === undefined) return word;
  return error >= 2 ** 32 - 1 ? `${word}, start unknown` : `${word} ${plusMinus(error / 1000)}`;
}
