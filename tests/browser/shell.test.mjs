// What `Tocsin` adds to the rules: listeners, storage, tokens and timers, on a transport that the test holds.
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { Tocsin } from "../../clients/js/tocsin.js";

const LOG = "inbox/normal";
const jwt = (claims) => `h.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.s`;
const TOKEN = jwt({ sub: "gräfin", exp: 1 });
const welcome = { type: "welcome", epoch: "e", heads: { [LOG]: 0 }, cursors: { [LOG]: 0 }, unread: { [LOG]: 0 }, heartbeat: 25 };
const entry = (seq) => ({ type: "notification", log: LOG, seq, id: `i${seq}`, n: seq, created_at: `t${seq}` });

const made = [];
afterEach(() => made.splice(0).forEach((client) => client.close()));

/** A client, what it said, and the hands of its server. */
function client(options = {}) {
  const said = [];
  const kept = new Map();
  const server = { said, kept, connections: 0 };
  const transport = ({ token }, ears) => {
    Object.assign(server, ears, { token, connections: server.connections + 1 });
    server.hear = (frame) => ears.text(JSON.stringify(frame));
    return { send: (data) => said.push(JSON.parse(data)), close() {} };
  };
  const store = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => void kept.set(key, value) };
  const tocsin = new Tocsin({ url: "ws://h/ws", token: async () => TOKEN, device: "d", store, transport, ...options });
  made.push(tocsin);
  return { tocsin, server };
}

async function until(holds) {
  for (let i = 0; i < 400; i += 1) {
    if (holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.fail(`never: ${holds}`);
}

async function opened(options, listener = () => {}) {
  const both = client(options);
  both.tocsin.on("notification", listener);
  await until(() => both.server.connections);
  both.server.opened();
  both.server.hear(welcome);
  return both;
}

const acks = ({ said }) => said.filter(({ type }) => type === "ack").map(({ seq }) => seq);

test("it connects with the first listener for what it brings", async () => {
  const { tocsin, server } = client();
  tocsin.on("state", () => {});
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(server.connections, 0);
  tocsin.on("unread", () => {});
  await until(() => server.connections === 1);
  assert.equal(server.token, TOKEN);
});

test("wrong options are refused at once", () => {
  assert.throws(() => client({ token: TOKEN }), TypeError);
  assert.throws(() => client({ url: "nonsense" }), TypeError);
  const { tocsin } = client();
  assert.throws(() => tocsin.history(LOG, { limit: 1_001 }), RangeError);
  assert.throws(() => tocsin.read(LOG, "7"), TypeError);
});

test("an entry is acknowledged once the promise of its listener has settled", async () => {
  const done = [];
  const { server } = await opened({}, () => new Promise((resolve) => done.push(resolve)));
  [1, 2].forEach((seq) => server.hear(entry(seq)));
  done[1]();
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.deepEqual(acks(server), []);
  done[0]();
  await until(() => acks(server).length);
  assert.deepEqual(acks(server), [2]);
});

test("without a listener for entries nothing is acknowledged or kept", async () => {
  const { tocsin, server } = client();
  tocsin.on("unread", () => {});
  await until(() => server.connections);
  server.opened();
  server.hear(welcome);
  server.hear(entry(1));
  tocsin.close();
  assert.deepEqual(acks(server), []);
  assert.ok([...server.kept.values()].every((text) => text.includes(`"${LOG}":0`)));
});

test("a listener that fails is told to `error`, with its entry, and the others go on", async () => {
  const troubles = [];
  const shown = [];
  const { tocsin, server } = await opened({}, () => {
    throw new Error("odd");
  });
  tocsin.on("error", (trouble) => troubles.push(trouble));
  tocsin.on("notification", ({ seq }) => void shown.push(seq));
  server.hear(entry(1));
  server.hear(entry(2));
  assert.deepEqual(shown, [1, 2]);
  assert.deepEqual(troubles.map(({ code, error, entry: { seq } }) => [code, error.message, seq]), [
    ["listener", "odd", 1],
    ["listener", "odd", 2],
  ]);
  await until(() => acks(server).length);
  assert.deepEqual(acks(server), [2]);
});

test("a listener may call the client, and be taken away", async () => {
  const seqs = [];
  const { tocsin, server } = await opened();
  const off = tocsin.on("notification", ({ log, seq }) => {
    seqs.push(seq);
    tocsin.read(log, seq);
    if (seq === 2) off();
  });
  [1, 2, 3].forEach((seq) => server.hear(entry(seq)));
  assert.deepEqual(seqs, [1, 2]);
  assert.deepEqual(tocsin.unread, { [LOG]: 1 });
  tocsin.close();
  assert.deepEqual(server.said.filter(({ type }) => type === "read"), [{ type: "read", log: LOG, seq: 2 }]);
});

test("a token function that fails is told and called again", async () => {
  let calls = 0;
  const troubles = [];
  const { tocsin, server } = client({
    token: async () => {
      calls += 1;
      if (calls === 1) throw new Error("backend is away");
      return TOKEN;
    },
  });
  tocsin.on("error", ({ code, error }) => troubles.push([code, error.message]));
  tocsin.on("notification", () => {});
  await until(() => server.connections);
  assert.deepEqual(troubles, [["token", "backend is away"]]);
});

test("cursors are kept by url, user and device", async () => {
  const { tocsin, server } = await opened();
  server.hear(entry(1));
  tocsin.close();
  const key = `tocsin:cursors:${JSON.stringify(["ws://h/ws", "gräfin", "d"])}`;
  assert.deepEqual(JSON.parse(server.kept.get(key)), { epoch: "e", cursors: { [LOG]: 1 } });
});

for (const text of ["nonsense", "null", "[]", '{"epoch": 7}', '{"epoch": "e", "cursors": {"a": "b"}}', '{"epoch": "e", "cursors": {"a": 1e99}}', '{"epoch": "e", "cursors": {"a": -1}}'])
  test(`what somebody else kept there is not believed: ${text}`, async () => {
    const store = { getItem: () => text, setItem() {} };
    const { server } = await opened({ store });
    assert.deepEqual(server.said[0], { type: "hello", device: "d", client: "tocsin.js" });
  });

test("the device of the token counts", async () => {
  const { server } = await opened({ token: () => jwt({ sub: "u", device: "phone" }) });
  assert.equal(server.said[0].device, "phone");
});

test("frames of other types reach those who ask for them, and none may pretend to be an event of ours", async () => {
  const heard = [];
  const { tocsin, server } = await opened();
  for (const type of ["presence", "unread", "state"]) tocsin.on(type, (detail) => heard.push([type, detail]));
  server.hear({ type: "presence", user: "u2" });
  server.hear({ type: "unread", log: LOG });
  server.hear({ type: "state" });
  assert.deepEqual(heard, [["presence", { type: "presence", user: "u2" }]]);
});

test("an expiring token is replaced", async () => {
  let calls = 0;
  const { server } = await opened({ token: () => jwt({ sub: "u", call: (calls += 1) }) });
  server.hear({ type: "token_expiring", expires_in: 30 });
  await until(() => server.said.some(({ type }) => type === "refresh"));
  assert.equal(server.said.at(-1).token, jwt({ sub: "u", call: 2 }));
});

test("what a connection says after it was left does not count", async () => {
  const shown = [];
  const { tocsin, server } = await opened({}, ({ seq }) => void shown.push(seq));
  const { hear, closed } = server;
  tocsin.close();
  hear(entry(1));
  closed(1000, "");
  assert.deepEqual(shown, []);
  assert.equal(tocsin.state, "closed");
});
