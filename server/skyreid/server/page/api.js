// Talks to the server: first everything once, then what its events name, and a slow refresh for what
// no event tells (a picture that arrived, a person who walked on). Reconnects by itself.

import { change, store } from "/page/store.js";
import { useZone } from "/page/format.js";

const LIMIT = 200;
const QUICK_MS = 300; // events within this time are answered together
const REFRESH_MS = 4000;
const TIMEOUT_MS = 20000; // a busy server is not a server that is gone
const RETRY_MS = [1000, 2000, 4000, 8000];
const FEED_LENGTH = 60;

let stream = null;
let attempt = 0;
let retryTimer = null;
let refreshTimer = null;
let dirty = new Set();
let dirtyTimer = null;
let counted = null; // { at, sightings }

/** Connect; never throws, never gives up. */
export function connect() {
  clearTimeout(retryTimer);
  retryTimer = null;
  stream?.close();
  stream = new EventSource("/v1/events");
  const mine = stream;
  stream.onopen = async () => {
    if (!(await refresh()) || mine.readyState !== EventSource.OPEN) return;
    attempt = 0;
    change({ connection: "live", goneSince: null });
  };
  stream.onerror = lost;
  stream.addEventListener("identity", (message) => heard(JSON.parse(message.data)));
  stream.addEventListener("device", () => load("/v1/devices", (d) => change({ devices: d.devices })));
}

function lost() {
  stream?.close();
  clearTimeout(refreshTimer);
  if (retryTimer !== null) return; // several requests fail together: that is one loss
  const wait = RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)];
  attempt += 1;
  retryTimer = setTimeout(connect, wait);
  change({ connection: "gone", goneSince: store.goneSince ?? new Date() });
}

async function get(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store" });
  if (answer.status === 404) return null;
  if (!answer.ok && path !== "/readyz") throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

async function load(path, use) {
  try {
    const data = await get(path);
    if (data) use(data);
    return true;
  } catch {
    lost();
    return false;
  }
}

/** Ask for everything; false when the server is gone (which is then shown). */
async function refresh() {
  clearTimeout(refreshTimer);
  const answers = await Promise.all([
    load("/v1/site", (site) => {
      useZone(site.time_zone ?? "UTC");
      change({ site });
    }),
    load("/v1/devices", (d) => change({ devices: d.devices })),
    load(`/v1/identities?limit=${LIMIT}`, (d) =>
      change({
        identities: new Map(d.identities.map((i) => [i.id, i])),
        total: d.total,
        loaded: true,
      }),
    ),
    load("/v1/sightings?limit=600", (d) => change({ sightings: d.sightings })),
    load("/readyz", (ready) => {
      count(ready);
      change({ ready });
    }),
  ]);
  const ok = answers.every(Boolean);
  if (ok) refreshTimer = setTimeout(refresh, REFRESH_MS);
  return ok;
}

/** Sightings per second since the last answer. */
function count({ sightings }) {
  if (typeof sightings !== "number") return;
  const now = { at: performance.now(), sightings };
  if (counted) {
    const seconds = (now.at - counted.at) / 1000;
    if (seconds < 1) return;
    change({ rate: Math.max(0, now.sightings - counted.sightings) / seconds });
  }
  counted = now;
}

function heard(event) {
  change({ events: [event, ...store.events].slice(0, FEED_LENGTH) });
  if (event.type === "erased") {
    const identities = new Map(store.identities);
    identities.delete(event.identity);
    change({ identities });
    return;
  }
  dirty.add(event.identity);
  if (event.other) dirty.add(event.other);
  dirtyTimer ??= setTimeout(answer, QUICK_MS);
}

async function answer() {
  dirtyTimer = null;
  const ids = dirty;
  dirty = new Set();
  if (ids.size > 12) {
    await refresh();
    return;
  }
  try {
    const found = await Promise.all([...ids].map((id) => get(`/v1/identities/${encodeURIComponent(id)}`)));
    const identities = new Map(store.identities);
    for (const id of ids) identities.delete(id); // gone, merged, or put back in the next line
    for (const identity of found) if (identity) identities.set(identity.id, identity);
    change({ identities, total: store.total + identities.size - store.identities.size });
  } catch {
    lost();
  }
}
