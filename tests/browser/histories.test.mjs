// Random histories of a server, a network that breaks, and pages that come and go: what each page shows, and what is
// acknowledged, must be right in every one. SEED=n runs that one again, HISTORIES=n tries so many.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Core } from "../../clients/js/tocsin.js";

const HISTORIES = Number(process.env.HISTORIES ?? 400);
const FIRST = Number(process.env.SEED ?? 0);
const STEPS = 400;
const BACKLOG = 60; // entries sent unasked
const LOGS = ["inbox/critical", "inbox/normal"];

/** Chance that can be had again. */
class Chance {
  constructor(seed) {
    this.state = seed * 2654435761 + 1;
  }
  next() {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }
  below(n) {
    return Math.floor(this.next() * n);
  }
  of(list) {
    return list[this.below(list.length)];
  }
  hit(share) {
    return this.next() < share;
  }
}

/** The logs of one user, and what the device has acknowledged. */
class Store {
  epoch = 1;
  published = 0;
  rows = new Map(LOGS.map((log) => [log, []])); // a row is the id of an entry, or null: nothing for this device
  cursors = new Map();
  passed = new Set(); // by too_long, or lost with a store
  head(log) {
    return this.rows.get(log).length;
  }
  publish(log, visible) {
    this.rows.get(log).push(visible ? `${log}:${(this.published += 1)}` : null);
  }
  anew({ empty }) {
    this.epoch += 1;
    this.cursors.clear();
    if (empty) for (const rows of this.rows.values()) for (const id of rows.splice(0)) this.passed.add(id);
  }
}

/** One connection as the gateway keeps it, with what is on its way in both directions. */
class Link {
  down = [];
  up = [];
  logs = new Map();
  constructor(store, judge) {
    this.store = store;
    this.judge = judge;
  }
  say(frame) {
    this.down.push(JSON.stringify(frame));
  }
  hello({ epoch, cursors = {} }) {
    const heads = {}, starts = {}, notices = [];
    this.epoch = this.store.epoch;
    for (const log of LOGS) {
      const head = (heads[log] = this.store.head(log));
      const stored = this.store.cursors.get(log) ?? 0;
      const brought = cursors[log];
      const void_ = brought !== undefined && (epoch !== `e${this.epoch}` || brought > head);
      let after = brought === undefined || void_ ? stored : brought;
      let notice = void_ ? "reset" : "";
      if (head - after > BACKLOG) {
        this.judge.passes(log, after, head);
        after = head;
        notice = "too_long";
      }
      if (notice) notices.push({ type: notice, log, head: after });
      starts[log] = after;
      this.logs.set(log, { name: log, expected: after + 1, until: 0, syncing: false, announced: 0 });
    }
    const unread = Object.fromEntries(LOGS.map((log) => [log, 0]));
    this.say({ type: "welcome", epoch: `e${this.epoch}`, heads, cursors: starts, unread, heartbeat: 25 });
    notices.forEach((notice) => this.say(notice));
  }
  /** Hand on as much as `most` rows of a log. */
  pump(log, most) {
    const reading = this.logs.get(log);
    if (!reading) return;
    const head = this.store.head(log);
    const end = reading.until ? Math.min(reading.until, head) : head;
    for (let i = 0; i < most && reading.expected <= end; i += 1) this.hand(reading);
    if (reading.syncing && reading.expected > head) {
      Object.assign(reading, { syncing: false, until: 0 });
      this.say({ type: "synced", log, head });
    } else if (reading.until && reading.expected > reading.until && (reading.syncing || head > reading.announced)) {
      Object.assign(reading, { syncing: false, announced: head });
      this.say({ type: "gap", log, from: reading.expected, to: head });
    }
  }
  hand(reading) {
    const rows = this.store.rows.get(reading.name);
    const from = reading.expected;
    const id = rows[from - 1];
    if (id) this.say({ type: "notification", log: reading.name, seq: from, id, n: from, created_at: id });
    else {
      while (rows[reading.expected] === null && (!reading.until || reading.expected < reading.until)) reading.expected += 1;
      this.say({ type: "skip", log: reading.name, from, to: reading.expected, reason: "expired" });
    }
    reading.expected += 1;
  }
  hear(frame) {
    if (frame.type === "hello") this.hello(frame);
    else if (frame.type === "sync") {
      const reading = this.logs.get(frame.log);
      Object.assign(reading, { expected: frame.after + 1, until: frame.after + frame.limit, syncing: true });
    } else if (frame.type === "ack" && this.epoch === this.store.epoch) {
      this.judge.acknowledged(frame.log, frame.seq);
      this.store.cursors.set(frame.log, Math.max(frame.seq, this.store.cursors.get(frame.log) ?? 0));
    } else if (frame.type === "ping") this.say({ type: "pong" });
  }
}

/** A page: the core, and what performs its effects. */
class Page {
  core = new Core();
  shown = [];
  newest = new Map(); // by log, since the last reset
  pending = [];
  timers = new Set();
  calls = new Map();
  link = null;
  constructor(store, saved, judge) {
    Object.assign(this, { store, saved, judge });
    this.take({ type: "start" });
  }
  take(event) {
    for (const effect of this.core.take(event)) this.perform(effect);
  }
  perform(effect) {
    const { saved } = this;
    if (effect.do === "token") this.take2 = () => this.take({ type: "token", token: "t", user: "u", device: "d", saved: saved.now });
    else if (effect.do === "open") this.link = new Link(this.store, this.judge);
    else if (effect.do === "drop") this.link = null;
    else if (effect.do === "send") this.link?.up.push(effect.frame);
    else if (effect.do === "timer") this.timers.add(effect.name);
    else if (effect.do === "cancel") this.timers.delete(effect.name);
    else if (effect.do === "show") this.show(effect);
    else if (effect.do === "save") saved.raise(effect.saved);
    else if (effect.do === "resolve") this.judge.answered(this.calls.get(effect.id), effect.entries, this.core.epoch);
    else if (effect.do === "reject") assert.fail(`history was refused: ${effect.reason}`);
    else if (effect.type === "reset") this.newest.delete(effect.detail.log);
    else if (effect.type === "state") assert.notEqual(effect.detail.state, "denied");
  }
  show({ entry, key }) {
    const before = this.newest.get(entry.log);
    this.newest.set(entry.log, entry);
    assert.ok(!this.shown.some(({ id }) => id === entry.id), `${entry.id} was shown twice`);
    if (before) assert.ok(number(before.id) < number(entry.id), `${entry.id} was shown after ${before.id}`);
    this.shown.push(entry);
    this.pending.push({ type: "settled", log: entry.log, key, heard: true, id: entry.id });
  }
  settle(chance) {
    const [event] = this.pending.splice(chance.below(this.pending.length), 1);
    if (!event) return;
    this.judge.settled.add(event.id);
    this.take(event);
  }
  /** What happens next on this page's side. */
  move(chance) {
    if (this.take2 && chance.hit(0.5)) {
      const token = this.take2;
      this.take2 = null;
      token();
      if (this.link) this.take({ type: "opened" });
    } else if (this.link?.down.length && chance.hit(0.7)) {
      this.take({ type: "frame", frame: JSON.parse(this.link.down.shift()) });
    } else if (this.link?.up.length && chance.hit(0.7)) this.link.hear(this.link.up.shift());
    else if (this.link && chance.hit(0.6)) this.link.pump(chance.of(LOGS), 1 + chance.below(8));
    else if (chance.hit(0.5)) this.settle(chance);
    else this.ring(chance.of(["flush", "retry"]));
  }
  ring(name) {
    if (this.timers.delete(name)) this.take({ type: "timer", name });
  }
  lose(code) {
    this.link = null;
    this.take({ type: "lost", code, reason: "" });
  }
  ask(chance, id) {
    const log = chance.of(LOGS);
    const before = chance.hit(0.5) ? Infinity : 1 + chance.below(this.store.head(log) + 2);
    const limit = 1 + chance.below(12);
    this.calls.set(id, { log, before, limit, cursor: this.core.logs.get(log)?.cursor ?? 0, epoch: this.core.epoch });
    this.take({ type: "history", id, log, before, limit });
  }
}

const number = (id) => Number(id.split(":")[1]);

/** What tabs of one browser share. */
class Saved {
  now = null;
  raise({ epoch, cursors }) {
    const same = this.now?.epoch === epoch ? this.now.cursors : {};
    const raised = Object.entries(cursors).map(([log, seq]) => [log, Math.max(seq, same[log] ?? 0)]);
    this.now = { epoch, cursors: { ...same, ...Object.fromEntries(raised) } };
  }
}

/** What must hold. */
class Judge {
  settled = new Set();
  constructor(store) {
    this.store = store;
  }
  passes(log, after, to) {
    this.store.rows.get(log).slice(after, to).forEach((id) => this.store.passed.add(id));
  }
  /** Whatever is acknowledged was handled by some page, or passed over by the server's word. */
  acknowledged(log, seq) {
    for (const id of this.store.rows.get(log).slice(0, seq))
      assert.ok(id === null || this.settled.has(id) || this.store.passed.has(id), `${id} was acknowledged and not handled`);
  }
  /** History has no hole, does not end early, and reaches to where the events begin. */
  answered({ log, before, limit, cursor, epoch }, entries, now) {
    if (epoch !== now || now !== `e${this.store.epoch}`) return;
    const rows = this.store.rows.get(log);
    const visible = rows.map((id, index) => ({ id, seq: index + 1 })).filter(({ id }) => id);
    const last = entries.at(-1)?.seq ?? 0;
    const upTo = visible.filter(({ seq }) => seq <= last);
    assert.deepEqual(entries.map(({ id }) => id), upTo.slice(-limit).map(({ id }) => id));
    assert.ok(last < before);
    assert.ok(!visible.some(({ seq }) => seq > last && seq < before && seq <= cursor), "the newest are missing");
  }
  /** When all is quiet, a page has shown all that lies after where it began. */
  complete(page) {
    for (const [log, rows] of this.store.rows) {
      const ids = new Set(page.shown.map(({ id }) => id));
      const lacking = rows.filter((id) => id && !ids.has(id) && !this.store.passed.has(id) && !this.settled.has(id));
      assert.deepEqual(lacking, [], `never shown in ${log}`);
      assert.equal(page.core.logs.get(log).cursor, rows.length, `the page stands still in ${log}`);
      assert.equal(page.core.logs.get(log).floor, rows.length);
      assert.deepEqual(page.core.logs.get(log).requests, [], "history is not answered");
    }
  }
}

function live(seed) {
  const chance = new Chance(seed);
  const store = new Store();
  const judge = new Judge(store);
  const saved = new Saved();
  const fresh = () => new Page(store, saved, judge);
  const pages = Array.from({ length: 1 + chance.below(2) }, fresh);
  let calls = 0;
  for (let i = 0; i < STEPS; i += 1) {
    const at = chance.below(pages.length);
    const page = pages[at];
    if (chance.hit(0.15)) for (let n = chance.below(6); n >= 0; n -= 1) store.publish(chance.of(LOGS), chance.hit(0.75));
    else if (chance.hit(0.02)) page.lose(chance.of([1006, 4000, 4001, 4002, 4003, 4005, 4006]));
    else if (chance.hit(0.01)) {
      page.take({ type: "hide" }); // the page goes, and is loaded anew
      pages[at] = fresh();
    } else if (chance.hit(0.004)) {
      store.anew({ empty: chance.hit(0.3) });
      pages.forEach((each) => each.link && each.lose(4000));
    } else if (chance.hit(0.03)) page.ask(chance, (calls += 1));
    else if (chance.hit(0.05) && page.link?.down.length) page.link.down.splice(1, 0, page.link.down[0]); // a repeat
    else if (chance.hit(0.02)) page.take({ type: "wake" });
    else page.move(chance);
  }
  quiet(pages, chance);
  pages.forEach((page) => judge.complete(page));
}

/** Let everything arrive. */
function quiet(pages, chance) {
  for (let i = 0; i < 20_000; i += 1) {
    const page = chance.of(pages);
    page.move(chance);
    page.timers.delete("pong"); // time stands still
    if (i % 50 === 49 && pages.every((each) => rests(each))) return;
  }
}

const rests = ({ core, link, pending, timers, store }) =>
  core.state === "open" && !link.down.length && !link.up.length && !pending.length && !timers.has("flush") &&
  LOGS.every((log) => core.logs.get(log).cursor === store.head(log) && !core.logs.get(log).page);

test(`${HISTORIES} random histories from seed ${FIRST}`, () => {
  for (let seed = FIRST; seed < FIRST + (process.env.SEED ? 1 : HISTORIES); seed += 1) {
    try {
      live(seed);
    } catch (error) {
      error.message = `SEED=${seed}: ${error.message}`;
      throw error;
    }
  }
});
