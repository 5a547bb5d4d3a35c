// Wires the panels to the store and starts the connection. One panel, one module.

import { connect } from "/page/api.js";
import { onChange } from "/page/store.js";
import { drawBanner } from "/page/banner.js";
import { drawCards } from "/page/cards.js";
import { drawFeed } from "/page/feed.js";
import { drawFilters } from "/page/filters.js";
import { listenForKeys } from "/page/keys.js";
import { drawPlan } from "/page/plan.js";
import { drawStatus, tick } from "/page/status.js";
import { drawTimeline } from "/page/timeline.js";
import { showPointed } from "/page/pointing.js";

const panels = [
  [drawStatus, ["site", "devices", "ready", "rate", "connection", "identities", "sightings", "session"]],
  [drawBanner, ["connection", "goneSince", "ready", "loaded"]],
  [drawFilters, ["identities", "total", "filter", "loaded"]],
  [drawCards, ["identities", "filter", "loaded", "devices", "sightings", "site", "connection"]],
  [drawPlan, ["identities", "sightings", "site"]],
  [drawTimeline, ["identities", "site"]],
  [drawFeed, ["events", "identities", "site"]],
  [showPointed, ["pointed", "identities", "sightings", "filter", "events"]],
];

onChange((keys) => {
  for (const [draw, wanted] of panels) if (wanted.some((key) => keys.has(key))) draw();
});

for (const [draw] of panels) draw();
setInterval(tick, 1000);
listenForKeys();
connect();
