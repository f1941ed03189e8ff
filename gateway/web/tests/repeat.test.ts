import { afterEach, describe, expect, it, vi } from "vitest";
import type { ImageAnswer } from "../src/api/types";
import { makeAgain, repeatsOf } from "../src/features/table/repeat";

const image = (
  index: number,
  status: ImageAnswer["status"],
  originalUrl = `/api/v1/tasks/t/images/${index}/original`,
) => ({ imageId: `i${index}`, index, status, version: 1, originalUrl, name: `${index}.jpg` }) satisfies ImageAnswer;

/** Answers in this order; what was asked is told. */
function gateway(...answers: [status: number, code?: string][]) {
  const asked: { path: string; body: unknown; key: string | null }[] = [];
  vi.stubGlobal("fetch", async (path: string, init: RequestInit) => {
    const key = new Headers(init.headers).get("idempotency-key");
    asked.push({ path, body: JSON.parse(String(init.body)), key });
    const [status, code] = answers.shift() ?? [500];
    return new Response(JSON.stringify(code ? { error: { code, message: "" } } : { taskId: "made" }), { status });
  });
  return asked;
}

describe("pictures that are made again", () => {
  afterEach(() => vi.unstubAllGlobals());

  it("are repeated by task, apart from what never had an original", () => {
    const address = "https://a.example/1.jpg";
    const repeats = repeatsOf([
      { taskId: "a", image: image(2, "completed", address) },
      { taskId: "b", image: image(0, "failed") },
      { taskId: "a", image: image(0, "failed", address) },
      { taskId: "a", image: image(1, "processing") },
    ]);
    expect(repeats.map(({ taskId, images }) => [taskId, images.map(({ index }) => index)])).toEqual([
      ["a", [2, 1]],
      ["b", [0]],
      ["a", [0]],
    ]);
  });

  it("are named, not sent", async () => {
    const asked = gateway([202]);
    const options = { quality: "low" as const };
    const made = await makeAgain({ taskId: "t", images: [image(1, "completed")] }, options, "k");
    expect(made.taskId).toBe("made");
    expect(asked).toEqual([{ path: "/api/v1/tasks/t/repeat", body: { images: ["i1"], options }, key: "k" }]);
  });

  it("come from their address where the server has no original", async () => {
    for (const [status, code] of [
      [409, "noOriginal"],
      [410, "notFound"],
    ] as const) {
      const asked = gateway([status, code], [202]);
      const fetched = image(0, "failed", "https://a.example/1.jpg");
      await makeAgain({ taskId: "t", images: [fetched] }, {}, "k");
      const images = [{ url: "https://a.example/1.jpg", name: "0.jpg" }];
      expect(asked[1]).toEqual({ path: "/api/v1/tasks", body: { images, options: {} }, key: "k" });
      gateway([status, code]);
      const uploaded = makeAgain({ taskId: "t", images: [fetched, image(1, "completed")] }, {}, "k");
      await expect(uploaded).rejects.toMatchObject({ status });
    }
    gateway([409, "idempotencyConflict"]);
    const conflict = makeAgain({ taskId: "t", images: [image(0, "failed", "https://a.example/1.jpg")] }, {}, "k");
    await expect(conflict).rejects.toMatchObject({ body: { code: "idempotencyConflict" } });
  });
});
