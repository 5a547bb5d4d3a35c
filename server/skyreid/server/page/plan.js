// The site from above, north up, in metres: cameras by name, people as marks with the way they came.

import { h, s } from "/page/dom.js";
import { clock, position } from "/page/format.js";
import { shapeNode } from "/page/mark.js";
import { lookOf } from "/page/palette.js";
import { isCross, newestNs, store, trackletName } from "/page/store.js";

const place = document.getElementById("plan");
const WIDTH = 420;
const HEIGHT = 300;
const MARGIN = 16;
const TRAIL_S = 60; // this much of a way is drawn
const FRESH_S = 15; // people not seen for longer are drawn faint
const GRIDS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

export function drawPlan() {
  const cameras = (store.site?.cameras ?? []).filter((c) => c.position);
  const people = standing();
  const ways = trails();
  const points = [...cameras.map((c) => c.position), ...people.map((p) => p.ground), ...ways.flatMap((w) => w.points)];
  if (!points.length) {
    place.replaceChildren(h("p", { class: "quiet" }, nothing()));
    return;
  }
  const to = projection(points);
  place.replaceChildren(
    s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Plan of the site: ${people.length} people, ${cameras.length} cameras` },
      grid(to), ways.map((w) => trail(w, to)), cameras.map((c) => camera(c, to)), people.map((p) => person(p, to)),
      cameras.map((c) => cameraName(c, to, cameras)), rule(to)),
  );
}

function nothing() {
  if (!store.site?.cameras?.some((c) => c.position)) {
    return "No position is known: the site file gives no camera poses.";
  }
  return "Nobody has a position on the ground yet.";
}

/** Where each identity stood last. */
function standing() {
  const people = [];
  for (const identity of store.identities.values()) {
    const last = identity.tracklets.filter((t) => t.ground).sort((a, b) => b.last_seen_ns - a.last_seen_ns)[0];
    if (last) people.push({ identity, ground: last.ground, ns: last.last_seen_ns });
  }
  return people.sort((a, b) => isCross(a.identity) - isCross(b.identity) || a.ns - b.ns);
}

/** The way of each tracklet: one line a tracklet, because two cameras never quite agree. */
function trails() {
  const owner = new Map();
  for (const i of store.identities.values()) for (const t of i.tracklets) owner.set(trackletName(t), i.id);
  const newest = Math.max(...store.sightings.map((x) => x.captured_at_ns));
  const ways = new Map();
  for (const sighting of store.sightings) {
    const name = trackletName(sighting);
    if (!sighting.ground || !owner.has(name) || newest - sighting.captured_at_ns > TRAIL_S * 1e9) continue;
    if (!ways.has(name)) ways.set(name, { id: owner.get(name), points: [] });
    ways.get(name).points.push({ ...sighting.ground, ns: sighting.captured_at_ns });
  }
  for (const way of ways.values()) way.points.sort((a, b) => a.ns - b.ns);
  return [...ways.values()].filter((w) => w.points.length > 1);
}

/** A function from metres to the drawing, with `scale` (units per metre) and `step` (grid, metres). */
function projection(points) {
  const east = points.map((p) => p.east_m);
  const north = points.map((p) => p.north_m);
  const snap = 5; // so that the plan does not breathe with every step somebody takes
  const [e0, e1] = [Math.floor(Math.min(...east) / snap - 0.2) * snap, Math.ceil(Math.max(...east) / snap + 0.2) * snap];
  const [n0, n1] = [Math.floor(Math.min(...north) / snap - 0.2) * snap, Math.ceil(Math.max(...north) / snap + 0.2) * snap];
  const scale = Math.min((WIDTH - 2 * MARGIN) / (e1 - e0), (HEIGHT - 2 * MARGIN) / (n1 - n0));
  const to = ({ east_m, north_m }) => [
    WIDTH / 2 + (east_m - (e0 + e1) / 2) * scale,
    HEIGHT / 2 - (north_m - (n0 + n1) / 2) * scale,
  ];
  to.scale = scale;
  to.step = GRIDS.find((g) => g * scale >= 36) ?? GRIDS[GRIDS.length - 1];
  to.middle = [(e0 + e1) / 2, (n0 + n1) / 2];
  return to;
}

function grid(to) {
  const lines = [];
  const reach = [WIDTH / 2 / to.scale, HEIGHT / 2 / to.scale];
  for (let e = Math.ceil((to.middle[0] - reach[0]) / to.step) * to.step; e <= to.middle[0] + reach[0]; e += to.step) {
    const [x] = to({ east_m: e, north_m: 0 });
    lines.push(s("path", { d: `M${x} 0V${HEIGHT}`, class: e === 0 ? "axis" : "" }));
  }
  for (let n = Math.ceil((to.middle[1] - reach[1]) / to.step) * to.step; n <= to.middle[1] + reach[1]; n += to.step) {
    const [, y] = to({ east_m: 0, north_m: n });
    lines.push(s("path", { d: `M0 ${y}H${WIDTH}`, class: n === 0 ? "axis" : "" }));
  }
  return s("g", { class: "grid", "aria-hidden": "true" }, lines);
}

function rule(to) {
  const length = to.step * to.scale;
  return s("g", { class: "rule", transform: `translate(${WIDTH - length - 12} ${HEIGHT - 10})` },
    s("path", { d: `M0 -4V0H${length}V-4` }),
    s("text", { x: length / 2, y: -7, "text-anchor": "middle" }, `${to.step} m`),
    s("g", { transform: `translate(${length - 4} ${-HEIGHT + 40})` },
      s("path", { d: "M0 0V-18M-4 -13 0 -18 4 -13" }), s("text", { x: 0, y: 12, "text-anchor": "middle" }, "N")));
}

function camera({ view, position: at, heading_deg: heading }, to) {
  const [x, y] = to(at);
  const sign = view === "aerial" ? s("path", { d: "M-6 3 0 -3 6 3" }) : s("path", { d: "M-5 -4H3V4H-5ZM3 -1 7 -4V4L3 1" });
  const beam = typeof heading === "number"
    ? s("path", { class: "beam", d: "M0 0 -14 -30A34 34 0 0 1 14 -30Z", transform: `rotate(${heading})` })
    : "";
  return s("g", { class: `camera ${view}`, transform: `translate(${x} ${y})` }, beam, sign);
}

/** Drawn after the people, who would cover it. */
function cameraName({ id, view, position: at }, to, all) {
  const [x, y] = to(at);
  const crowded = all.some((c) => {
    const [left, top] = to(c.position);
    return left > x && left - x < 60 && Math.abs(top - y) < 14;
  });
  const right = x < WIDTH - 60 && !crowded;
  const beside = { x: x + (right ? 11 : -11), y: y + 4, "text-anchor": right ? "start" : "end" };
  return s("text", { class: `camera-name ${view}`, ...beside }, id);
}

function trail({ id, points }, to) {
  const d = points.map((p) => to(p).map((v) => v.toFixed(1)).join(" ")).join("L");
  return s("path", { class: "trail", d: `M${d}`, stroke: lookOf(id).colour, "data-identity": id });
}

function person({ identity, ground, ns }, to) {
  const [x, y] = to(ground);
  const old = newestNs() - ns > FRESH_S * 1e9;
  return s("g", {
    class: `person${old ? " old" : ""}${isCross(identity) ? " cross" : ""}`,
    transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`,
    "data-identity": identity.id,
  },
    s("title", {}, `${identity.id}: ${position(ground)}, ${clock(ns)}`),
    s("circle", { class: "reach", r: 11 }),
    shapeNode(lookOf(identity.id), isCross(identity) ? 5.5 : 4),
    s("text", { y: -10, "text-anchor": "middle" }, identity.id.slice(0, 4)));
}
