// A device in JavaScript: node client.mjs URL COUNT [CURSORS]. It says hello, acknowledges, asks for holes,
// prints each frame as a line and ends after COUNT notifications.
import WebSocket from "ws";

const [url, count, cursors] = process.argv.slice(2);
const socket = new WebSocket(url, { perMessageDeflate: false });
let left = Number(count);

const say = (frame) => socket.send(JSON.stringify(frame));

socket.on("open", () => say({ type: "hello", client: "node", ...(cursors ? JSON.parse(cursors) : {}) }));
socket.on("message", (bytes, binary) => {
  if (binary) throw new Error("frames are text");
  const frame = JSON.parse(bytes.toString());
  console.log(JSON.stringify(frame));
  if (frame.type === "welcome") say({ type: "ping" });
  if (frame.type === "gap") say({ type: "sync", log: frame.log, after: frame.from - 1 });
  if (frame.type !== "notification") return;
  say({ type: "ack", log: frame.log, seq: frame.seq });
  left -= 1;
  if (left === 0) setTimeout(() => socket.close(1000), 500); // acknowledgements leave in bundles
});
socket.on("close", (code, reason) =>
  console.log(JSON.stringify({ type: "closed", code, ...(reason.length ? { reason: reason.toString() } : {}) })),
);
socket.on("error", (error) => {
  console.error(String(error));
  process.exitCode = 1;
});
