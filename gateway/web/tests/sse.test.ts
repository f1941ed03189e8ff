import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { EventStream } from "../src/api/sse";
import { type SseMessage, SseParser } from "../src/api/sse-parser";

describe("SseParser", () => {
  it("reads fields, comments, several lines of data and all line ends", () => {
    const messages = new SseParser().push(
      ": ping\nid: 0-1\nevent: a\ndata: x\ndata: y\n\nid:0-2\r\ndata:z\r\n\r\ndata\r\r\n",
    );
    expect(messages).toEqual([
      { id: "0-1", event: "a", data: "x\ny" },
      { id: "0-2", event: "message", data: "z" },
      { id: "0-2", event: "message", data: "" },
    ]);
  });

  it("does not care how the text is cut", () => {
    const text = 'id: 3\r\nevent: b\r\ndata: {"ä":1}\r\n\r\nevent: none\n\n';
    const parser = new SseParser();
    const messages = [...text].flatMap((sign) => parser.push(sign));
    expect(messages).toEqual([{ id: "3", event: "b", data: '{"ä":1}' }]);
  });
});

describe("EventStream", () => {
  let server: Server | undefined;
  let stream: EventStream | undefined;
  afterEach(() => {
    stream?.stop();
    server?.closeAllConnections();
    server?.close();
  });

  it("goes on from its last event when the server was away, whatever it answered meanwhile", async () => {
    const asked: (string | undefined)[] = [];
    server = createServer((request, response) => {
      asked.push(request.headers["last-event-id"] as string | undefined);
      // The second connection finds a server that is still starting: EventSource would give up here for ever.
      if (asked.length === 2) return response.writeHead(503).end();
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(`id: 0-${asked.length}\ndata: {}\n\n`);
      if (asked.length === 1) setTimeout(() => response.destroy(), 20);
    });
    await new Promise<void>((resolve) => server?.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const received: SseMessage[] = [];
    const opened: boolean[] = [];
    await new Promise<void>((resolve) => {
      stream = new EventStream({
        url: `http://127.0.0.1:${port}/`,
        onMessage: (message) => received.push(message) === 2 && resolve(),
        onState: (state) => state === "waiting" && setTimeout(() => stream?.retryNow(), 10),
        onOpen: (resumed) => opened.push(resumed),
      });
      stream.start();
    });
    expect(asked).toEqual([undefined, "0-1", "0-1"]);
    expect(received.map(({ id }) => id)).toEqual(["0-1", "0-3"]);
    expect(opened).toEqual([false, true]);
  });
});
