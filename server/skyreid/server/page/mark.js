// An identity's mark: its colour and shape, and its id in a form that eyes can compare.

import { h, s } from "/page/dom.js";

/** SVG nodes of a shape around (0, 0) with the given radius. */
export function shapeNode({ colour, shape }, r) {
  const common = { fill: colour, class: "shape" };
  if (shape === "square") return s("rect", { ...common, x: -r * 0.9, y: -r * 0.9, width: r * 1.8, height: r * 1.8 });
  if (shape === "diamond") return s("path", { ...common, d: `M0 ${-1.25 * r}L${1.25 * r} 0 0 ${1.25 * r} ${-1.25 * r} 0Z` });
  if (shape === "ring") {
    return s("circle", { class: "shape", r: r * 0.75, fill: "none", stroke: colour, "stroke-width": r * 0.55 });
  }
  return s("circle", { ...common, r });
}

/** An id in two groups of four, which eyes compare more easily. */
export const grouped = (id) => (id.length === 8 ? `${id.slice(0, 4)} ${id.slice(4)}` : id);

/** Mark and id. */
export function identityName(id, look) {
  return h("span", { class: "name" },
    s("svg", { class: "mark", viewBox: "-7 -7 14 14", "aria-hidden": "true" }, shapeNode(look, 5)),
    h("code", {}, grouped(id)),
  );
}
