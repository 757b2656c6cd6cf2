/**
 * How long to wait before the next connection: `[least, most]` in ms, of which chance takes one; null: do not connect.
 *
 * @param {number} code of the close
 * @param {number} attempts that failed since the last good session
 * @param {number | null} after what the frame `reconnect` named, in ms
 * @returns {[number, number] | null}
 */
export function pause(code: number, attempts: number, after?: number | null): [number, number] | null;
export function webSocket(at: {
    url: string;
    token: string;
}, ears: Ears): {
    send(data: string): void;
    close(): void;
};
/** What the protocol asks of a client, without I/O: `take` changes the state and returns what is to be done. */
export class Core {
    /** @type {State} */ state: State;
    /** @type {string | null} */ user: string | null;
    device: string;
    epoch: string;
    /** @type {Map<string, Log>} */ logs: Map<string, Log>;
    /** @type {Map<string, true>} */ shown: Map<string, true>;
    spoken: boolean;
    welcomed: boolean;
    heard: boolean;
    probing: boolean;
    heartbeat: number;
    attempts: number;
    renewed: boolean;
    hasty: boolean;
    /** @type {number | null} */ after: number | null;
    flushing: boolean;
    /** @type {Effect[]} */ out: Effect[];
    /** @param {Input} event @returns {Effect[]} */
    take(event: Input): Effect[];
    /** @returns {Seqs} */
    get unread(): Seqs;
    #private;
}
/**
 * A connection to Tocsin for one page. It connects with the first listener for anything but `state` and `error`.
 *
 * @example
 * const tocsin = new Tocsin({ url: "wss://example.org/ws", token: async () => (await fetch("/token")).text() });
 * tocsin.on("notification", (entry) => show(entry));
 */
export class Tocsin {
    /**
     * @param {object} options
     * @param {string} options.url of the gateway, as `wss://example.org/ws` or relative to the page
     * @param {() => string | null | Promise<string | null>} options.token gives a JWT for each connection; null: none
     * @param {string} [options.device] 1 to 64 of `A-Za-z0-9._:-`; left out, one is made for this browser
     * @param {Pick<Storage, "getItem" | "setItem">} [options.store] where device and cursors are kept; `localStorage`
     * @param {Transport} [options.transport]
     */
    constructor({ url, token, device, store, transport }: {
        url: string;
        token: () => string | null | Promise<string | null>;
        device?: string | undefined;
        store?: Pick<Storage, "getItem" | "setItem"> | undefined;
        transport?: Transport | undefined;
    });
    /** Where the connection stands. */
    get state(): State;
    /** Entries not read by the user, by log. */
    get unread(): Seqs;
    /**
     * Call `listener` for each event of a type; returns what ends that. An entry is acknowledged once its listeners have
     * returned, and the promises they returned have settled.
     *
     * @template {keyof Events | (string & {})} T
     * @param {T} type
     * @param {(detail: T extends keyof Events ? Events[T] : any) => unknown} listener
     * @returns {() => void}
     */
    on<T extends keyof Events | (string & {})>(type: T, listener: (detail: T extends keyof Events ? Events[T] : any) => unknown): () => void;
    /** Connect now, without waiting for a listener; also again after `denied`. */
    connect(): void;
    /** The user has read everything of `log` up to `seq`. @param {string} log @param {number} seq */
    read(log: string, seq: number): void;
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
    history(log: string, { before, limit }?: {
        before?: number;
        limit?: number;
    }): Promise<Entry[]>;
    /** Acknowledge what was handled, and end; there is no way back. */
    close(): void;
    #private;
}
/**
 * What carries frames: opens a connection and returns how to speak on it and how to leave it.
 */
export type Ears = {
    opened(): void;
    text(data: string): void;
    closed(code: number, reason: string): void;
};
/**
 * What carries frames: opens a connection and returns how to speak on it and how to leave it.
 */
export type Transport = (at: {
    url: string;
    token: string;
}, ears: Ears) => {
    send(data: string): void;
    close(): void;
};
export type Entry = {
    type: string;
    log: string;
    seq: number;
    id: string;
    n: number;
    lane: string;
    kind: string;
    created_at: string;
    title?: string;
    body?: string;
    data?: any;
    expires_at?: string;
    collapse_key?: string;
    replayed?: boolean;
};
export type State = "idle" | "connecting" | "open" | "waiting" | "denied" | "closed";
/**
 * `code` is that of the close that led here, else 0
 */
export type StateChange = {
    state: State;
    code: number;
    reason: string;
};
export type Trouble = {
    code: string;
    message: string;
    error?: unknown;
    entry?: Entry;
};
export type Seqs = {
    [log: string]: number;
};
export type Saved = {
    epoch: string;
    cursors: Seqs;
};
export type Events = {
    notification: Entry;
    message: Entry;
    state: StateChange;
    unread: Seqs;
    error: Trouble;
    reset: {
        log: string;
        head: number;
    };
    too_long: {
        log: string;
        head: number;
    };
};
export type Timer = "connect" | "retry" | "idle" | "pong" | "stable" | "flush" | "history";
export type Input = {
    type: "start" | "opened" | "wake" | "hide" | "close";
} | {
    type: "token";
    token: string | null;
    user: string | null;
    device: string;
    saved: Saved | null;
} | {
    type: "refreshed";
    token: string | null;
} | {
    type: "frame";
    frame: any;
} | {
    type: "lost";
    code: number;
    reason: string;
} | {
    type: "timer";
    name: Timer;
    late?: boolean;
} | {
    type: "settled";
    log: string;
    key: string;
    heard: boolean;
} | {
    type: "history";
    id: number;
    log: string;
    before: number;
    limit: number;
} | {
    type: "read";
    log: string;
    seq: number;
};
export type Effect = {
    do: "token" | "refresh" | "drop";
} | {
    do: "open";
    token: string;
} | {
    do: "send";
    frame: object;
} | {
    do: "show";
    entry: Entry;
    key: string;
} | {
    do: "emit";
    type: string;
    detail: any;
} | {
    do: "save";
    user: string;
    device: string;
    saved: Saved;
} | {
    do: "timer";
    name: Timer;
    least: number;
    most: number;
} | {
    do: "cancel";
    name: Timer;
} | {
    do: "resolve";
    id: number;
    entries: Entry[];
} | {
    do: "reject";
    id: number;
    reason: string;
};
/** One log as this page reads it. */
declare class Log {
    /** @param {string} name */
    constructor(name: string);
    /** @type {number | null} */ cursor: number | null;
    floor: number;
    /** @type {Map<string, number>} */ pending: Map<string, number>;
    unheard: number;
    /** @type {Set<string> | null} */ before: Set<string> | null;
    acked: number;
    read: number;
    readSent: number;
    unread: number;
    counted: number;
    /** @type {number | undefined} */ n: number | undefined;
    /** @type {Map<number, number>} */ counts: Map<number, number>;
    /** @type {{after: number, end: number, at: number, request: Request | null, found: Entry[]} | null} */
    page: {
        after: number;
        end: number;
        at: number;
        request: Request | null;
        found: Entry[];
    } | null;
    behind: number;
    /** @type {Request[]} */ requests: Request[];
    name: string;
    /** Begin after `seq`. @param {number} seq */
    restart(seq: number): void;
    /** Forget what was said in a session: it may have been lost with it. */
    leave(): void;
}
/** A call of `history`: what it still has to find lies before `top`. */
declare class Request {
    /** @param {number} id @param {number} before @param {number} limit */
    constructor(id: number, before: number, limit: number);
    id: number;
    before: number;
    top: number;
    limit: number;
    rows: number;
    /** @type {Entry[]} */
    found: Entry[];
}
export {};
