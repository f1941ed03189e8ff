// The mock's pipeline: tasks in memory, six stages with made-up times, events with offsets. It stands in for the gateway
// while the page is being worked on; nothing of it is built into the page, and no figure of it is a measurement.
import { createHash, randomUUID } from "node:crypto";
import type {
  ErrorBody,
  ImageAnswer,
  ImageMetadata,
  LiveEvent,
  StageTiming,
  TaskAnswer,
  TaskOptions,
} from "../src/api/types";
import { mattingOf } from "./matting.ts";
import { cutOut, decodePng, encodePng, isBlack, onCanvas, shrink } from "./png.ts";

export const STAGES = ["ingest", "preprocess", "classify", "matte", "compose", "persist"];
const TOPICS = [
  "image-tasks",
  "images-ingested",
  "images-preprocessed",
  "images-classified",
  "images-matted",
  "images-composed",
];
const WORK_MS = [60, 90, 70, 420, 140, 40];

export interface MockFile {
  name: string;
  bytes: Buffer;
}

interface Stored {
  original: Buffer;
  result?: Buffer;
  alpha?: Buffer;
  thumbnail?: Buffer;
  /** Nothing in it differs from its background. */
  isPlain?: boolean;
}

interface StageCounts {
  queued: number;
  deadLetters: number;
  processed: number;
  times: number[];
}

export interface Letter {
  stage: string;
  topic: string;
  partition: number;
  offset: number;
  time: string;
  code: string;
  reason: string;
  message: string;
  eventId: string;
  eventType: string;
  taskId: string;
  imageId: string;
  attempt: number;
  replay: number;
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
export const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");

/** One colour for whatever lies behind: of a gradient its first, of a blurred original a grey. */
function backgroundOf(options: TaskOptions): [number, number, number] | undefined {
  const background = options.output?.background ?? "transparent";
  if (typeof background !== "string" || background === "transparent") return undefined;
  const digits = /#([0-9a-f]{3,8})/i.exec(background)?.[1] ?? "808080";
  const hex = Number.parseInt(digits.length === 3 ? digits.replace(/./g, "$&$&") : digits.slice(0, 6), 16);
  return [hex >> 16, (hex >> 8) & 255, hex & 255];
}

/** It draws none, and says what the gateway would. */
function shadowOf({ output }: TaskOptions): Pick<ImageMetadata, "shadow"> {
  const { shadow = "none" } = output ?? {};
  const kind = typeof shadow === "object" ? shadow.type : shadow;
  return kind === "none" ? {} : { shadow: kind === "keep" ? "notFound" : "drawn" };
}

export class World {
  readonly tasks = new Map<string, TaskAnswer>();
  readonly stored = new Map<string, Stored>();
  readonly blobs = new Map<string, Buffer>();
  readonly events: { taskId: string; event: LiveEvent }[] = [];
  readonly letters: Letter[] = [];
  readonly listeners = new Set<(offset: number) => void>();
  private readonly stages = STAGES.map((): StageCounts => ({ queued: 0, deadLetters: 0, processed: 0, times: [] }));
  // One worker a stage, so that pictures queue and the line has something to show.
  private readonly locks = STAGES.map(() => Promise.resolve());

  /** Every version of the picture that an image is one of, by its place `<task>/<index>`; the first one first. */
  readonly versions = new Map<string, string[]>();

  /** A task of the originals of images that are there; `undefined` where one is not. */
  repeat(taskId: string, repeated: TaskAnswer, imageIds: string[], options: TaskOptions): TaskAnswer | undefined {
    const images = imageIds.flatMap((id) => repeated.results.find(({ imageId }) => imageId === id) ?? []);
    if (images.length < imageIds.length) return undefined;
    const places = images.map(({ index }) => `${repeated.taskId}/${index}`);
    const files = images.map(({ name = "" }, at) => ({
      name,
      bytes: this.stored.get(places[at] ?? "")?.original ?? Buffer.from(""),
    }));
    return this.submit(taskId, files, options, (image, index) => {
      const place = places[index] ?? "";
      const versions = this.versions.get(place) ?? [place];
      versions.push(`${taskId}/${index}`);
      for (const version of versions) this.versions.set(version, versions);
      image.version = versions.length;
      image.repeatOf = { taskId: repeated.taskId, imageId: imageIds[index] ?? "" };
    });
  }

  versionsOf(place: string) {
    return (this.versions.get(place) ?? [place]).flatMap((version) => {
      const [taskId = "", index] = version.split("/");
      const task = this.tasks.get(taskId);
      const image = task?.results[Number(index)];
      return task && image ? [{ taskId, submittedAt: task.submittedAt, options: task.options, ...image }] : [];
    });
  }

  submit(
    taskId: string,
    files: MockFile[],
    options: TaskOptions,
    mark: (image: ImageAnswer, index: number) => void = () => {},
  ): TaskAnswer {
    const results: ImageAnswer[] = files.map((file, index) => ({
      imageId: randomUUID(),
      index,
      status: "pending",
      name: file.name,
      version: 1,
      originalUrl: `/api/v1/tasks/${taskId}/images/${index}/original`,
    }));
    results.forEach(mark);
    const task: TaskAnswer = {
      taskId,
      status: "pending",
      submittedAt: new Date().toISOString(),
      options,
      results,
      summary: {
        totalImages: files.length,
        successCount: 0,
        failureCount: 0,
        cancelledCount: 0,
        totalProcessingTime: 0,
      },
    };
    this.tasks.set(taskId, task);
    files.forEach((file, index) => {
      this.stored.set(`${taskId}/${index}`, { original: file.bytes });
      this.blobs.set(sha256(file.bytes), file.bytes);
    });
    const answer = structuredClone(task);
    void this.run(task);
    return answer;
  }

  private publish(taskId: string, type: string, data: object): string {
    const eventId = randomUUID();
    this.events.push({ taskId, event: { eventId, type, time: new Date().toISOString(), data: { taskId, ...data } } });
    for (const listener of this.listeners) listener(this.events.length - 1);
    return eventId;
  }

  private async run(task: TaskAnswer): Promise<void> {
    await sleep(150);
    task.status = "processing";
    this.publish(task.taskId, "atelier.task.accepted.v1", {
      options: task.options,
      images: [],
      submittedAt: task.submittedAt,
    });
    await Promise.all(task.results.map((image) => this.runImage(task, image)));
    if (this.isCancelled(task)) return;
    task.status = task.summary.successCount > 0 ? "completed" : "failed";
    task.endedAt = new Date().toISOString();
    this.publish(task.taskId, "atelier.task.ended.v1", { status: task.status, summary: task.summary });
  }

  private async runImage(task: TaskAnswer, image: ImageAnswer): Promise<void> {
    const stored = this.stored.get(`${task.taskId}/${image.index}`);
    const timings: StageTiming[] = [];
    for (const [place, stage] of STAGES.entries()) {
      const arrived = Date.now();
      if (this.isCancelled(task)) return;
      await this.inStage(place, WORK_MS[place] ?? 0);
      if (this.isCancelled(task)) return;
      const processingTimeMs = WORK_MS[place] ?? 0;
      if (stage === "preprocess" && stored) {
        const error = this.decode(task, stored);
        if (error) return this.fail(task, image, stage, error);
      }
      timings.push({ stage, queueMs: Math.max(0, Date.now() - arrived - processingTimeMs), processingTimeMs });
      this.publish(task.taskId, "atelier.stage.completed.v1", { imageId: image.imageId, ...timings.at(-1) });
    }
    this.finish(task, image, stored, timings);
  }

  private isCancelled(task: TaskAnswer): boolean {
    return task.status === "cancelled";
  }

  /** Ends what has not ended; false where the task has. */
  cancel(task: TaskAnswer): boolean {
    if (task.status !== "pending" && task.status !== "processing") return this.isCancelled(task);
    const error: ErrorBody = {
      code: "cancelled",
      message: "the task was cancelled",
      details: { stage: "gateway", reason: "CancelRequested", suggestions: [] },
    };
    task.status = "cancelled";
    task.error = error;
    task.endedAt = new Date().toISOString();
    for (const image of task.results.filter(({ status }) => status !== "completed" && status !== "failed")) {
      image.status = "cancelled";
      image.error = error;
      task.summary.cancelledCount += 1;
      const { imageId, index } = image;
      this.publish(task.taskId, "atelier.image.ended.v1", { imageId, index, status: "cancelled", error });
    }
    this.publish(task.taskId, "atelier.task.ended.v1", { status: "cancelled", summary: task.summary, error });
    return true;
  }

  private async inStage(place: number, workMs: number): Promise<void> {
    const counts = this.stages[place];
    if (!counts) return;
    counts.queued += 1;
    const before = this.locks[place];
    const mine = (async () => {
      await before;
      counts.queued -= 1;
      await sleep(workMs * Number(process.env.MOCK_SLOWNESS ?? 1));
      counts.processed += 1;
      counts.times.push(Date.now());
    })();
    this.locks[place] = mine;
    await mine;
  }

  private decode(task: TaskAnswer, stored: Stored): ErrorBody | undefined {
    try {
      const ground = backgroundOf(task.options);
      const { result: cut, alpha } = cutOut(decodePng(stored.original), ground);
      const size = task.options.output?.size;
      const result = size ? onCanvas(cut, size.width, size.height, ground && [...ground, 255]) : cut;
      stored.isPlain = isBlack(alpha);
      stored.result = stored.isPlain ? stored.original : encodePng(result);
      stored.alpha = encodePng(alpha);
      stored.thumbnail = encodePng(shrink(result, 256));
      return undefined;
    } catch (error) {
      return {
        code: "undecodableImage",
        message: error instanceof Error ? error.message : "unknown",
        details: { stage: "preprocess", reason: "DecodeError", suggestions: [] },
      };
    }
  }

  private fail(task: TaskAnswer, image: ImageAnswer, stage: string, error: ErrorBody): void {
    image.status = "failed";
    image.error = error;
    task.summary.failureCount += 1;
    const eventId = this.publish(task.taskId, "atelier.stage.failed.v1", { imageId: image.imageId, stage, error });
    const counts = this.stages[STAGES.indexOf(stage)];
    if (counts) counts.deadLetters += 1;
    this.letters.unshift({
      stage,
      topic: `${stage}-dead-letters`,
      partition: 0,
      offset: this.letters.length,
      time: new Date().toISOString(),
      code: error.code,
      reason: error.details?.reason ?? "",
      message: error.message,
      eventId,
      eventType: "atelier.image.ingested.v1",
      taskId: task.taskId,
      imageId: image.imageId,
      attempt: 1,
      replay: 0,
    });
    this.publish(task.taskId, "atelier.image.ended.v1", {
      imageId: image.imageId,
      index: image.index,
      status: "failed",
      error,
    });
  }

  private finish(task: TaskAnswer, image: ImageAnswer, stored: Stored | undefined, stages: StageTiming[]): void {
    const dimensions = { width: stored?.result?.readUInt32BE(16) ?? 0, height: stored?.result?.readUInt32BE(20) ?? 0 };
    const processingTime = stages.reduce((sum, timing) => sum + timing.processingTimeMs, 0);
    const matting = mattingOf(task.options, image.name ?? "", dimensions, stored?.isPlain);
    image.status = "completed";
    image.metadata = {
      type: matting.processor,
      confidence: 0.93,
      processingTime,
      dimensions,
      bytes: stored?.result?.length ?? 0,
      mediaType: "image/png",
      model: { name: "mock", provider: "none", inferenceMs: WORK_MS[3] ?? 0, processor: "general" },
      matting,
      stages,
      ...shadowOf(task.options),
    };
    for (const part of ["result", "thumbnail", "alpha"] as const) {
      image[`${part}Url`] = `/api/v1/tasks/${task.taskId}/images/${image.index}/${part}`;
    }
    task.summary.successCount += 1;
    task.summary.totalProcessingTime += processingTime;
    this.publish(task.taskId, "atelier.image.ended.v1", {
      imageId: image.imageId,
      index: image.index,
      status: "completed",
      result: { metadata: image.metadata },
    });
  }

  pipeline() {
    const now = Date.now();
    return {
      at: new Date(now).toISOString(),
      tasksOpen: [...this.tasks.values()].filter(({ status }) => status === "pending" || status === "processing")
        .length,
      stages: this.stages.map((counts, place) => {
        const recent = counts.times.filter((time) => now - time < 60_000).length;
        return {
          name: STAGES[place],
          inputTopics: [TOPICS[place]],
          queued: counts.queued,
          inRetry: 0,
          deadLetters: counts.deadLetters,
          processedTotal: counts.processed,
          perSecond: recent / 60,
          ...(recent > 0 ? { p50Ms: WORK_MS[place], p95Ms: (WORK_MS[place] ?? 0) * 1.4 } : {}),
        };
      }),
    };
  }

  measurements() {
    const done = this.stages[3]?.processed ?? 0;
    return {
      models: done > 0 ? [{ name: "mock", count: done, medianMs: WORK_MS[3], p95Ms: 600 }] : [],
      stages:
        done > 0
          ? STAGES.map((name, place) => ({ name, medianMs: WORK_MS[place], p95Ms: (WORK_MS[place] ?? 0) * 1.4 }))
          : [],
    };
  }
}
