// What the event stream has told since the page was opened, laid over the snapshots that were fetched. Both may arrive in
// either order, so merging only ever moves a task forward: pending, processing, ended.

import { imagePath } from "./client";
import type {
  ImageAnswer,
  ImageEndedData,
  ImageRepairedData,
  LiveEvent,
  StageCompletedData,
  StageFailedData,
  TaskAnswer,
  TaskEndedData,
  TaskStatus,
} from "./types";

/** The order of work on an image; the gateway's own list replaces it as soon as it is known. */
export const DEFAULT_STAGES = ["ingest", "preprocess", "classify", "matte", "compose", "persist"];

export interface SeenEvent {
  eventId: string;
  type: string;
  time: string;
  stage?: string;
}

export interface LiveImage {
  imageId: string;
  /** Stages that are done with it, in the order of their events. */
  doneStages: string[];
  events: SeenEvent[];
  ended?: Pick<ImageEndedData, "index" | "status" | "result" | "error">;
}

export interface LiveTask {
  taskId: string;
  images: Record<string, LiveImage>;
  ended?: TaskEndedData;
  repairedSummary?: ImageRepairedData["summary"];
}

export type LiveTasks = Record<string, LiveTask>;

/** Tasks remembered; beyond it the oldest are forgotten, their snapshots say the same. */
const TASKS_KEPT = 400;

const isTerminal = (status: TaskStatus) => status !== "pending" && status !== "processing";

function withImage(task: LiveTask, imageId: string, change: (image: LiveImage) => LiveImage): LiveTask {
  const image = task.images[imageId] ?? { imageId, doneStages: [], events: [] };
  return { ...task, images: { ...task.images, [imageId]: change(image) } };
}

function seen(image: LiveImage, event: LiveEvent, stage?: string): LiveImage {
  // A reconnect may deliver an event twice; its id is deterministic, so a repeat is recognised.
  if (image.events.some((known) => known.eventId === event.eventId)) return image;
  const entry: SeenEvent = { eventId: event.eventId, type: event.type, time: event.time, ...(stage ? { stage } : {}) };
  return { ...image, events: [...image.events, entry] };
}

function applyToTask(task: LiveTask, event: LiveEvent): LiveTask {
  switch (event.type) {
    case "atelier.stage.completed.v1": {
      const data = event.data as StageCompletedData;
      if (!data.imageId) return task;
      return withImage(task, data.imageId, (image) => ({
        ...seen(image, event, data.stage),
        doneStages: image.doneStages.includes(data.stage) ? image.doneStages : [...image.doneStages, data.stage],
      }));
    }
    case "atelier.stage.failed.v1": {
      const data = event.data as StageFailedData;
      return data.imageId ? withImage(task, data.imageId, (image) => seen(image, event, data.stage)) : task;
    }
    case "atelier.image.ended.v1": {
      const { imageId, index, status, result, error } = event.data as ImageEndedData;
      return withImage(task, imageId, (image) => ({
        ...seen(image, event),
        ended: { index, status, ...(result ? { result } : {}), ...(error ? { error } : {}) },
      }));
    }
    case "atelier.image.repaired.v1": {
      const { imageId, index, result, summary } = event.data as ImageRepairedData;
      const repaired = withImage(task, imageId, (image) => ({
        ...seen(image, event),
        ended: { index, status: "completed" as const, result },
      }));
      return { ...repaired, repairedSummary: summary };
    }
    case "atelier.task.ended.v1":
      return { ...task, ended: event.data as TaskEndedData };
    default:
      return task;
  }
}

/** The tasks after one more event. */
export function applyEvent(tasks: LiveTasks, event: LiveEvent): LiveTasks {
  const taskId = (event.data as { taskId?: string } | null)?.taskId;
  if (!taskId) return tasks;
  const next = { ...tasks, [taskId]: applyToTask(tasks[taskId] ?? { taskId, images: {} }, event) };
  const ids = Object.keys(next);
  const oldest = ids[0];
  if (ids.length > TASKS_KEPT && oldest !== undefined && oldest !== taskId) delete next[oldest];
  return next;
}

function mergeImage(taskId: string, image: ImageAnswer, live: LiveImage | undefined): ImageAnswer {
  const ended = live?.ended;
  if (!ended) {
    if (live && live.doneStages.length > 0 && image.status === "pending") return { ...image, status: "processing" };
    return image;
  }
  // A repair turns a failed image into a completed one; nothing turns a completed one back.
  if (image.status === "completed" || (isTerminal(image.status) && ended.status !== "completed")) return image;
  if (ended.status !== "completed" || !ended.result) {
    return { ...image, status: ended.status, ...(ended.error ? { error: ended.error } : {}) };
  }
  const { error: _cleared, ...rest } = image;
  return {
    ...rest,
    status: "completed",
    metadata: ended.result.metadata,
    resultUrl: imagePath(taskId, image.index, "result"),
    thumbnailUrl: imagePath(taskId, image.index, "thumbnail"),
    alphaUrl: imagePath(taskId, image.index, "alpha"),
  };
}

/** A task's snapshot with all that is known since. */
export function mergeTask(task: TaskAnswer, live: LiveTask | undefined): TaskAnswer {
  if (!live) return task;
  const results = task.results.map((image) => mergeImage(task.taskId, image, live.images[image.imageId]));
  const successCount = results.filter((image) => image.status === "completed").length;
  const failureCount = results.filter((image) => image.status === "failed").length;
  const cancelledCount = results.filter((image) => image.status === "cancelled").length;
  const ended = isTerminal(task.status) ? undefined : live.ended;
  const begun = results.some((image) => image.status !== "pending");
  const status = ended?.status ?? (task.status === "pending" && begun ? "processing" : task.status);
  return {
    ...task,
    status: live.repairedSummary && status === "failed" && successCount > 0 ? "completed" : status,
    results,
    summary: {
      ...task.summary,
      ...ended?.summary,
      ...live.repairedSummary,
      successCount,
      failureCount,
      cancelledCount,
    },
    ...(ended?.error ? { error: ended.error } : {}),
  };
}

export interface Progress {
  /** Number of the stage that the image is in, from 1. */
  step: number;
  stepCount: number;
  /** The stage's name; absent while nothing has been heard of the image. */
  stage: string | undefined;
}

/** Where an image stands on the line. */
export function progressOf(image: LiveImage | undefined, stages: string[]): Progress {
  const done = image ? stages.filter((stage) => image.doneStages.includes(stage)).length : 0;
  const stage = image ? stages[Math.min(done, stages.length - 1)] : undefined;
  return { step: Math.min(done + 1, stages.length), stepCount: stages.length, stage };
}
