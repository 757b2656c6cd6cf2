// How a page in TypeScript uses the client: compiled against its declarations, never run.
import { Tocsin, type Entry } from "../../clients/js/tocsin.js";

const tocsin = new Tocsin({ url: "/ws", token: async () => null, device: "d", store: sessionStorage });
const off: () => void = tocsin.on("notification", (entry) => entry.seq.toFixed());
tocsin.on("state", ({ state, code, reason }) => [state === "denied", code + 1, reason.length]);
tocsin.on("unread", (unread) => (unread["inbox/normal"] ?? 0) + 1);
tocsin.on("error", async ({ entry }) => entry?.title);
tocsin.on("presence", (frame) => frame.anything);
export const last: Promise<Entry[]> = tocsin.history("inbox/normal", { limit: 20, before: 7 });
tocsin.read("inbox/normal", 3);
off();
tocsin.close();
// @ts-expect-error a token is a function
new Tocsin({ url: "/ws", token: "text" });
// @ts-expect-error there is no such state
tocsin.state === "away";
