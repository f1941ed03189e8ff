import { describe, expect, it } from "vitest";
import { applyEvent, type LiveTasks, mergeTask, progressOf } from "../src/api/live";
import type { ImageMetadata, LiveEvent, TaskAnswer } from "../src/api/types";

const task: TaskAnswer = {
  taskId: "t",
  status: "pending",
  submittedAt: "2026-01-01T00:00:00Z",
  options: {},
  results: [0, 1].map((index) => ({
    imageId: `i${index}`,
    index,
    status: "pending" as const,
    version: 1,
    originalUrl: "",
  })),
  summary: { totalImages: 2, successCount: 0, failureCount: 0, cancelledCount: 0, totalProcessingTime: 0 },
};
const metadata = { bytes: 7 } as ImageMetadata;

let serial = 0;
function event(type: string, data: object, eventId = `e${serial++}`): LiveEvent {
  return { eventId, type: `atelier.${type}.v1`, time: "2026-01-01T00:00:01Z", data: { taskId: "t", ...data } };
}
const stageDone = (stage: string, imageId = "i0", eventId?: string) =>
  event("stage.completed", { imageId, stage, queueMs: 1, processingTimeMs: 2 }, eventId);
const ended = (imageId: string, index: number, status: "completed" | "failed" | "cancelled") =>
  event("image.ended", {
    imageId,
    index,
    status,
    ...(status === "completed" ? { result: { metadata } } : { error: { code: "undecodableImage", message: "broken" } }),
  });
const after = (...events: LiveEvent[]) => events.reduce<LiveTasks>(applyEvent, {});
const stages = ["ingest", "preprocess", "matte"];

describe("live progress", () => {
  it("counts the stages that are done, once each, in whatever order they arrive", () => {
    const tasks = after(
      stageDone("preprocess", "i0", "b"),
      stageDone("ingest", "i0", "a"),
      stageDone("ingest", "i0", "a"),
    );
    const image = tasks.t?.images.i0;
    expect(image?.events).toHaveLength(2);
    expect(progressOf(image, stages)).toEqual({ step: 3, stepCount: 3, stage: "matte" });
    expect(progressOf(undefined, stages)).toEqual({ step: 1, stepCount: 3, stage: undefined });
  });

  it("moves a snapshot forward", () => {
    const merged = mergeTask(task, after(stageDone("ingest"), ended("i1", 1, "failed")).t);
    expect(merged.status).toBe("processing");
    expect(merged.results.map(({ status }) => status)).toEqual(["processing", "failed"]);
    expect(merged.results[1]?.error?.code).toBe("undecodableImage");
    expect(merged.summary.failureCount).toBe(1);
  });

  it("counts what was stopped by itself", () => {
    const stopped = event("task.ended", { status: "cancelled", summary: { ...task.summary, cancelledCount: 1 } });
    const merged = mergeTask(task, after(ended("i0", 0, "completed"), ended("i1", 1, "cancelled"), stopped).t);
    expect(merged.status).toBe("cancelled");
    expect(merged.summary).toMatchObject({ successCount: 1, failureCount: 0, cancelledCount: 1 });
  });

  it("gives a finished image its addresses", () => {
    const merged = mergeTask(task, after(ended("i0", 0, "completed")).t);
    expect(merged.results[0]?.resultUrl).toBe("/api/v1/tasks/t/images/0/result");
    expect(merged.results[0]?.metadata).toEqual(metadata);
  });

  it("never moves a newer snapshot back", () => {
    const snapshot: TaskAnswer = {
      ...task,
      status: "completed",
      results: task.results.map((image) => ({ ...image, status: "completed" as const })),
    };
    const merged = mergeTask(snapshot, after(stageDone("ingest"), ended("i0", 0, "failed")).t);
    expect(merged.status).toBe("completed");
    expect(merged.results[0]?.status).toBe("completed");
  });

  it("lets a repair turn a failure into a result", () => {
    const repaired = event("image.repaired", {
      imageId: "i0",
      index: 0,
      result: { metadata },
      summary: { totalImages: 2, successCount: 1, failureCount: 1, cancelledCount: 0, totalProcessingTime: 3 },
    });
    const failed = event("task.ended", { status: "failed", summary: { ...task.summary, failureCount: 2 } });
    const tasks = after(ended("i0", 0, "failed"), ended("i1", 1, "failed"), failed, repaired);
    const merged = mergeTask(task, tasks.t);
    expect(merged.results[0]?.status).toBe("completed");
    expect(merged.results[0]?.error).toBeUndefined();
    expect(merged.status).toBe("completed");
    expect(merged.summary.totalProcessingTime).toBe(3);
  });

  it("keeps a bounded number of tasks", () => {
    let tasks: LiveTasks = {};
    for (let number = 0; number < 1000; number += 1) {
      tasks = applyEvent(tasks, event("task.accepted", { taskId: `task-${number}` }));
    }
    expect(Object.keys(tasks).length).toBeLessThanOrEqual(400);
    expect(tasks["task-999"]).toBeDefined();
  });

  it("takes an event without a task for nothing", () => {
    expect(applyEvent({}, { eventId: "", type: "", time: "", data: undefined })).toEqual({});
  });
});
