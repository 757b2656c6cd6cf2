// What the pages of these tests share: a client, and a note of all that it says. Nothing here is under test.
import { Tocsin } from "./tocsin.js";

Object.assign(globalThis, { shown: [], states: [], resets: [], troubles: [], tokens: 0, Tocsin });

/** Start the client of this page. `ttl` is how long its tokens are good, in s; `bad`: none is; `fails`: that one. */
globalThis.start = ({ url, user, ttl = 600, bad, fails, device = "", listener = (entry) => entry, ...options }) => {
  const token = async () => {
    globalThis.tokens += 1;
    if (globalThis.tokens === fails) throw new Error("the backend is away");
    return bad ? "nonsense" : (await fetch(`/token?${new URLSearchParams({ user, ttl, device })}`)).text();
  };
  const tocsin = (globalThis.tocsin = new Tocsin({ url, token, ...options }));
  tocsin.on("state", (change) => globalThis.states.push(change));
  tocsin.on("error", (trouble) => globalThis.troubles.push(`${trouble.code}: ${trouble.message}`));
  tocsin.on("reset", (reset) => globalThis.resets.push(reset));
  tocsin.on("notification", listener);
  tocsin.on("notification", ({ id, log, seq }) => void globalThis.shown.push({ id, log, seq }));
};

/** The ids of a bell: what was there when the page began, and what it has been told since. */
globalThis.bell = async () => {
  globalThis.before ??= globalThis.tocsin.history("inbox/normal");
  return [...(await globalThis.before), ...globalThis.shown].map(({ id }) => id);
};
globalThis.ready = true;
