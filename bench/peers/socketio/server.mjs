// socket.io with its Redis Streams adapter and connection state recovery, as its documentation shows them.
//
//   node server.mjs hold PORT REDIS_URL SECRET   holds connections
//   node server.mjs feed REDIS_URL               publishes what the Redis channel `bench` brings
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-streams-adapter";
import jwt from "jsonwebtoken";
import { createClient } from "redis";
import { Server } from "socket.io";

const EVERYBODY = 0xffffffff;
const [role, ...rest] = process.argv.slice(2);
const [port, url, secret] = role === "hold" ? rest : [0, ...rest];

const redis = createClient({ url });
await redis.connect();
const http = createServer();
const io = new Server(http, {
  adapter: createAdapter(redis, { maxLen: 100_000, blockTimeInMs: 1000 }),
  connectionStateRecovery: { maxDisconnectionDuration: 120_000, skipMiddlewares: true },
  transports: ["websocket"],
  perMessageDeflate: false,
});

if (role === "hold") {
  io.use((socket, next) => {
    try {
      socket.data.user = jwt.verify(socket.handshake.query.token, secret, { algorithms: ["HS256"] }).sub;
      next();
    } catch (error) {
      next(error);
    }
  });
  io.on("connection", (socket) => socket.join(socket.data.user));
  http.listen(Number(port), "127.0.0.1", () => console.log("ready"));
} else {
  const bench = redis.duplicate();
  await bench.connect();
  await bench.subscribe(
    "bench",
    (message) => {
      for (let at = 0; at < message.length; ) {
        const user = message.readUInt32LE(at);
        const size = message.readUInt32LE(at + 4);
        const payload = JSON.parse(message.toString("utf8", at + 8, at + 8 + size));
        (user === EVERYBODY ? io : io.to(`u${user}`)).emit("m", payload);
        at += 8 + size;
      }
    },
    true,
  );
  console.log("ready");
}
