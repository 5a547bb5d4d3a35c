// Makes elements. Data only ever becomes text nodes and attributes, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** Element `tag` with attributes (`class`, `title`, `onclick`, ...) and children (nodes, text). */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG elements. */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (typeof value !== "boolean" || name.startsWith("aria-")) element.setAttribute(name, String(value));
    else if (value) element.setAttribute(name, "");
  }
  element.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

/** The sign of a view, read as its word: a chevron for above, a disc for the ground. */
export function viewSign(view) {
  const mark =
    view === "aerial"
      ? s("path", { d: "M2 8 6 4l4 4", fill: "none", stroke: "currentColor", "stroke-width": 1.8,
          "stroke-linecap": "round", "stroke-linejoin": "round" })
      : s("circle", { cx: 6, cy: 6, r: 3, fill: "currentColor" });
  return s("svg", { class: `view-sign ${view}`, viewBox: "0 0 12 12", role: "img", "aria-label": view }, mark);
}
