// What the page knows. One object, changed only through `change`, which tells every panel.

export const store = {
  connection: "connecting", // connecting | live | gone | locked
  goneSince: null, // Date
  session: null, // /v1/session
  site: null, // /v1/site
  ready: null, // /readyz
  devices: [], // /v1/devices
  identities: new Map(), // id -> IDENTITY
  total: 0, // identities on the server
  loaded: false, // the first answer is here
  sightings: [], // newest first
  rate: null, // sightings per second
  events: [], // newest first
  filter: "all", // all | cross | tentative | back
  pointed: null, // id under the pointer or the focus
};

const listeners = [];
let scheduled = false;
let pending = new Set();

/** Call `listener(changedKeys)` after changes, at most once per frame. */
export function onChange(listener) {
  listeners.push(listener);
}

/** Merge `patch` into the store. */
export function change(patch) {
  for (const [key, value] of Object.entries(patch)) {
    store[key] = value;
    pending.add(key);
  }
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    const keys = pending;
    pending = new Set();
    for (const listener of listeners) listener(keys);
  });
}

export const isCross = (identity) => identity.views.includes("aerial") && identity.views.includes("ground");
export const isSeveral = (identity) => !isCross(identity) && new Set(identity.tracklets.map((t) => t.camera)).size > 1;
export const isBack = ({ returns }) => returns !== null && returns.state !== "undone";
export const isTentative = (identity) => identity.state === "tentative";

/** Capture time of the latest thing that is known of anybody, ns; 0 = nothing is. */
export function newestNs() {
  if (newest.of !== store.identities) {
    newest = { of: store.identities, ns: Math.max(0, ...[...store.identities.values()].map((i) => i.last_seen_ns)) };
  }
  return newest.ns;
}
let newest = { of: null, ns: 0 };

/** Whether all that is shown came from files: such a site is never live. */
export const isReplay = () => store.sightings.length > 0 && store.sightings.every((s) => s.clock === "file");

/** live | replay | ended (every device that played a file has gone) | silent | empty | cut (no broker). */
export function siteState() {
  if (store.ready?.broker_connected === false) return "cut";
  const known = store.ready?.devices ?? store.devices.length;
  if (!known) return "empty";
  const online = store.ready?.devices_online ?? store.devices.filter((d) => d.status === "online").length;
  if (online) return isReplay() ? "replay" : "live";
  if (store.devices.some((d) => d.status !== "offline")) return "live"; // not said yet
  return isReplay() ? "ended" : "silent";
}

const UNRELATED_MS = 30_000; // beyond it the matcher compares no moments

/** Cameras whose clock has nothing to do with the others'; none where there is but one camera. */
export function withoutClock() {
  const cameras = new Set(store.sightings.map((s) => s.camera));
  if (cameras.size < 2) return [];
  return [...new Set(store.sightings.filter((s) => s.clock_error_ms > UNRELATED_MS).map((s) => s.camera))].sort();
}

/** Whether a tracklet goes on now: not ended, and not left behind by a device that went silent. */
export const inView = (t) => !t.ended && newestNs() - t.last_seen_ns < 3e9;

export const trackletName = (t) => `${t.device}/${t.boot}/${t.camera}/${t.track}`;
