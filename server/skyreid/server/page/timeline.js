// When: one row a camera, one bar a tracklet, coloured by identity.

import { h, s } from "/page/dom.js";
import { clock, span } from "/page/format.js";
import { lookOf } from "/page/palette.js";
import { inView, store } from "/page/store.js";

const place = document.getElementById("timeline");
const WIDTH = 420;
const LEFT = 58;
const ROW = 30;
const WINDOW_NS = 5 * 60 * 1e9; // the latest five minutes at most

export function drawTimeline() {
  const bars = [...store.identities.values()].flatMap((i) => i.tracklets.map((t) => ({ ...t, id: i.id })));
  if (!bars.length) {
    place.replaceChildren(h("p", { class: "quiet" }, "No tracklet yet."));
    return;
  }
  const end = Math.max(...bars.map((b) => b.last_seen_ns));
  const shown = bars.filter((b) => b.last_seen_ns >= end - WINDOW_NS);
  const begin = Math.max(Math.min(...shown.map((b) => b.first_seen_ns)), end - WINDOW_NS);
  const length = Math.max(end - begin, 1e9);
  const x = (ns) => LEFT + ((Math.max(ns, begin) - begin) / length) * (WIDTH - LEFT - 4);
  const cameras = cameraRows(shown);
  const height = cameras.length * ROW + 18;
  place.replaceChildren(
    s("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": `Tracklets of ${cameras.length} cameras from ${clock(begin)} to ${clock(end)}` },
      cameras.map(({ id, view }, row) => cameraRow(id, view, row, shown.filter((b) => b.camera === id), x)),
      s("text", { class: "tick", x: LEFT, y: height - 4 }, clock(begin)),
      s("text", { class: "tick", x: WIDTH - 4, y: height - 4, "text-anchor": "end" }, clock(end))),
  );
}

/** Cameras of the site and of the tracklets, aerial first. */
function cameraRows(bars) {
  const rows = new Map((store.site?.cameras ?? []).map((c) => [c.id, c.view]));
  for (const b of bars) if (!rows.has(b.camera)) rows.set(b.camera, b.view);
  const order = (view) => (view === "aerial" ? 0 : 1);
  return [...rows].map(([id, view]) => ({ id, view })).sort((a, b) => order(a.view) - order(b.view));
}

const short = (id) => (id.length > 9 ? `${id.slice(0, 8)}…` : id);

function cameraRow(id, view, row, bars, x) {
  const lanes = inLanes(bars);
  const count = Math.max(...lanes.map((l) => l + 1), 1);
  const step = Math.min((ROW - 6) / count, 7);
  const top = row * ROW + 3;
  return s("g", { class: `camera-row ${view}` },
    s("path", { class: "floor", d: `M0 ${(row + 1) * ROW - 0.5}H${WIDTH}` }),
    s("text", { class: "camera-name", x: 2, y: top + ROW / 2 }, s("title", {}, id), short(id)),
    bars.map((b, i) =>
      s("rect", {
        "data-identity": b.id,
        class: inView(b) ? "bar open" : "bar",
        x: x(b.first_seen_ns).toFixed(1),
        y: (top + lanes[i] * step).toFixed(1),
        width: Math.max(x(b.last_seen_ns) - x(b.first_seen_ns), 2).toFixed(1),
        height: Math.max(step - 1, 1.2).toFixed(1),
        rx: Math.min(1.5, step / 3),
        fill: lookOf(b.id).colour,
      }, s("title", {}, `${b.id} in ${b.camera}, ${span(b.first_seen_ns, b.last_seen_ns)}`))));
}

/** Lane of each bar, so that bars that overlap in time lie beside each other. */
function inLanes(bars) {
  const ends = [];
  const lane = new Array(bars.length);
  const order = bars.map((_, i) => i).sort((a, b) => bars[a].first_seen_ns - bars[b].first_seen_ns);
  for (const i of order) {
    let free = ends.findIndex((end) => end <= bars[i].first_seen_ns);
    if (free < 0) free = ends.length;
    ends[free] = bars[i].last_seen_ns;
    lane[i] = free;
  }
  return lane;
}
