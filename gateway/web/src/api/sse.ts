// A stream of server-sent events that outlives its connection. The browser's own EventSource gives up for ever when a
// restarting server answers 502 or 503, and cannot be given a position; this one keeps trying and always says from where.
import { type SseMessage, SseParser } from "./sse-parser";

export type StreamState = "connecting" | "live" | "waiting";

export interface StreamOptions {
  url: string;
  onMessage: (message: SseMessage) => void;
  /** `waiting` also tells when the next attempt will be made, in milliseconds since the epoch. */
  onState: (state: StreamState, retryAtMs?: number) => void;
  /** After each connection; `resumed` tells whether the server was given a position to go on from. */
  onOpen: (resumed: boolean) => void;
}

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 8_000;
/** The gateway sends a comment every 15 s: after three of them have failed to come, the connection is dead. */
const SILENCE_LIMIT_MS = 45_000;

export class EventStream {
  private lastEventId: string | undefined;
  private controller: AbortController | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private failures = 0;
  private stopped = true;

  private readonly options: StreamOptions;

  constructor(options: StreamOptions) {
    this.options = options;
  }

  /** The id of the last event that was received. */
  get position(): string | undefined {
    return this.lastEventId;
  }

  start(): void {
    if (!this.stopped) return;
    this.stopped = false;
    this.failures = 0;
    void this.connect();
  }

  /** Closes the connection; a later start goes on after the last event that was seen. */
  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
    this.controller?.abort();
  }

  /** Tries at once instead of waiting for the next attempt. */
  retryNow(): void {
    if (this.stopped || this.timer === undefined) return;
    clearTimeout(this.timer);
    void this.connect();
  }

  private async connect(): Promise<void> {
    this.timer = undefined;
    const controller = new AbortController();
    this.controller = controller;
    this.options.onState("connecting");
    try {
      const response = await fetch(this.options.url, {
        headers: {
          accept: "text/event-stream",
          ...(this.lastEventId ? { "last-event-id": this.lastEventId } : {}),
        },
        cache: "no-store",
        signal: controller.signal,
      });
      // A position that the server no longer knows: begin afresh, with a snapshot.
      if ([400, 410, 422].includes(response.status)) this.lastEventId = undefined;
      if (!response.ok || !response.body) throw new Error(`HTTP ${response.status}`);
      this.failures = 0;
      this.options.onState("live");
      this.options.onOpen(this.lastEventId !== undefined);
      await this.read(response.body, controller);
    } catch {
      // Every way to fail ends the same: say so and try again.
    }
    if (!this.stopped && this.controller === controller) this.scheduleRetry();
  }

  private async read(body: ReadableStream<Uint8Array>, controller: AbortController): Promise<void> {
    const parser = new SseParser();
    const decoder = new TextDecoder();
    const reader = body.getReader();
    let watchdog: ReturnType<typeof setTimeout> | undefined;
    try {
      for (;;) {
        clearTimeout(watchdog);
        watchdog = setTimeout(() => controller.abort(), SILENCE_LIMIT_MS);
        const { done, value } = await reader.read();
        if (done) return;
        for (const message of parser.push(decoder.decode(value, { stream: true }))) {
          if (message.id !== undefined) this.lastEventId = message.id;
          this.options.onMessage(message);
        }
      }
    } finally {
      clearTimeout(watchdog);
    }
  }

  private scheduleRetry(): void {
    const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** this.failures);
    this.failures += 1;
    this.options.onState("waiting", Date.now() + pauseMs);
    this.timer = setTimeout(() => void this.connect(), pauseMs);
  }
}
