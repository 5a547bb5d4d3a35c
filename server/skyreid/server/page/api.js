// Talks to the server: rounds of questions, at most one in four seconds however much happens. Events
// say when a round is worth it, and carry what changed about devices. Reconnects by itself.

import { change, store } from "/page/store.js";
import { useZone } from "/page/format.js";
import { enter, isRefusal, refused } from "/page/session.js";

const LIMIT = 200;
const DEVICES = 200;
const ROUND_MS = 4000; // from the start of a round to the start of the next, at least
const QUIET_MS = 12000; // the same where nothing new was captured: then an event is answered at once
const SLOW_ROUNDS = 15; // site and devices are asked for at first, and then so seldom
const TIMEOUT_MS = 20000; // a busy server is not a server that is gone
const ENDED_MS = 2000; // so long it is asked why a stream ended, before the server counts as gone
const RETRY_MS = [1000, 2000, 4000, 8000];
const FEED_LENGTH = 60;

let stream = null;
let turns = 0; // connections begun
let attempt = 0;
let retryTimer = null;
let roundTimer = null;
let roundAt = -Infinity; // when the last one began
let rounds = 0;
let asking = false;
let stale = false; // something happened since the last round began
let counted = null; // { at, sightings }

/** Connect; never throws, never gives up. Who is not logged in is asked to, and then it goes on. */
export async function connect() {
  stop();
  const turn = ++turns;
  const state = await enter(connect);
  if (turn !== turns || state === "out") return; // another one began, or the form will
  if (state === "gone") return lost();
  stream = new EventSource("/v1/events");
  const mine = stream;
  rounds = 0;
  stream.onopen = async () => {
    if (!(await round()) || mine.readyState !== EventSource.OPEN) return;
    attempt = 0;
    change({ connection: "live", goneSince: null });
  };
  stream.onerror = () => turn === turns && ended(turn);
  stream.addEventListener("identity", (message) => heard(JSON.parse(message.data)));
  stream.addEventListener("devices", (message) => merge(JSON.parse(message.data).devices));
}

function stop() {
  clearTimeout(retryTimer);
  clearTimeout(roundTimer);
  retryTimer = null;
  stream?.close();
}

/** The log-in holds no more: nothing is asked until the form was filled. */
function locked(status) {
  stop();
  turns += 1;
  refused(status);
}

/** The stream ended: with the server, or with the log-in that it was opened with. */
async function ended(turn) {
  stream.close();
  const given = { signal: AbortSignal.timeout(ENDED_MS), cache: "no-store" };
  const status = await fetch("/v1/session", given).then((answer) => answer.status, () => 0);
  if (turn !== turns) return;
  if (status === 401) locked(status);
  else lost();
}

function lost() {
  stream?.close();
  clearTimeout(roundTimer);
  if (retryTimer !== null) return; // several requests fail together: that is one loss
  const wait = RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)];
  attempt += 1;
  retryTimer = setTimeout(connect, wait);
  change({ connection: "gone", goneSince: store.goneSince ?? new Date() });
}

/** The JSON of an answer; null where the server answers that it has none now. */
async function get(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store" });
  if (isRefusal(answer.status)) throw new Refusal(answer.status);
  return answer.ok || path === "/readyz" ? answer.json() : null;
}

async function load(path, use) {
  const turn = turns;
  try {
    const data = await get(path);
    if (data && turn === turns) use(data);
    return true;
  } catch (error) {
    if (turn !== turns) return false; // of a connection that is over
    if (error instanceof Refusal) locked(error.status);
    else lost();
    return false;
  }
}

/** An answer that says who asks may not, any more. */
class Refusal extends Error {
  constructor(status) {
    super(`status ${status}`);
    this.status = status;
  }
}

/** Ask for everything; false when the server is gone (which is then shown). */
async function round() {
  clearTimeout(roundTimer);
  roundAt = performance.now();
  asking = true;
  stale = false;
  const before = store.sightings[0]?.captured_at_ns;
  const questions = [
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
  ];
  if (rounds++ % SLOW_ROUNDS === 0) {
    questions.push(
      load("/v1/site", (site) => {
        useZone(site.time_zone ?? "UTC");
        change({ site });
      }),
      load(`/v1/devices?limit=${DEVICES}`, (d) => change({ devices: d.devices })),
    );
  }
  const ok = (await Promise.all(questions)).every(Boolean);
  asking = false;
  const quiet = !stale && store.sightings[0]?.captured_at_ns === before;
  if (ok) plan(quiet ? QUIET_MS : ROUND_MS);
  return ok;
}

function plan(after) {
  clearTimeout(roundTimer);
  roundTimer = setTimeout(round, Math.max(0, roundAt + after - performance.now()));
}

/** Something happened: the next round is due as soon as one may be. */
function soon() {
  stale = true;
  if (!asking && store.connection === "live") plan(ROUND_MS);
}

/** Take in what changed about devices; one that is not known yet is asked for in the next round. */
function merge(changed) {
  const devices = new Map(store.devices.map((d) => [d.device, d]));
  for (const news of changed) {
    const known = devices.get(news.device);
    if (known) devices.set(news.device, { ...known, ...news });
    else if (devices.size < DEVICES) rounds = 0;
  }
  change({ devices: [...devices.values()] });
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
  soon();
}
