/**
 * Tocsin in a browser: every entry of a user's logs reaches the page once, in order, now or when the page comes back.
 *
 * `Core` is what the protocol asks of a client: an event in, effects out. It has no clock, no chance, no storage and no
 * network. `Tocsin` performs the effects. Nothing here touches the DOM.
 *
 * @module
 */

/**
 * @typedef {{type: string, log: string, seq: number, id: string, n: number, lane: string, kind: string,
 *   created_at: string, title?: string, body?: string, data?: any, expires_at?: string, collapse_key?: string,
 *   replayed?: boolean}} Entry
 * @typedef {"idle" | "connecting" | "open" | "waiting" | "denied" | "closed"} State
 * @typedef {{state: State, code: number, reason: string}} StateChange `code` is that of the close that led here, else 0
 * @typedef {{code: string, message: string, error?: unknown, entry?: Entry}} Trouble
 * @typedef {{[log: string]: number}} Seqs
 * @typedef {{epoch: string, cursors: Seqs}} Saved
 * @typedef {{notification: Entry, message: Entry, state: StateChange, unread: Seqs, error: Trouble,
 *   reset: {log: string, head: number}, too_long: {log: string, head: number}}} Events
 * @typedef {"connect" | "retry" | "idle" | "pong" | "stable" | "flush" | "history"} Timer
 * @typedef {{type: "start" | "opened" | "wake" | "hide" | "close"}
 *   | {type: "token", token: string | null, user: string | null, device: string, saved: Saved | null}
 *   | {type: "refreshed", token: string | null} | {type: "frame", frame: any}
 *   | {type: "lost", code: number, reason: string} | {type: "timer", name: Timer, late?: boolean}
 *   | {type: "settled", log: string, key: string, heard: boolean}
 *   | {type: "history", id: number, log: string, before: number, limit: number}
 *   | {type: "read", log: string, seq: number}} Input
 * @typedef {{do: "token" | "refresh" | "drop"} | {do: "open", token: string} | {do: "send", frame: object}
 *   | {do: "show", entry: Entry, key: string} | {do: "emit", type: string, detail: any}
 *   | {do: "save", user: string, device: string, saved: Saved}
 *   | {do: "timer", name: Timer, least: number, most: number} | {do: "cancel", name: Timer}
 *   | {do: "resolve", id: number, entries: Entry[]} | {do: "reject", id: number, reason: string}} Effect
 */

const OURS = new Set(["state", "unread"]); // events that no frame may pretend to be
const CONNECT_WITHIN = 30_000; // ms for the token and the handshake
const PONG_WITHIN = 5_000; // ms
const LOOKS_EVERY = 2_000; // ms between two looks at the clock
const LATE = 3_000; // ms by which a timer is late if the page, or the machine, slept
const STABLE = 10_000; // ms after which a session was a good one, and pauses start anew
const LONGEST = 30_000; // ms, the longest usual pause
const ACKS_EVERY = 200; // ms over which acknowledgements are bundled
const REFUSED = 2_000; // ms after which history that was refused as too much is asked for again
const PAGE = 1_000; // entries that one `sync` may name; a user may ask for so many a second, so a page names few
const SPARE = 50; // entries beyond the known end that a page names, so that it reaches the end
const SHOWN = 10_000; // entries that are known again after a reset: as many as a server sends unasked
const COUNTS = 1_000; // entries of a log whose running count is known to `read`

/**
 * How long to wait before the next connection: `[least, most]` in ms, of which chance takes one; null: do not connect.
 *
 * @param {number} code of the close
 * @param {number} attempts that failed since the last good session
 * @param {number | null} after what the frame `reconnect` named, in ms
 * @returns {[number, number] | null}
 */
export function pause(code, attempts, after = null) {
  const most = Math.min(LONGEST, 1_000 * 2 ** Math.min(attempts, 10));
  if (code >= 4100 && code <= 4199) return null;
  if (code === 4001 && after !== null) return [after, after + 250];
  if (code === 4005 && attempts === 0) return [0, 250]; // nothing but the token was old
  if (code === 4006) return [5_000, 5_000 + most];
  if (code === 4007) return [30_000, 30_000 + 9 * most];
  return [most / 4, most];
}

/**
 * Put into a Set or Map that forgets its oldest.
 *
 * @template K, V
 * @param {Map<K, V>} known @param {K} key @param {V} value @param {number} most
 */
function remember(known, key, value, most) {
  known.set(key, value);
  if (known.size > most) known.delete(/** @type {K} */ (known.keys().next().value));
}

/** A call of `history`: what it still has to find lies before `top`. */
class Request {
  /** @param {number} id @param {number} before @param {number} limit */
  constructor(id, before, limit) {
    this.id = id;
    this.before = this.top = before;
    this.limit = this.rows = limit;
    /** @type {Entry[]} */
    this.found = [];
  }
}

/** One log as this page reads it. */
class Log {
  /** @type {number | null} */ cursor = null; // last seq received; null: not known where the log starts for us
  floor = 0; // all up to here was handled: what is saved and acknowledged
  /** @type {Map<string, number>} */ pending = new Map(); // entries whose listeners are not done, by key, and their seqs
  unheard = Infinity; // first seq that nobody listened to
  /** @type {Set<string> | null} */ before = null; // after a reset: which of those shown before it are not done
  acked = 0;
  read = 0;
  readSent = 0;
  unread = 0;
  counted = 0; // last seq that `unread` includes
  /** @type {number | undefined} */ n = undefined; // running count at the cursor
  /** @type {Map<number, number>} */ counts = new Map(); // running counts by seq
  /** @type {{after: number, end: number, at: number, request: Request | null, found: Entry[]} | null} */
  page = null; // what a `sync` asked for, and how far it came
  behind = 0; // where the log ends, while the server goes on only after a `sync`; else 0
  /** @type {Request[]} */ requests = [];

  /** @param {string} name */
  constructor(name) {
    this.name = name;
  }

  /** Begin after `seq`. @param {number} seq */
  restart(seq) {
    if (this.cursor !== null) {
      this.before = new Set([...(this.before ?? []), ...this.pending.keys()]);
      this.read = 0;
    }
    this.cursor = this.floor = seq;
    this.unheard = Infinity;
    this.pending.clear();
    this.counts.clear();
    this.n = undefined;
    this.leave();
    for (const request of this.requests) Object.assign(request, { top: request.before, found: [] });
  }

  /** Forget what was said in a session: it may have been lost with it. */
  leave() {
    this.acked = this.readSent = 0;
    this.page = null;
    this.behind = 0;
  }
}

/** What the protocol asks of a client, without I/O: `take` changes the state and returns what is to be done. */
export class Core {
  /** @type {State} */ state = "idle";
  /** @type {string | null} */ user = null; // whose cursors `logs` holds
  device = "";
  epoch = "";
  /** @type {Map<string, Log>} */ logs = new Map();
  /** @type {Map<string, true>} */ shown = new Map();
  spoken = false; // `hello` was said
  welcomed = false;
  heard = false; // something came since the last look
  probing = false;
  heartbeat = 25_000; // ms
  attempts = 0;
  renewed = false; // a new token was asked for since one was refused
  hasty = true; // the pause may be cut short
  /** @type {number | null} */ after = null;
  flushing = false;
  /** @type {Effect[]} */ out = [];

  /** @param {Input} event @returns {Effect[]} */
  take(event) {
    this.out = [];
    if (this.state !== "closed") this.#take(event);
    else if (event.type === "history") this.out.push({ do: "reject", id: event.id, reason: "closed" });
    return this.out;
  }

  /** @returns {Seqs} */
  get unread() {
    return Object.fromEntries([...this.logs.values()].map((log) => [log.name, log.unread]));
  }

  /** @param {Input} event */
  #take(event) {
    switch (event.type) {
      case "start":
        return this.state === "idle" || this.state === "denied" ? this.#connect() : undefined;
      case "token":
        return this.#takeToken(event);
      case "refreshed":
        return this.welcomed && event.token ? this.#send({ type: "refresh", token: event.token }) : undefined;
      case "opened":
        return this.#sayHello();
      case "frame":
        this.heard = true;
        return this.#takeFrame(event.frame);
      case "lost":
        return this.#lose(event.code, event.reason);
      case "timer":
        return this.#ring(event.name, event.late ?? false);
      case "wake":
        return this.#wake();
      case "settled":
        return this.#settle(event);
      case "read":
        return this.#read(this.#log(event.log), event.seq);
      case "history":
        return this.#history(event);
      case "hide":
        return this.#flush();
      case "close":
        return this.#end("closed", 0, "closed");
    }
  }

  /** @param {object} frame */
  #send(frame) {
    this.out.push({ do: "send", frame });
  }

  /** @param {string} type @param {any} detail */
  #emit(type, detail) {
    this.out.push({ do: "emit", type, detail });
  }

  /** @param {Timer} name @param {number} least ms @param {number} most ms */
  #timer(name, least, most = least) {
    this.out.push({ do: "timer", name, least, most });
  }

  /** @param {State} state @param {number} code @param {string} reason */
  #enter(state, code = 0, reason = "") {
    this.state = state;
    this.#emit("state", { state, code, reason });
  }

  /** @param {string} name */
  #log(name) {
    const log = this.logs.get(name) ?? new Log(name);
    this.logs.set(name, log);
    return log;
  }

  // Connections

  #connect() {
    this.#enter("connecting");
    this.#timer("connect", CONNECT_WITHIN);
    this.out.push({ do: "token" });
  }

  /** @param {Extract<Input, {type: "token"}>} event */
  #takeToken({ token, user, device, saved }) {
    if (this.state !== "connecting") return;
    if (!token) return this.#end("denied", 0, "there is no token");
    if (user !== this.user || device !== this.device) {
      if (this.user !== null) this.#forget("the token is of another user or device");
      [this.user, this.device, this.epoch] = [user, device, saved?.epoch ?? ""];
      for (const [name, seq] of Object.entries(saved?.cursors ?? {})) this.#log(name).restart(seq);
    }
    this.out.push({ do: "open", token });
  }

  /** Bring nothing of one user to another. @param {string} reason */
  #forget(reason) {
    this.#rejectAll(reason);
    this.logs.clear();
    this.shown.clear();
  }

  #sayHello() {
    const started = [...this.logs.values()].filter((log) => log.cursor !== null);
    const cursors = Object.fromEntries(started.map((log) => [log.name, log.cursor]));
    this.spoken = true;
    this.out.push({ do: "cancel", name: "connect" });
    this.#send({
      type: "hello",
      ...(this.device && { device: this.device }),
      ...(this.epoch && { epoch: this.epoch, cursors }),
      client: "tocsin.js",
    });
    this.#listen();
  }

  #listen() {
    this.heard = this.probing = false;
    this.#timer("idle", this.heartbeat);
  }

  #probe() {
    this.heard = false;
    this.probing = true;
    this.out.push({ do: "cancel", name: "idle" });
    this.#timer("pong", PONG_WITHIN);
    this.#send({ type: "ping" });
  }

  #wake() {
    if (this.spoken && !this.probing) this.#probe();
    else if (this.state === "waiting" && this.hasty) this.#timer("retry", 0, 1_000);
  }

  /** @param {Timer} name @param {boolean} late */
  #ring(name, late) {
    if (name === "flush") this.#flush();
    else if (name === "retry") this.#connect();
    else if (name === "stable") this.attempts = 0;
    else if (name === "history") for (const log of this.logs.values()) this.#turn(log);
    else if (name === "connect") this.#abandon(0, "no answer in time");
    else if (late) this.#probe(); // the page slept, and what waits in the socket has not been read yet
    else if (this.heard) this.#listen();
    else if (name === "idle") this.#probe();
    else this.#abandon(0, "no sign of life");
  }

  /** Leave a server that does not behave. @param {number} code @param {string} reason */
  #abandon(code, reason) {
    this.out.push({ do: "drop" });
    this.#lose(code, reason);
  }

  /** @param {number} code @param {string} reason */
  #lose(code, reason) {
    if (this.state !== "connecting" && this.state !== "open") return;
    this.#unlink();
    const renew = code === 4101 && !this.renewed;
    const waits = pause(renew ? 4005 : code, renew ? 0 : this.attempts, this.after);
    this.after = null;
    if (!waits) return this.#end("denied", code, reason);
    this.renewed ||= renew;
    this.attempts += 1;
    this.hasty = ![4001, 4006, 4007].includes(code);
    this.#enter("waiting", code, reason);
    this.#timer("retry", waits[0], waits[1]);
  }

  #unlink() {
    this.spoken = this.welcomed = this.probing = false;
    for (const log of this.logs.values()) log.leave();
    for (const name of /** @type {const} */ (["connect", "idle", "pong", "stable", "history"]))
      this.out.push({ do: "cancel", name });
  }

  /** @param {"denied" | "closed"} state @param {number} code @param {string} reason */
  #end(state, code, reason) {
    this.#flush();
    this.#unlink();
    this.attempts = 0;
    this.renewed = false;
    this.out.push({ do: "cancel", name: "retry" }, { do: "drop" });
    this.#rejectAll(state === "denied" ? `denied: ${reason}` : reason);
    this.#enter(state, code, reason);
  }

  // Frames

  /** @param {any} frame */
  #takeFrame(frame) {
    switch (frame.type) {
      case "welcome":
        return this.#welcome(frame);
      case "notification":
      case "message":
        return this.#advance(this.#log(frame.log), frame.seq, frame.seq, frame);
      case "skip":
        return this.#advance(this.#log(frame.log), frame.from, frame.to, null);
      case "synced":
        return this.#mark(this.#log(frame.log), frame.head, false);
      case "gap":
        return this.#mark(this.#log(frame.log), frame.to, true);
      case "reset":
      case "too_long":
        return this.#jump(this.#log(frame.log), frame);
      case "reconnect":
        this.after = frame.after;
        return;
      case "token_expiring":
        this.out.push({ do: "refresh" });
        return;
      case "error":
        return this.#refused(frame);
    }
    if (!OURS.has(frame.type)) this.#emit(frame.type, frame);
  }

  /** @param {any} frame */
  #welcome({ epoch, heads, unread, cursors, heartbeat }) {
    const resets = [];
    const anew = this.epoch !== "" && this.epoch !== epoch;
    this.epoch = epoch;
    this.heartbeat = 1_000 * heartbeat;
    this.welcomed = true;
    this.renewed = false;
    for (const [name, head] of Object.entries(heads)) {
      const log = this.#log(name);
      const start = cursors[name];
      if (anew && log.cursor !== null) resets.push({ log: name, head: start }); // the frames that say so may be lost
      if (anew || log.cursor === null) log.restart(start);
      log.counted = head;
      log.unread = unread[name] ?? 0;
      this.#recount(log);
    }
    this.#timer("stable", STABLE);
    this.#enter("open");
    for (const reset of resets) this.#emit("reset", reset);
    this.#emit("unread", this.unread);
    this.#flush();
    for (const log of this.logs.values()) this.#turn(log);
  }

  /**
   * Take what lies from `from` to `to`: one entry, or nothing for this device.
   *
   * @param {Log} log @param {number} from @param {number} to @param {Entry | null} entry
   */
  #advance(log, from, to, entry) {
    const page = log.page;
    if (entry) remember(log.counts, entry.seq, entry.n, COUNTS);
    if (page?.request && from <= page.at + 1 && page.at < to && from <= page.end) {
      page.at = to;
      if (entry) page.found.push(entry);
    }
    log.cursor ??= from - 1; // a log that `welcome` did not name
    if (to <= log.cursor) return; // a repeat
    if (from > log.cursor + 1) {
      log.behind = to; // this does not happen; what was left out is asked for, and this with it
      return this.#turn(log);
    }
    log.n ??= log.counts.get(log.cursor);
    log.cursor = to;
    if (entry) this.#count(log, entry);
    if (entry) this.#show(log, entry);
    this.#raise(log);
  }

  /** @param {Log} log @param {Entry} entry */
  #show(log, entry) {
    const key = JSON.stringify([log.name, entry.id ?? entry.seq, entry.created_at]); // of a record, in whichever store
    const again = log.before && this.shown.has(key);
    if (!again || log.before?.delete(key)) log.pending.set(key, entry.seq);
    if (again) return;
    remember(this.shown, key, true, SHOWN);
    this.out.push({ do: "show", entry, key });
  }

  /** @param {Log} log @param {{type: string, head: number}} frame */
  #jump(log, { type, head }) {
    if (type === "reset" && log.cursor === head) return; // `welcome` said so
    if (type === "reset") log.restart(head);
    else log.cursor = Math.max(log.cursor ?? 0, head);
    this.#emit(type, { log: log.name, head });
    this.#raise(log);
    this.#turn(log);
  }

  /** @param {{code: string, message: string, ref?: string}} frame */
  #refused({ code, message, ref = "" }) {
    const [what, name] = ref.split(/:(.*)/s);
    const log = this.logs.get(name ?? "");
    if (log?.page && what === "resume") return this.#abandon(4006, message); // else the log would stand still
    if (!log?.page || what !== "history") return this.#emit("error", { code, message });
    log.page = null;
    if (code === "rate_limited" || code === "busy") {
      this.#timer("history", REFUSED, 2 * REFUSED);
      return log.behind ? this.#turn(log, true) : undefined;
    }
    const [request] = log.requests.splice(0, 1);
    if (request) this.out.push({ do: "reject", id: request.id, reason: `${code}: ${message}` });
    this.#turn(log);
  }

  // What was handled, read, counted

  /** @param {Extract<Input, {type: "settled"}>} event */
  #settle({ log: name, key, heard }) {
    const log = this.logs.get(name);
    const seq = log?.pending.get(key);
    log?.before?.delete(key);
    if (!log || seq === undefined) return;
    log.pending.delete(key);
    if (!heard) log.unheard = Math.min(log.unheard, seq);
    this.#raise(log);
  }

  /** Raise the floor to the last seq before the first that is not handled. @param {Log} log */
  #raise(log) {
    const [first = Infinity] = log.pending.values();
    const floor = Math.min(log.cursor ?? 0, first - 1, log.unheard - 1);
    if (floor <= log.floor) return;
    log.floor = floor;
    this.#later();
  }

  #later() {
    if (!this.flushing) this.#timer("flush", ACKS_EVERY);
    this.flushing = true;
  }

  /** Save, then acknowledge. */
  #flush() {
    this.flushing = false;
    this.out.push({ do: "cancel", name: "flush" });
    const started = [...this.logs.values()].filter((log) => log.cursor !== null);
    const cursors = Object.fromEntries(started.map((log) => [log.name, log.floor]));
    if (this.user !== null && this.epoch)
      this.out.push({ do: "save", user: this.user, device: this.device, saved: { epoch: this.epoch, cursors } });
    if (!this.welcomed) return;
    for (const log of started) {
      if (log.floor > log.acked) this.#send({ type: "ack", log: log.name, seq: (log.acked = log.floor) });
      const read = Math.min(log.read, log.cursor ?? 0);
      if (read > log.readSent) this.#send({ type: "read", log: log.name, seq: (log.readSent = read) });
    }
  }

  /** @param {Log} log @param {number} seq */
  #read(log, seq) {
    const read = Math.min(seq, log.cursor ?? seq); // what has not come cannot have been read
    if (read <= log.read) return;
    log.read = read;
    this.#later();
    if (this.#recount(log)) this.#emit("unread", this.unread);
  }

  /** Count a new entry: by its running count, since one that is for this device alone is not counted. */
  #count(/** @type {Log} */ log, /** @type {Entry} */ entry) {
    const old = log.unread;
    if (entry.seq > log.counted) {
      log.unread += log.n === undefined ? 1 : Math.min(1, entry.n - log.n);
      log.counted = entry.seq;
    }
    log.n = entry.n;
    if (this.#recount(log) || log.unread !== old) this.#emit("unread", this.unread);
  }

  /** Take off what was read, once all that the server counted is here; tell whether there was any. @param {Log} log */
  #recount(log) {
    const cursor = log.cursor ?? 0;
    if (!log.read || cursor < log.counted) return false;
    const read = log.counts.get(log.read);
    const left = log.read >= cursor ? 0 : log.n === undefined || read === undefined ? log.unread : log.n - read;
    const fewer = left < log.unread;
    if (fewer) log.unread = left;
    return fewer;
  }

  // Pages. A `sync` names one, and at its end the server waits for the next; so after each page of history live
  // delivery is asked to go on.

  /** @param {Extract<Input, {type: "history"}>} event */
  #history({ id, log: name, before, limit }) {
    if (this.state === "denied") return void this.out.push({ do: "reject", id, reason: "denied" });
    const log = this.#log(name);
    log.requests.push(new Request(id, before, limit));
    this.#turn(log);
  }

  /** Say the next `sync`, if one is due and none is out; live goes before history where `resume` says so. */
  #turn(/** @type {Log} */ log, resume = false) {
    if (!this.welcomed || log.page) return;
    if (!(resume && log.behind) && this.#askHistory(log)) return;
    if (!log.behind || log.cursor === null) return;
    const end = Math.min(log.cursor + PAGE, Math.max(log.cursor, log.behind) + SPARE);
    log.behind = 0;
    this.#sync(log, log.cursor, end, null);
  }

  /** Ask for the page of the first request that is not done. @param {Log} log */
  #askHistory(log) {
    for (let request; (request = log.requests[0]); log.requests.shift()) {
      const { id, limit, rows, found } = request;
      const last = Math.min(request.top, (log.cursor ?? 0) + 1) - 1;
      if (log.cursor === null) this.out.push({ do: "reject", id, reason: `there is no log ${log.name}` });
      else if (found.length >= limit || last < 1) this.out.push({ do: "resolve", id, entries: found.slice(-limit) });
      else {
        this.#sync(log, Math.max(0, last - rows), last, request);
        return true;
      }
    }
    return false;
  }

  /** @param {Log} log @param {number} after @param {number} end @param {Request | null} request */
  #sync(log, after, end, request) {
    log.page = { after, end, at: after, request, found: [] };
    const id = `${request ? "history" : "resume"}:${log.name}`;
    this.#send({ type: "sync", log: log.name, after, limit: end - after, id });
  }

  /** `synced` or `gap`: the page has ended, unless it says so of one before. */
  #mark(/** @type {Log} */ log, /** @type {number} */ head, /** @type {boolean} */ gap) {
    const page = log.page;
    const cursor = log.cursor ?? 0;
    if (page && (page.request ? page.at < page.end : gap && cursor < page.end)) return;
    log.page = null;
    log.behind = gap || head > cursor ? head : 0;
    if (page?.request) {
      page.request.top = page.after + 1;
      page.request.found.unshift(...page.found);
      page.request.rows = Math.min(PAGE, 2 * page.request.rows);
    }
    this.#turn(log, Boolean(page?.request));
  }

  /** @param {string} reason */
  #rejectAll(reason) {
    for (const log of this.logs.values())
      for (const { id } of log.requests.splice(0)) this.out.push({ do: "reject", id, reason });
  }
}

/**
 * What carries frames: opens a connection and returns how to speak on it and how to leave it.
 *
 * @typedef {{opened(): void, text(data: string): void, closed(code: number, reason: string): void}} Ears
 * @typedef {(at: {url: string, token: string}, ears: Ears) => {send(data: string): void, close(): void}} Transport
 * @type {Transport}
 */
export function webSocket({ url, token }, ears) {
  const at = new URL(url, globalThis.location?.href);
  at.protocol = at.protocol.replace(/^http/, "ws");
  at.searchParams.set("token", token);
  at.searchParams.set("hello", "1");
  const socket = new WebSocket(at);
  socket.onopen = () => ears.opened();
  socket.onmessage = ({ data }) => ears.text(data);
  socket.onclose = ({ code, reason }) => ears.closed(code, reason);
  return {
    send: (data) => socket.send(data),
    close() {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(1000);
    },
  };
}

/** Storage that may be missing, blocked or full: then this page remembers by itself. */
class Memory {
  /** @type {Map<string, string>} */ #own = new Map();

  /** @param {() => Pick<Storage, "getItem" | "setItem"> | undefined} storage */
  constructor(storage) {
    this.storage = storage;
  }

  /** @param {string} key @returns {any} */
  get(key) {
    try {
      return JSON.parse(this.#read(key) ?? "null");
    } catch {
      return null; // not what we wrote
    }
  }

  /** @param {string} key */
  #read(key) {
    const own = this.#own.get(key);
    try {
      return this.storage()?.getItem(key) ?? own;
    } catch {
      return own; // blocked
    }
  }

  /** @param {string} key @param {any} value */
  set(key, value) {
    const text = JSON.stringify(value);
    this.#own.set(key, text);
    try {
      this.storage()?.setItem(key, text);
    } catch {
      // blocked or full: our own copy counts
    }
  }
}

/** What a token says; nothing where it cannot be read. Only the server judges it. @param {string} token */
function claims(token) {
  try {
    const raw = atob((token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(raw, (c) => c.charCodeAt(0))));
  } catch {
    return {};
  }
}

/**
 * A connection to Tocsin for one page. It connects with the first listener for anything but `state` and `error`.
 *
 * @example
 * const tocsin = new Tocsin({ url: "wss://example.org/ws", token: async () => (await fetch("/token")).text() });
 * tocsin.on("notification", (entry) => show(entry));
 */
export class Tocsin {
  #core = new Core();
  /** @type {Map<string, Set<(detail: any) => unknown>>} */ #listeners = new Map();
  /** @type {Map<Timer, ReturnType<typeof setTimeout>>} */ #timers = new Map();
  /** @type {Map<number, {resolve(entries: Entry[]): void, reject(error: Error): void}>} */ #calls = new Map();
  /** @type {Input[]} */ #events = [];
  #busy = false;
  /** @type {ReturnType<Transport> | null} */ #link = null;
  #turn = 0; // number of the connection: what an older one says does not count
  #calling = 0;
  #gone = new AbortController();

  /**
   * @param {object} options
   * @param {string} options.url of the gateway, as `wss://example.org/ws` or relative to the page
   * @param {() => string | null | Promise<string | null>} options.token gives a JWT for each connection; null: none
   * @param {string} [options.device] 1 to 64 of `A-Za-z0-9._:-`; left out, one is made for this browser
   * @param {Pick<Storage, "getItem" | "setItem">} [options.store] where device and cursors are kept; `localStorage`
   * @param {Transport} [options.transport]
   */
  constructor({ url, token, device, store, transport = webSocket }) {
    if (typeof token !== "function") throw new TypeError("`token` is a function that gives a token");
    new URL(url, globalThis.location?.href); // throws now rather than at each connection
    this.#url = url;
    this.#token = token;
    this.#transport = transport;
    this.#memory = new Memory(() => store ?? globalThis.localStorage);
    this.#device = device ?? this.#ownDevice();
    this.#watch();
  }
  #url;
  #token;
  #transport;
  #memory;
  #device;

  /** Where the connection stands. */
  get state() {
    return this.#core.state;
  }

  /** Entries not read by the user, by log. */
  get unread() {
    return this.#core.unread;
  }

  /**
   * Call `listener` for each event of a type; returns what ends that. An entry is acknowledged once its listeners have
   * returned, and the promises they returned have settled.
   *
   * @template {keyof Events | (string & {})} T
   * @param {T} type
   * @param {(detail: T extends keyof Events ? Events[T] : any) => unknown} listener
   * @returns {() => void}
   */
  on(type, listener) {
    const known = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, known.add(listener));
    const idle = this.state === "idle" && type !== "state" && type !== "error";
    if (idle) queueMicrotask(() => this.state === "idle" && this.#take({ type: "start" }));
    return () => void known.delete(listener);
  }

  /** Connect now, without waiting for a listener; also again after `denied`. */
  connect() {
    this.#take({ type: "start" });
  }

  /** The user has read everything of `log` up to `seq`. @param {string} log @param {number} seq */
  read(log, seq) {
    if (!Number.isSafeInteger(seq) || seq < 0) throw new TypeError("`seq` is a number of an entry");
    this.#take({ type: "read", log, seq });
  }

  /**
   * Return the last `limit` entries before `before`, oldest first. Fewer than `limit`: the log has no older ones.
   *
   * Without `before`: those that the events do not bring, since they lie at or below the cursor. Waits for the
   * connection; rejects after `close`, when denied, and for a log that does not exist.
   *
   * @param {string} log
   * @param {{before?: number, limit?: number}} [options] `limit` is 1 to 1,000
   * @returns {Promise<Entry[]>}
   */
  history(log, { before = Infinity, limit = 20 } = {}) {
    if (!(limit >= 1 && limit <= PAGE)) throw new RangeError(`\`limit\` is 1 to ${PAGE}`);
    const id = ++this.#calling;
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject });
      this.#take({ type: "history", id, log, before, limit });
      if (this.state === "idle") this.#take({ type: "start" });
    });
  }

  /** Acknowledge what was handled, and end; there is no way back. */
  close() {
    this.#take({ type: "close" });
    this.#gone.abort();
  }

  #ownDevice() {
    const known = this.#memory.get("tocsin:device");
    if (typeof known === "string" && /^[\w.:-]{1,64}$/.test(known)) return known;
    const bytes = crypto.getRandomValues(new Uint8Array(12)); // randomUUID is there on secure pages only
    const made = `web-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
    this.#memory.set("tocsin:device", made);
    return made;
  }

  /** Listen to what the browser says about this page: it sleeps, wakes, leaves, the network comes back. */
  #watch() {
    const { signal } = this.#gone;
    const page = globalThis.document;
    const hears = (/** @type {EventTarget} */ target, /** @type {string} */ name, /** @type {() => Input} */ says) =>
      target?.addEventListener?.(name, () => this.#take(says()), { signal });
    hears(page, "visibilitychange", () => ({ type: page.visibilityState === "hidden" ? "hide" : "wake" }));
    hears(page, "resume", () => ({ type: "wake" }));
    hears(page, "freeze", () => ({ type: "hide" }));
    for (const name of ["online", "offline", "pageshow"]) hears(globalThis, name, () => ({ type: "wake" }));
    hears(globalThis, "pagehide", () => ({ type: "hide" }));
    let looked = Date.now(); // a machine that sleeps says nothing
    const clock = setInterval(() => {
      const slept = Date.now() > looked + LOOKS_EVERY + LATE;
      looked = Date.now();
      if (slept) this.#take({ type: "wake" });
    }, LOOKS_EVERY);
    signal.addEventListener("abort", () => clearInterval(clock));
  }

  /** Let the core take an event, and do what it says; what comes meanwhile waits. @param {Input} event */
  #take(event) {
    this.#events.push(event);
    if (this.#busy) return;
    this.#busy = true;
    try {
      for (let next; (next = this.#events.shift()); ) for (const effect of this.#core.take(next)) this.#perform(effect);
    } finally {
      this.#busy = false;
    }
  }

  /** @param {Effect} effect */
  #perform(effect) {
    switch (effect.do) {
      case "token":
        return void this.#fetchToken(++this.#turn);
      case "refresh":
        return void this.#refresh(this.#turn);
      case "open":
        return this.#open(effect.token, this.#turn);
      case "drop":
        return this.#drop();
      case "send":
        return this.#link?.send(JSON.stringify(effect.frame));
      case "show":
        return this.#show(effect.entry, effect.key);
      case "emit":
        return void this.#emit(effect.type, effect.detail);
      case "save":
        return this.#save(effect.user, effect.device, effect.saved);
      case "timer":
        return this.#start(effect.name, effect.least + Math.random() * (effect.most - effect.least));
      case "cancel":
        return clearTimeout(this.#timers.get(effect.name));
      case "resolve":
      case "reject": {
        const call = this.#calls.get(effect.id);
        this.#calls.delete(effect.id);
        return effect.do === "resolve" ? call?.resolve(effect.entries) : call?.reject(new Error(effect.reason));
      }
    }
  }

  /** @param {number} turn */
  async #fetchToken(turn) {
    try {
      const token = await this.#token();
      if (turn !== this.#turn) return;
      const { sub: user = null, device = this.#device } = token ? claims(token) : {};
      this.#take({ type: "token", token, user, device, saved: user && this.#saved(user, device) });
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#trouble("token", "the token function failed", error);
      this.#take({ type: "lost", code: 0, reason: "the token function failed" });
    }
  }

  /** @param {number} turn */
  async #refresh(turn) {
    try {
      const token = await this.#token();
      if (turn === this.#turn) this.#take({ type: "refreshed", token });
    } catch (error) {
      this.#trouble("token", "the token function failed", error); // it is called again when the session has ended
    }
  }

  /** @param {string} token @param {number} turn */
  #open(token, turn) {
    const hears = (/** @type {Input} */ event) => (turn === this.#turn ? this.#take(event) : undefined);
    try {
      this.#link = this.#transport({ url: this.#url, token }, {
        opened: () => hears({ type: "opened" }),
        text: (data) => hears({ type: "frame", frame: JSON.parse(data) }),
        closed: (code, reason) => hears({ type: "lost", code, reason }),
      });
    } catch (error) {
      this.#trouble("transport", "the browser does not connect", error);
      this.#take({ type: "lost", code: 0, reason: "the browser does not connect" });
    }
  }

  #drop() {
    this.#turn += 1;
    this.#link?.close();
    this.#link = null;
  }

  /** @param {Entry} entry @param {string} key */
  #show(entry, key) {
    const results = this.#emit(entry.type, entry);
    const done = () => this.#take({ type: "settled", log: entry.log, key, heard: results.length > 0 });
    if (results.some(isPromise)) void Promise.all(results).then(done);
    else done();
  }

  /**
   * Call the listeners of a type; one that fails is told to those of `error` and keeps nothing from the others.
   *
   * @param {string} type @param {any} detail @returns {unknown[]}
   */
  #emit(type, detail) {
    const failed = (/** @type {unknown} */ error) => {
      const entry = type === "notification" || type === "message" ? { entry: detail } : {};
      if (type === "error") report(error);
      else this.#trouble("listener", `a listener of ${type} failed`, error, entry);
    };
    const listeners = [...(this.#listeners.get(type) ?? [])];
    if (type === "error" && !listeners.length) report(detail.error ?? new Error(`tocsin: ${detail.message}`));
    return listeners.map((listener) => {
      try {
        const result = listener(detail);
        return isPromise(result) ? Promise.resolve(result).catch(failed) : result;
      } catch (error) {
        return failed(error);
      }
    });
  }

  /** @param {string} code @param {string} message @param {unknown} error @param {object} more */
  #trouble(code, message, error, more = {}) {
    this.#emit("error", { code, message, error, ...more });
  }

  /** @param {Timer} name @param {number} ms */
  #start(name, ms) {
    clearTimeout(this.#timers.get(name));
    const due = Date.now() + ms;
    const ring = () => this.#take({ type: "timer", name, late: Date.now() > due + LATE });
    this.#timers.set(name, setTimeout(ring, ms));
  }

  /** @param {string} user @param {string} device */
  #key(user, device) {
    return `tocsin:cursors:${JSON.stringify([this.#url, user, device])}`;
  }

  /** @param {string} user @param {string} device @returns {Saved | null} */
  #saved(user, device) {
    const saved = this.#memory.get(this.#key(user, device));
    const seqs = Object.values(saved?.cursors ?? {});
    const sound = typeof saved?.epoch === "string" && seqs.every((seq) => Number.isSafeInteger(seq) && seq >= 0);
    return sound ? saved : null;
  }

  /** Raise what is saved: another tab may have come further. */
  #save(/** @type {string} */ user, /** @type {string} */ device, /** @type {Saved} */ now) {
    const before = this.#saved(user, device);
    const cursors = before?.epoch === now.epoch ? { ...before.cursors } : {};
    for (const [log, seq] of Object.entries(now.cursors)) cursors[log] = Math.max(seq, cursors[log] ?? 0);
    this.#memory.set(this.#key(user, device), { epoch: now.epoch, cursors });
  }
}

/** @param {any} value */
const isPromise = (value) => typeof value?.then === "function";

/** Let the page's own error handling see it. @param {unknown} error */
function report(error) {
  if (globalThis.reportError) globalThis.reportError(error);
  else console.error(error);
}
