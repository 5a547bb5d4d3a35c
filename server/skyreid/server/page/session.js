// Who is logged in, and what for: the form before the page, and the words that a change has to give.

import { h } from "/page/dom.js";
import { change, store } from "/page/store.js";

const place = document.getElementById("door");
const TIMEOUT_MS = 20000;
const UNSAID = "This site asks what for, and nobody is logged in who could say it: log in with a token.";
const ENDED = "Your session has ended. Log in again.";

let begin = () => {}; // what a log-in goes on with

/** Ask who is logged in: "in", "out" (the form is shown), or "gone" (no answer). `then` begins the page after the form. */
export async function enter(then) {
  begin = then;
  const word = new URLSearchParams(location.hash.slice(1)).get("link");
  try {
    if (word) {
      history.replaceState(null, "", location.pathname); // a link is good once, and stays in no history
      const answer = await send("POST", "/v1/session", { link: word });
      if (!answer.ok) return shut("This link was used already, or is too old. A token logs in, too.");
    }
    const answer = await send("GET", "/v1/session");
    if (answer.status === 401) return shut(store.session ? ENDED : "");
    if (!answer.ok) return "gone";
    return open(await answer.json());
  } catch {
    return "gone";
  }
}

/** An answer said that the log-in holds no more, or that purpose and case are missing. */
export function refused(status) {
  if (status === 400) draw(why());
  else shut(ENDED);
}

/** Whether `status` is one that the form has to follow. */
export const isRefusal = (status) => status === 401 || (status === 400 && store.session?.purpose_required);

function open(session) {
  change({ session });
  if (session.purpose_required && !session.case) {
    draw(why());
    return "out";
  }
  draw(null);
  return "in";
}

/** Nobody is logged in: what was shown goes, and the form comes. */
function shut(said) {
  change({ session: null, connection: "locked", identities: new Map(), sightings: [], events: [], devices: [], loaded: false });
  draw(loginForm(said));
  return "out";
}

function draw(form) {
  document.body.classList.toggle("locked", form !== null);
  for (const part of document.querySelectorAll("header, main, .skip")) part.inert = form !== null;
  place.replaceChildren(...(form ? [form] : []));
  place.querySelector("input")?.focus();
}

function loginForm(said) {
  const token = h("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true });
  return sheet("Log in", said, async () => {
    const answer = await send("POST", "/v1/session", { token: token.value.trim() });
    if (answer.ok) return go();
    const { reason } = await answer.json().catch(() => ({}));
    token.select();
    return answer.status === 422 ? "This is no token." : `Not let in: ${reason ?? "the server said no"}.`;
  }, "Log in",
    [h("label", { for: "token" }, "Token"), token],
    h("p", { class: "quiet" }, "Made on the server by ", h("code", {}, "skyreid-server token create"), "; ",
      h("code", {}, "token link"), " makes an address that needs none."));
}

/** Where purpose and case are said: of a session, which only a log-in with a token makes. */
const why = () => (store.session?.csrf ? purposeForm() : loginForm(UNSAID));

function purposeForm() {
  const purpose = h("input", { id: "purpose", maxlength: 200, autocomplete: "off", required: true, value: store.session?.purpose });
  const number = h("input", { id: "case", maxlength: 200, autocomplete: "off", required: true, value: store.session?.case });
  return sheet("What are you looking for?", "", async () => {
    const answer = await send("PUT", "/v1/session/purpose", { purpose: purpose.value.trim(), case: number.value.trim() });
    if (answer.ok) return go();
    return answer.status === 401 ? shut(ENDED) : "Both are needed.";
  }, "Go on",
    [h("p", {}, "This site asks everybody. It stands beside each search and each picture in the audit log."),
    h("label", { for: "purpose" }, "Purpose"), purpose,
    h("label", { for: "case" }, "Case number"), number],
    h("button", { type: "button", class: "quiet-button", onclick: leave }, "Log out"));
}

/** A form with a title, and what was wrong; `submit`, under a button of this `label`, gives what is wrong now. */
function sheet(title, said, submit, label, inside, below) {
  const wrong = h("p", { class: "wrong", role: "alert" }, said);
  const button = h("button", { type: "submit" }, label);
  const form = h("form", {
    class: "sheet", "aria-labelledby": "door-title", novalidate: true,
    onsubmit: async (event) => {
      event.preventDefault();
      const empty = [...form.querySelectorAll("input")].find((input) => !input.value.trim());
      if (empty) return empty.focus();
      button.disabled = true;
      try {
        wrong.textContent = (await submit()) ?? "";
      } catch {
        wrong.textContent = "The server does not answer. Try again.";
      }
      button.disabled = false;
    },
  }, h("p", { class: "brand" }, "skyreid"), h("h1", { id: "door-title" }, title), wrong, inside, button, below);
  return form;
}

function go() {
  begin();
  return "";
}

/** Log out, and show the form. */
export async function leave() {
  try {
    await send("DELETE", "/v1/session");
  } finally {
    change({ session: null });
    begin();
  }
}

/** Say another purpose. */
export const ask = () => draw(purposeForm());

/** Ask the server to do something, with the word against forged requests. */
export function send(method, path, body) {
  const headers = { "Content-Type": "application/json" };
  if (store.session?.csrf) headers["Skyreid-CSRF"] = store.session.csrf;
  return fetch(path, {
    method, headers, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS),
    body: body === undefined ? undefined : JSON.stringify(body),
  });
}
