// Numbers and times as a person says them.

let zone = "UTC";

/** Show times in this IANA zone from now on; an unknown one is left alone. */
export function useZone(name) {
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
    zone = name;
  } catch {
    zone = "UTC";
  }
}

export const zoneName = () => zone;

/** Wall clock of a moment given in nanoseconds since 1970: `03:12:05`. */
export const clock = (ns) =>
  new Date(ns / 1e6).toLocaleTimeString("en-GB", { timeZone: zone, hour12: false });

export function span(firstNs, lastNs) {
  const first = clock(firstNs);
  const last = clock(lastNs);
  return first === last ? first : `${first} – ${last}`;
}

/** Seconds as `8 s`, `2 min 5 s`, `60 min`, `3 h 10 min`. */
export function duration(seconds) {
  if (seconds < 10) return `${Number(seconds.toFixed(1))} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < 600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export const metres = (m) => `${m < 9.95 ? m.toFixed(1) : Math.round(m)} m`;

export const signed = (x) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(1)}`;

/** A probability as percent; 99 % at most, because beyond it no count of checked links has held. */
export function percent(p) {
  if (p < 0.01) return "< 1 %";
  return `${Math.min(Math.floor(100 * p + 1e-9), 99)} %`; // down: what is not accepted never reads as 99
}

/** How sure, in a word: how high the matcher's number is, and nothing about who is right. */
export function sureness(p) {
  if (p >= 0.99) return "high";
  if (p >= 0.85) return "fairly high";
  if (p >= 0.6) return "more likely one person than two";
  return "could be one person";
}

/** What two clocks may be apart: `± 0.2 s`. */
export const plusMinus = (seconds) => `± ${duration(seconds)}`;

/** Ground position: `3.2 m east, 1.0 m south` of the site's origin. */
export function position({ east_m, north_m }) {
  const east = `${metres(Math.abs(east_m))} ${east_m < 0 ? "west" : "east"}`;
  return `${east}, ${metres(Math.abs(north_m))} ${north_m < 0 ? "south" : "north"}`;
}
