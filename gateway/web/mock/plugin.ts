// The mock gateway as a plugin of Vite's development and preview servers: HTTP around mock/world.ts, after the same
// contract that the gateway keeps. `POST /__mock/outage` takes it away for a while, as a restart would.
import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Plugin } from "vite";
import type { RepeatRequest, TaskOptions, TaskRequest } from "../src/api/types";
import { ZipWriter } from "../src/features/table/zip.ts";
import { type MockFile, sha256, World } from "./world.ts";

const OUTAGE_MS = 2_500;

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

function json(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(value));
}

function refuse(response: ServerResponse, status: number, code: string, message: string): void {
  json(response, status, {
    status: "failed",
    error: { code, message, details: { stage: "gateway", reason: "Mock", suggestions: [] } },
  });
}

class Gateway {
  private readonly world = new World();
  private readonly byKey = new Map<string, string>();
  private readonly open = new Set<ServerResponse>();
  private awayUntil = 0;

  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://mock");
    if (url.pathname === "/__mock/outage") {
      this.awayUntil = Date.now() + OUTAGE_MS;
      for (const other of this.open) other.destroy();
      return json(response, 200, {});
    }
    if (Date.now() < this.awayUntil) return void response.destroy();
    const path = url.pathname.replace("/api/v1/", "");
    const image = /^tasks\/([^/]+)\/images\/(\d+)\/(original|result|thumbnail|alpha)$/.exec(path);
    const task = /^tasks\/([^/]+)$/.exec(path);
    if (path === "tasks" && request.method === "POST") return this.submit(request, response);
    if (path === "tasks") return this.list(url, response);
    const repeated = /^tasks\/([^/]+)\/repeat$/.exec(path);
    if (repeated?.[1]) return this.repeat(request, response, repeated[1]);
    const versions = /^tasks\/([^/]+)\/images\/(\d+)\/versions$/.exec(path);
    if (versions) return json(response, 200, { versions: this.world.versionsOf(`${versions[1]}/${versions[2]}`) });
    const history = /^tasks\/([^/]+)\/events$/.exec(path);
    if (history?.[1]) return this.history(request, response, history[1]);
    if (path === "events") return this.events(request, response);
    if (path === "pipeline") return json(response, 200, this.world.pipeline());
    if (path === "pipeline/events") return this.pipelineEvents(response);
    if (path === "measurements") return json(response, 200, this.world.measurements());
    if (path === "capabilities") return json(response, 200, CAPABILITIES);
    if (path === "dead-letters") {
      return json(response, 200, {
        deadLetters: this.world.letters.filter(({ stage }) => stage === url.searchParams.get("stage")),
      });
    }
    if (path === "dead-letters/replay") return json(response, 202, { eventId: randomUUID() });
    if (path === "archive") return this.archive(url, response);
    if (image)
      return this.image(
        request,
        response,
        `${image[1]}/${image[2]}`,
        image[3] as "original",
        url.searchParams.has("download"),
      );
    const known = task?.[1] ? this.world.tasks.get(task[1]) : undefined;
    if (known && request.method === "DELETE") {
      if (this.world.cancel(known)) return json(response, 202, known);
      return refuse(response, 409, "alreadyEnded", "the task has ended");
    }
    if (known) return json(response, 200, known);
    refuse(response, 404, "notFound", `nothing at ${path}`);
  }

  private async submit(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const key = request.headers["idempotency-key"] as string | undefined;
    const bytes = await bodyOf(request);
    const known = key ? this.byKey.get(key) : undefined;
    if (known) return json(response, 200, this.world.tasks.get(known));
    let files: MockFile[] = [];
    let options: TaskOptions = {};
    if (request.headers["content-type"]?.startsWith("multipart/form-data")) {
      const form = await new Response(new Uint8Array(bytes), {
        headers: { "content-type": request.headers["content-type"] },
      }).formData();
      options = JSON.parse(String(form.get("options") ?? "{}")) as TaskOptions;
      const uploaded = form.getAll("images").filter((part): part is File => part instanceof File);
      files = await Promise.all(
        uploaded.map(async (file) => ({ name: file.name, bytes: Buffer.from(await file.arrayBuffer()) })),
      );
    } else {
      const body = JSON.parse(bytes.toString()) as TaskRequest;
      options = body.options ?? {};
      if (body.images.some(({ url }) => url && /localhost|127\.|10\./.test(url)))
        return refuse(response, 422, "addressForbidden", "a private address");
      files = body.images.map((source) => ({
        name: source.name ?? "picture",
        bytes: this.world.blobs.get(source.blob?.key ?? "") ?? Buffer.from(""),
      }));
    }
    const taskId = randomUUID();
    if (key) this.byKey.set(key, taskId);
    json(response, 202, this.world.submit(taskId, files, options));
  }

  private async repeat(request: IncomingMessage, response: ServerResponse, taskId: string): Promise<void> {
    const key = request.headers["idempotency-key"] as string | undefined;
    const { images, options } = JSON.parse((await bodyOf(request)).toString()) as RepeatRequest;
    const known = key ? this.byKey.get(key) : undefined;
    if (known) return json(response, 200, this.world.tasks.get(known));
    const repeated = this.world.tasks.get(taskId);
    const madeId = randomUUID();
    const made = repeated && this.world.repeat(madeId, repeated, images, options);
    if (!made) return refuse(response, 404, "notFound", `no such images of ${taskId}`);
    if (key) this.byKey.set(key, madeId);
    json(response, 202, made);
  }

  private list(url: URL, response: ServerResponse): void {
    const all = [...this.world.tasks.values()].reverse();
    const start = Number(url.searchParams.get("cursor") ?? 0);
    const end = start + Number(url.searchParams.get("limit") ?? 20);
    json(response, 200, { tasks: all.slice(start, end), ...(end < all.length ? { nextCursor: String(end) } : {}) });
  }

  private stream(response: ServerResponse): void {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    response.flushHeaders();
    this.open.add(response);
    response.on("close", () => this.open.delete(response));
  }

  private events(request: IncomingMessage, response: ServerResponse): void {
    this.stream(response);
    const last = /^0-(\d+)$/.exec(String(request.headers["last-event-id"] ?? ""))?.[1];
    const send = (offset: number) => {
      const entry = this.world.events[offset];
      if (entry)
        response.write(`id: 0-${offset}\nevent: ${entry.event.type}\ndata: ${JSON.stringify(entry.event)}\n\n`);
    };
    if (last !== undefined)
      for (let offset = Number(last) + 1; offset < this.world.events.length; offset += 1) send(offset);
    else if (this.world.events.length > 0)
      response.write(`id: 0-${this.world.events.length - 1}\nevent: position\ndata: {}\n\n`);
    this.world.listeners.add(send);
    response.on("close", () => this.world.listeners.delete(send));
  }

  private history(request: IncomingMessage, response: ServerResponse, taskId: string): void {
    this.stream(response);
    response.write(`event: snapshot\ndata: ${JSON.stringify(this.world.tasks.get(taskId))}\n\n`);
    if (request.headers["last-event-id"]) {
      for (const [offset, { taskId: of, event }] of this.world.events.entries()) {
        if (of === taskId) response.write(`id: 0-${offset}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
      }
    }
    response.end();
  }

  private pipelineEvents(response: ServerResponse): void {
    this.stream(response);
    const send = () => response.write(`event: pipeline\ndata: ${JSON.stringify(this.world.pipeline())}\n\n`);
    send();
    const timer = setInterval(send, 500);
    response.on("close", () => clearInterval(timer));
  }

  private image(
    request: IncomingMessage,
    response: ServerResponse,
    key: string,
    part: "original",
    isDownload: boolean,
  ): void {
    const bytes = this.world.stored.get(key)?.[part];
    if (!bytes) return refuse(response, 404, "notFound", `no ${part} of ${key}`);
    response.writeHead(200, {
      "content-type": "image/png",
      "content-length": bytes.length,
      etag: `"${sha256(bytes)}"`,
      ...(isDownload ? { "content-disposition": `attachment; filename="${part}.png"` } : {}),
    });
    response.end(request.method === "HEAD" ? undefined : bytes);
  }

  private async archive(url: URL, response: ServerResponse): Promise<void> {
    const zip = new ZipWriter();
    for (const taskId of (url.searchParams.get("tasks") ?? "").split(",")) {
      for (const image of this.world.tasks.get(taskId)?.results ?? []) {
        const bytes = this.world.stored.get(`${taskId}/${image.index}`)?.result;
        if (bytes) zip.add(`${image.name ?? image.index}.png`, new Uint8Array(bytes));
      }
    }
    response.writeHead(200, {
      "content-type": "application/zip",
      "content-disposition": 'attachment; filename="atelier.zip"',
    });
    response.end(Buffer.from(await zip.finish().arrayBuffer()));
  }
}

const CAPABILITIES = {
  version: "mock",
  maxUploadBytes: 64_000_000,
  maxImagesPerTask: 1000,
  formats: ["png", "webp", "jpeg", "avif", "zip"],
  qualities: [
    { name: "high", model: "mock" },
    { name: "medium", model: "mock-medium" },
    { name: "low", model: "mock-low" },
  ],
  kinds: ["auto", "portrait", "product", "graphic"],
  kafka: { bootstrapServers: "127.0.0.1:9092" },
};

export function mockGateway(): Plugin {
  const gateway = new Gateway();
  const middleware = (request: IncomingMessage, response: ServerResponse, next: () => void) => {
    if (!/^\/(api|__mock)\//.test(request.url ?? "")) return next();
    gateway.handle(request, response).catch((error: unknown) => {
      console.error(error);
      if (response.headersSent) response.destroy();
      else refuse(response, 500, "internal", String(error));
    });
  };
  return {
    name: "atelier-mock-gateway",
    configureServer: (server) => void server.middlewares.use(middleware),
    configurePreviewServer: (server) => void server.middlewares.use(middleware),
  };
}
