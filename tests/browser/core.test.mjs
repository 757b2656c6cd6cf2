// The rules of clients/js/tocsin.js, one by one, without a network: events in, effects out.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Core, pause } from "../../clients/js/tocsin.js";

const LOG = "inbox/normal";

const of = (effects, kind) => effects.filter((effect) => effect.do === kind);
const frames = (effects) => of(effects, "send").map(({ frame }) => frame);
const said = (effects, type) => frames(effects).filter((frame) => frame.type === type);
const events = (effects, type) => of(effects, "emit").filter((e) => e.type === type).map(({ detail }) => detail);
const shown = (effects) => of(effects, "show").map(({ entry }) => entry.seq);
const timer = (effects, name) => of(effects, "timer").find((effect) => effect.name === name);

const entry = (seq, more = {}) => ({ type: "notification", log: LOG, seq, id: `i${seq}`, n: seq, created_at: `t${seq}`, ...more });
const welcome = ({ head = 0, cursor = 0, unread = head, epoch = "e1" } = {}) => ({
  type: "welcome", session: "s", user: "u", device: "d", epoch, heartbeat: 25, gateway: "g",
  heads: { [LOG]: head }, cursors: { [LOG]: cursor }, unread: { [LOG]: unread },
});

class Client {
  core = new Core();
  constructor(saved = null) {
    this.saved = saved;
  }
  take(event) {
    return this.core.take(event);
  }
  frame(frame) {
    return this.take({ type: "frame", frame });
  }
  connect(user = "u") {
    this.take({ type: "start" });
    this.take({ type: "token", token: "t", user, device: "d", saved: this.saved });
    return this.take({ type: "opened" });
  }
  open(options) {
    this.connect();
    return this.frame(welcome(options));
  }
  lose(code, reason = "") {
    return this.take({ type: "lost", code, reason });
  }
  again(options) {
    this.take({ type: "timer", name: "retry" });
    this.take({ type: "token", token: "t", user: "u", device: "d", saved: this.saved });
    return [...this.take({ type: "opened" }), ...this.frame(welcome(options))];
  }
  settle(seq, { heard = true, id = `i${seq}` } = {}) {
    return this.take({ type: "settled", log: LOG, key: JSON.stringify([LOG, id, `t${seq}`]), heard });
  }
  flush() {
    return this.take({ type: "timer", name: "flush" });
  }
  show(...seqs) {
    for (const seq of seqs) {
      this.frame(entry(seq));
      this.settle(seq);
    }
    return this;
  }
  history(options = {}) {
    return this.take({ type: "history", id: 1, log: LOG, before: Infinity, limit: 20, ...options });
  }
}

const opened = (options) => {
  const client = new Client();
  client.open(options);
  return client;
};

describe("pauses", () => {
  const cases = [
    [4000, 0, null, [250, 1_000]],
    [1006, 3, null, [2_000, 8_000]],
    [1006, 50, null, [7_500, 30_000]],
    [4001, 0, 480, [480, 730]],
    [4001, 0, null, [250, 1_000]],
    [4005, 0, null, [0, 250]],
    [4005, 2, null, [1_000, 4_000]],
    [4006, 0, null, [5_000, 6_000]],
    [4007, 0, null, [30_000, 39_000]],
    [4050, 0, null, [250, 1_000]],
    [1000, 0, null, [250, 1_000]],
    [4101, 0, null, null],
    [4103, 0, null, null],
    [4104, 0, null, null],
    [4105, 0, null, null],
    [4199, 0, null, null],
  ];
  for (const [code, attempts, after, expected] of cases)
    test(`${code} after ${attempts} attempts`, () => assert.deepEqual(pause(code, attempts, after), expected));
});

describe("connections", () => {
  test("a token is asked for, then hello says who and where", () => {
    const client = new Client({ epoch: "e1", cursors: { [LOG]: 7 } });
    assert.equal(of(client.take({ type: "start" }), "token").length, 1);
    assert.deepEqual(of(client.take({ type: "token", token: "t", user: "u", device: "d", saved: client.saved }), "open"), [
      { do: "open", token: "t" },
    ]);
    assert.deepEqual(frames(client.take({ type: "opened" })), [
      { type: "hello", device: "d", epoch: "e1", cursors: { [LOG]: 7 }, client: "tocsin.js" },
    ]);
  });

  test("a browser that was never here brings no cursors and takes those of welcome", () => {
    const client = new Client();
    assert.deepEqual(frames(client.connect()), [{ type: "hello", device: "d", client: "tocsin.js" }]);
    client.frame(welcome({ head: 9, cursor: 5 }));
    assert.equal(client.core.logs.get(LOG).cursor, 5);
    assert.deepEqual(shown(client.frame(entry(5))), []);
    assert.deepEqual(shown(client.frame(entry(6))), [6]);
  });

  test("a second connection brings what this page received, not what another tab saved", () => {
    const client = opened().show(1, 2);
    client.saved = { epoch: "e1", cursors: { [LOG]: 90 } };
    client.lose(4000);
    const [hello] = said(client.again(), "hello");
    assert.deepEqual(hello.cursors, { [LOG]: 2 });
  });

  test("cursors of one user are never brought for another", () => {
    const client = opened().show(1, 2);
    client.lose(4005);
    client.take({ type: "timer", name: "retry" });
    client.take({ type: "token", token: "t2", user: "other", device: "d", saved: null });
    assert.deepEqual(said(client.take({ type: "opened" }), "hello"), [{ type: "hello", device: "d", client: "tocsin.js" }]);
  });

  test("a refused token is asked for once more, and then the client is denied", () => {
    const client = new Client();
    client.connect();
    assert.deepEqual(timer(client.lose(4101, "bad token"), "retry"), { do: "timer", name: "retry", least: 0, most: 250 });
    client.take({ type: "timer", name: "retry" });
    client.take({ type: "token", token: "t", user: "u", device: "d", saved: null });
    client.take({ type: "opened" });
    const effects = client.lose(4101, "bad token");
    assert.deepEqual(events(effects, "state"), [{ state: "denied", code: 4101, reason: "bad token" }]);
    assert.equal(timer(effects, "retry"), undefined);
    assert.equal(of(client.take({ type: "wake" }), "token").length, 0);
    assert.equal(of(client.take({ type: "start" }), "token").length, 1, "the page may try again");
  });

  test("a token that is refused after a good session is asked for anew each time", () => {
    const client = opened();
    client.lose(4101);
    client.again();
    assert.equal(client.core.state, "open");
    client.lose(4101);
    assert.equal(client.core.state, "waiting");
  });

  test("no token means signed out", () => {
    const client = new Client();
    client.take({ type: "start" });
    const effects = client.take({ type: "token", token: null, user: null, device: "d", saved: null });
    assert.deepEqual(events(effects, "state"), [{ state: "denied", code: 0, reason: "there is no token" }]);
  });

  for (const code of [4103, 4104, 4105])
    test(`${code} ends it`, () => {
      const client = opened();
      assert.equal(timer(client.lose(code, "why"), "retry"), undefined);
      assert.equal(client.core.state, "denied");
    });

  test("pauses grow until a session has lasted", () => {
    const client = opened();
    const waits = [];
    for (let i = 0; i < 3; i += 1) {
      waits.push(timer(client.lose(4000), "retry").most);
      client.again();
    }
    assert.deepEqual(waits, [1_000, 2_000, 4_000]);
    client.take({ type: "timer", name: "stable" });
    assert.equal(timer(client.lose(4000), "retry").most, 1_000);
  });

  test("the time that the server named is waited for", () => {
    const client = opened();
    client.frame({ type: "reconnect", after: 900, to: null });
    assert.deepEqual(timer(client.lose(4001), "retry"), { do: "timer", name: "retry", least: 900, most: 1_150 });
    assert.equal(timer(client.take({ type: "wake" }), "retry"), undefined, "and not cut short");
  });

  test("waking cuts an ordinary pause short", () => {
    const client = opened();
    client.lose(1006);
    assert.deepEqual(timer(client.take({ type: "wake" }), "retry"), { do: "timer", name: "retry", least: 0, most: 1_000 });
  });

  test("a quiet connection is asked, and left when it does not answer", () => {
    const client = opened();
    client.take({ type: "timer", name: "idle" }); // something was heard before
    assert.deepEqual(frames(client.take({ type: "timer", name: "idle" })), [{ type: "ping" }]);
    client.frame({ type: "pong" });
    assert.ok(timer(client.take({ type: "timer", name: "pong" }), "idle"));
    client.take({ type: "timer", name: "idle" });
    const effects = client.take({ type: "timer", name: "pong" });
    assert.equal(of(effects, "drop").length, 1);
    assert.equal(client.core.state, "waiting");
  });

  test("waking asks the connection, once however often", () => {
    const client = opened();
    assert.equal(said(client.take({ type: "wake" }), "ping").length, 1);
    assert.equal(frames(client.take({ type: "wake" })).length, 0);
  });

  test("a timer that rings late asks again before it gives up", () => {
    const client = opened();
    client.take({ type: "wake" });
    assert.equal(said(client.take({ type: "timer", name: "pong", late: true }), "ping").length, 1);
    assert.equal(client.core.state, "open");
  });

  test("an expiring token is replaced in the session", () => {
    const client = opened();
    assert.equal(of(client.frame({ type: "token_expiring", expires_in: 30 }), "refresh").length, 1);
    assert.deepEqual(frames(client.take({ type: "refreshed", token: "t2" })), [{ type: "refresh", token: "t2" }]);
  });

  test("after close nothing happens any more", () => {
    const client = opened();
    client.take({ type: "close" });
    assert.deepEqual(client.take({ type: "start" }), []);
    assert.deepEqual(client.take({ type: "wake" }), []);
    assert.deepEqual(client.history(), [{ do: "reject", id: 1, reason: "closed" }]);
  });
});

describe("entries", () => {
  test("what is at or below the cursor is dropped", () => {
    const client = opened();
    assert.deepEqual([1, 1, 2, 1].flatMap((seq) => shown(client.frame(entry(seq)))), [1, 2]);
  });

  test("a skip raises the cursor, and is acknowledged", () => {
    const client = opened();
    client.frame({ type: "skip", log: LOG, from: 1, to: 4, reason: "expired" });
    assert.deepEqual(shown(client.frame(entry(5))), [5]);
    assert.deepEqual(said(client.flush(), "ack"), [{ type: "ack", log: LOG, seq: 4 }]);
  });

  test("a hole is asked for once, and what lies beyond it comes with it", () => {
    const client = opened();
    const effects = client.frame(entry(3));
    assert.deepEqual(shown(effects), []);
    assert.equal(said(effects, "sync")[0].after, 0);
    assert.deepEqual(frames(client.frame(entry(4))), []);
    assert.deepEqual([1, 2, 3, 4].flatMap((seq) => shown(client.frame(entry(seq)))), [1, 2, 3, 4]);
    assert.deepEqual(frames(client.frame({ type: "synced", log: LOG, head: 4 })), []);
  });

  test("an ack stops before the first entry whose listeners are not done", () => {
    const client = opened();
    for (const seq of [1, 2, 3]) client.frame(entry(seq));
    client.settle(1);
    client.settle(3);
    assert.deepEqual(said(client.flush(), "ack"), [{ type: "ack", log: LOG, seq: 1 }]);
    client.settle(2);
    assert.deepEqual(said(client.flush(), "ack"), [{ type: "ack", log: LOG, seq: 3 }]);
  });

  test("what nobody listened to is neither saved nor acknowledged", () => {
    const client = opened().show(1);
    client.frame(entry(2));
    client.settle(2, { heard: false });
    client.show(3);
    const effects = client.flush();
    assert.deepEqual(said(effects, "ack"), [{ type: "ack", log: LOG, seq: 1 }]);
    assert.deepEqual(of(effects, "save")[0].saved, { epoch: "e1", cursors: { [LOG]: 1 } });
  });

  test("acks are bundled, and saved before they are said", () => {
    const client = opened();
    for (let seq = 1; seq <= 100; seq += 1) client.show(seq);
    const effects = client.flush().filter((effect) => effect.do === "save" || effect.frame?.type === "ack");
    assert.deepEqual(effects, [
      { do: "save", user: "u", device: "d", saved: { epoch: "e1", cursors: { [LOG]: 100 } } },
      { do: "send", frame: { type: "ack", log: LOG, seq: 100 } },
    ]);
  });

  test("a page that goes away saves and acknowledges at once", () => {
    assert.deepEqual(said(opened().show(1).take({ type: "hide" }), "ack"), [{ type: "ack", log: LOG, seq: 1 }]);
  });

  test("what was acknowledged in a session that was lost is said again", () => {
    const client = opened().show(1);
    client.flush();
    client.lose(4000);
    assert.deepEqual(said(client.again({ head: 1, cursor: 1 }), "ack"), [{ type: "ack", log: LOG, seq: 1 }]);
  });

  test("too_long goes on after the head, and the page is told", () => {
    const client = opened().show(1);
    const effects = client.frame({ type: "too_long", log: LOG, head: 90 });
    assert.deepEqual(events(effects, "too_long"), [{ log: LOG, head: 90 }]);
    assert.deepEqual(shown(client.frame(entry(91))), [91]);
  });

  test("after a reset the same records are known again, and others with their seqs are shown", () => {
    const client = opened().show(1, 2, 3);
    client.lose(4000);
    const told = client.again({ epoch: "e2", head: 4 });
    assert.deepEqual(client.frame({ type: "reset", log: LOG, head: 0 }), [], "it is told once");
    const effects = told;
    assert.deepEqual(events(effects, "reset"), [{ log: LOG, head: 0 }]);
    assert.deepEqual([1, 2].flatMap((seq) => shown(client.frame(entry(seq)))), [], "the store was filled again");
    assert.deepEqual(shown(client.frame(entry(3, { id: "new" }))), [3]);
    assert.deepEqual(shown(client.frame(entry(4))), [4]);
  });

  test("what settles after a reset counts only once it is there again", () => {
    const client = opened();
    client.frame(entry(1));
    client.frame(entry(2));
    client.lose(4000);
    client.again({ epoch: "e2", head: 2 });
    client.settle(1);
    assert.deepEqual(said(client.flush(), "ack"), []);
    assert.deepEqual([1, 2].flatMap((seq) => shown(client.frame(entry(seq)))), []);
    assert.deepEqual(said(client.flush(), "ack"), [{ type: "ack", log: LOG, seq: 1 }], "2 was shown, and is not done");
    client.settle(2);
    assert.deepEqual(said(client.flush(), "ack"), [{ type: "ack", log: LOG, seq: 2 }]);
  });
});

describe("unread", () => {
  test("it begins with what welcome says, and new entries are added by their count", () => {
    const client = opened({ head: 2, cursor: 0, unread: 2 }).show(1, 2);
    assert.deepEqual(client.core.unread, { [LOG]: 2 });
    client.frame(entry(3, { n: 3 }));
    client.frame(entry(4, { n: 3 })); // for this device alone
    assert.deepEqual(client.core.unread, { [LOG]: 3 });
    client.frame({ type: "skip", log: LOG, from: 5, to: 5, reason: "other_device" });
    client.frame(entry(6, { n: 3 }));
    client.frame(entry(7, { n: 4 }));
    assert.deepEqual(client.core.unread, { [LOG]: 4 });
  });

  test("read takes off what it covers, and is said once", () => {
    const client = opened().show(1, 2, 3, 4);
    assert.deepEqual(events(client.take({ type: "read", log: LOG, seq: 3 }), "unread"), [{ [LOG]: 1 }]);
    assert.deepEqual(said(client.flush(), "read"), [{ type: "read", log: LOG, seq: 3 }]);
    client.take({ type: "read", log: LOG, seq: 2 });
    assert.deepEqual(said(client.flush(), "read"), []);
  });

  test("nothing is said to be read that has not come", () => {
    const client = opened().show(1);
    client.take({ type: "read", log: LOG, seq: 99 });
    assert.deepEqual(said(client.flush(), "read"), [{ type: "read", log: LOG, seq: 1 }]);
    assert.deepEqual(client.core.unread, { [LOG]: 0 });
    client.show(2);
    assert.deepEqual(client.core.unread, { [LOG]: 1 });
  });

  test("read before the first welcome is said with it", () => {
    const client = new Client();
    client.take({ type: "read", log: LOG, seq: 3 });
    client.connect();
    const effects = client.frame(welcome({ head: 5, cursor: 5, unread: 5 }));
    assert.deepEqual(said(effects, "read"), [{ type: "read", log: LOG, seq: 3 }]);
  });

  test("read while the backlog is coming counts when all is here", () => {
    const client = opened({ head: 3, cursor: 0, unread: 3 }).show(1);
    client.take({ type: "read", log: LOG, seq: 1 });
    assert.deepEqual(client.core.unread, { [LOG]: 3 });
    client.show(2, 3);
    assert.deepEqual(client.core.unread, { [LOG]: 2 });
  });

  test("read without a connection is said with the next", () => {
    const client = opened().show(1);
    client.lose(1006);
    client.take({ type: "read", log: LOG, seq: 1 });
    const effects = client.again({ head: 1, cursor: 1, unread: 1 });
    assert.deepEqual(said(effects, "read"), [{ type: "read", log: LOG, seq: 1 }]);
    assert.deepEqual(client.core.unread, { [LOG]: 0 });
  });
});

describe("history", () => {
  const page = (client, from, to) => {
    const effects = [];
    for (let seq = from; seq <= to; seq += 1) effects.push(...client.frame(entry(seq)));
    return effects;
  };

  test("the last ones lie at or below the cursor, and live goes on after them", () => {
    const client = opened({ head: 103, cursor: 100 });
    assert.deepEqual(frames(client.history({ limit: 5 })), [
      { type: "sync", log: LOG, after: 95, limit: 5, id: `history:${LOG}` },
    ]);
    assert.deepEqual(shown(client.frame(entry(101))), [101], "it was on its way");
    assert.deepEqual(shown(page(client, 96, 100)), []);
    const effects = client.frame({ type: "gap", log: LOG, from: 101, to: 103 });
    assert.deepEqual(said(effects, "sync").map(({ after, limit, id }) => [after, limit, id]), [[101, 52, `resume:${LOG}`]]);
    assert.deepEqual(shown(page(client, 102, 103)), [102, 103]);
    const [{ entries }] = of(client.frame({ type: "synced", log: LOG, head: 103 }), "resolve");
    assert.deepEqual(entries.map(({ seq }) => seq), [96, 97, 98, 99, 100]);
  });

  test("at the end of the log nothing has to be resumed", () => {
    const client = opened({ head: 9, cursor: 9 });
    client.history({ limit: 2 });
    page(client, 8, 9);
    const effects = client.frame({ type: "synced", log: LOG, head: 9 });
    assert.deepEqual(frames(effects), []);
    assert.deepEqual(of(effects, "resolve")[0].entries.map(({ seq }) => seq), [8, 9]);
  });

  test("skips are paged over until there are enough", () => {
    const client = opened({ head: 9, cursor: 9 });
    client.history({ limit: 2 });
    client.frame({ type: "skip", log: LOG, from: 8, to: 9, reason: "expired" });
    const [next] = said(client.frame({ type: "synced", log: LOG, head: 9 }), "sync");
    assert.deepEqual([next.after, next.limit], [3, 4]);
    page(client, 4, 7);
    client.frame({ type: "gap", log: LOG, from: 8, to: 9 });
    const [{ entries }] = of(client.frame({ type: "synced", log: LOG, head: 9 }), "resolve");
    assert.deepEqual(entries.map(({ seq }) => seq), [6, 7]);
  });

  test("the beginning of the log ends it", () => {
    const client = opened({ head: 3, cursor: 3 });
    assert.deepEqual(said(client.history(), "sync")[0].after, 0);
    page(client, 1, 3);
    assert.equal(of(client.frame({ type: "synced", log: LOG, head: 3 }), "resolve")[0].entries.length, 3);
    assert.deepEqual(of(client.history({ before: 1 }), "resolve"), [{ do: "resolve", id: 1, entries: [] }]);
  });

  test("a gap that is told again does not end the next page", () => {
    const client = opened({ head: 100, cursor: 100 });
    client.history({ before: 50, limit: 2 });
    page(client, 48, 49);
    client.frame({ type: "gap", log: LOG, from: 50, to: 100 });
    client.frame({ type: "gap", log: LOG, from: 50, to: 101 }); // was on its way when live was resumed
    assert.ok(client.core.logs.get(LOG).page, "live is still to be resumed");
    assert.deepEqual(shown(client.frame(entry(101))), [101]);
  });

  test("far behind, live delivery is resumed page by page, and history takes its turn between them", () => {
    const client = opened({ head: 5_000, cursor: 10 });
    client.history({ limit: 2 });
    page(client, 9, 10);
    const [resume] = said(client.frame({ type: "gap", log: LOG, from: 11, to: 5_000 }), "sync");
    assert.deepEqual([resume.after, resume.limit], [10, 1_000]);
    client.history({ before: 5, limit: 2 });
    page(client, 11, 1_010);
    const [next] = said(client.frame({ type: "gap", log: LOG, from: 1_011, to: 5_000 }), "sync");
    assert.deepEqual([next.after, next.limit], [2, 2]);
    page(client, 3, 4);
    const [again] = said(client.frame({ type: "gap", log: LOG, from: 5, to: 5_000 }), "sync");
    assert.deepEqual([again.after, again.limit], [1_010, 1_000]);
  });

  test("a lost connection begins the page again", () => {
    const client = opened({ head: 50, cursor: 50 });
    client.history({ limit: 3 });
    client.frame(entry(48));
    client.lose(1006);
    assert.deepEqual(said(client.again({ head: 50, cursor: 50 }), "sync").map(({ after }) => after), [47]);
    page(client, 48, 50);
    const [{ entries }] = of(client.frame({ type: "synced", log: LOG, head: 50 }), "resolve");
    assert.deepEqual(entries.map(({ seq }) => seq), [48, 49, 50]);
  });

  test("a reset begins what was asked for anew", () => {
    const client = opened({ head: 50, cursor: 50 });
    client.history({ before: 40, limit: 3 });
    page(client, 37, 38);
    client.frame({ type: "skip", log: LOG, from: 39, to: 39, reason: "expired" });
    client.frame({ type: "gap", log: LOG, from: 40, to: 50 });
    client.lose(4000);
    const [next] = said(client.again({ head: 9, cursor: 9, epoch: "e2" }), "sync");
    assert.deepEqual([next.after, next.limit], [3, 6]);
    page(client, 4, 9);
    const [{ entries }] = of(client.frame({ type: "synced", log: LOG, head: 9 }), "resolve");
    assert.deepEqual(entries.map(({ seq }) => seq), [7, 8, 9]);
  });

  test("what is refused is rejected, what is too much is asked for later", () => {
    const client = opened({ head: 50, cursor: 50 });
    client.history();
    const busy = client.frame({ type: "error", code: "rate_limited", message: "slower", ref: `history:${LOG}` });
    assert.ok(timer(busy, "history"));
    assert.equal(said(client.take({ type: "timer", name: "history" }), "sync").length, 1);
    const effects = client.frame({ type: "error", code: "forbidden", message: "no", ref: `history:${LOG}` });
    assert.deepEqual(of(effects, "reject"), [{ do: "reject", id: 1, reason: "forbidden: no" }]);
  });

  test("if live delivery may not be resumed the session is left, since its log would stand still", () => {
    const client = opened();
    client.frame(entry(5));
    const effects = client.frame({ type: "error", code: "rate_limited", message: "slower", ref: `resume:${LOG}` });
    assert.equal(of(effects, "drop").length, 1);
    assert.deepEqual(timer(effects, "retry"), { do: "timer", name: "retry", least: 5_000, most: 6_000 });
  });

  test("a log that does not exist is said so", () => {
    const client = opened();
    assert.match(of(client.history({ log: "nonsense" }), "reject")[0].reason, /no log/);
  });
});
