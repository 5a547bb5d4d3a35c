// A colour and a shape for each identity. Eight colours that stay apart for colour-blind eyes (after
// Okabe and Ito, lightened for a dark ground); when they are used up the shape changes.

export const COLOURS = ["#f0ab2e", "#5fb9ee", "#24b58b", "#f2e65c", "#7d9bff", "#ee7a3b", "#dd8fbd", "#c3c8d0"];
const SHAPES = ["disc", "square", "diamond", "ring"];
const known = new Map();

/** `{colour, shape}` of an identity: the same for as long as the page is open. */
export function lookOf(id) {
  if (!known.has(id)) known.set(id, known.size);
  const index = known.get(id);
  return {
    colour: COLOURS[index % COLOURS.length],
    shape: SHAPES[Math.floor(index / COLOURS.length) % SHAPES.length],
  };
}
