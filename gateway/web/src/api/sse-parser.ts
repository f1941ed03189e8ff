// Server-sent events, decoded from the text of a stream, after the standard's own rules (WHATWG HTML § 9.2.6).

export interface SseMessage {
  id: string | undefined;
  event: string;
  data: string;
}

/** Takes the stream's text in pieces of any size and yields whole messages. */
export class SseParser {
  private rest = "";
  private data: string[] = [];
  private event = "";
  private id: string | undefined;
  /** The server's wish for the pause before a reconnect, in milliseconds. */
  retryMs: number | undefined;

  push(text: string): SseMessage[] {
    const messages: SseMessage[] = [];
    this.rest += text;
    for (;;) {
      const end = this.rest.search(/[\r\n]/);
      if (end < 0) break;
      // A CR at the very end may be the first half of CRLF: wait for what follows.
      if (this.rest[end] === "\r" && end === this.rest.length - 1) break;
      const line = this.rest.slice(0, end);
      this.rest = this.rest.slice(this.rest.startsWith("\r\n", end) ? end + 2 : end + 1);
      const message = this.line(line);
      if (message) messages.push(message);
    }
    return messages;
  }

  private line(line: string): SseMessage | undefined {
    if (line === "") return this.dispatch();
    if (line.startsWith(":")) return undefined;
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.data.push(value);
    else if (field === "event") this.event = value;
    else if (field === "id" && !value.includes("\0")) this.id = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.retryMs = Number(value);
    return undefined;
  }

  private dispatch(): SseMessage | undefined {
    const message = { id: this.id, event: this.event || "message", data: this.data.join("\n") };
    const isEmpty = this.data.length === 0;
    this.data = [];
    this.event = "";
    return isEmpty ? undefined : message;
  }
}
