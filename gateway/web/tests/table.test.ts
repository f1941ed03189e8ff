import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { TaskAnswer } from "../src/api/types";
import { travellersByStage } from "../src/features/line/travellers";
import { fitScale, frameOf, parsePictureSearch, zoomAt } from "../src/features/picture/view-state";
import { downloadPlan, type PictureState, resultName } from "../src/features/table/download";
import { looksLikePicture, parseAddresses, splitIntoBatches } from "../src/features/table/files";
import { crc32, uniqueName, ZipWriter } from "../src/features/table/zip";

describe("what is laid down", () => {
  it("is split into tasks of moderate size, in order, without what is too large", () => {
    const files = Array.from({ length: 500 }, (_, number) => ({ number, size: number === 7 ? 9_000_000 : 3_000_000 }));
    const { batches, tooLarge } = splitIntoBatches(files, 8_000_000);
    expect(tooLarge.map(({ number }) => number)).toEqual([7]);
    expect(batches.flatMap((batch) => batch.files.map(({ number }) => number))).toEqual(
      files.map(({ number }) => number).filter((number) => number !== 7),
    );
    expect(batches.length).toBeGreaterThan(500 / 24);
    expect(Math.max(...batches.map(({ bytes }) => bytes))).toBeLessThanOrEqual(48_000_000);
    expect(
      splitIntoBatches(
        files.map(() => ({ size: 1 })),
        1e9,
      ).batches.every((batch) => batch.files.length <= 24),
    ).toBe(true);
  });

  it("is a picture by type or by name", () => {
    expect(looksLikePicture({ name: "a", type: "image/png" })).toBe(true);
    expect(looksLikePicture({ name: "A.JPG", type: "" })).toBe(true);
    expect(looksLikePicture({ name: ".DS_Store", type: "" })).toBe(false);
  });

  it("may be addresses", () => {
    expect(parseAddresses("https://a.org/x.jpg\nhttps://a.org/x.jpg http://b.org/")).toEqual([
      "https://a.org/x.jpg",
      "http://b.org/",
    ]);
    expect(parseAddresses("ftp://a.org/x")).toBeUndefined();
    expect(parseAddresses("hello there")).toBeUndefined();
    expect(parseAddresses("  ")).toBeUndefined();
  });
});

describe("downloads", () => {
  const image = (index: number, status: "completed" | "failed") => ({
    imageId: `${index}`,
    index,
    status,
    version: 1,
    originalUrl: "",
  });
  const task = (taskId: string): TaskAnswer => ({
    taskId,
    status: "completed",
    submittedAt: "",
    options: {},
    results: [image(0, "completed"), image(1, "completed"), image(2, "failed")],
    summary: { totalImages: 3, successCount: 2, failureCount: 1, cancelledCount: 0, totalProcessingTime: 0 },
  });
  const picture = (key: string, isDone = true): PictureState => ({
    key,
    name: "a.jpg",
    isDone,
    bytes: 1,
    mediaType: "image/webp",
  });

  it("take one file as it is, whole tasks from the server, the rest packed here", () => {
    const tasks = [task("a"), task("b")];
    expect(downloadPlan([picture("a:2", false)], tasks)).toEqual({ kind: "nothing" });
    expect(downloadPlan([picture("a:1"), picture("a:2", false)], tasks)).toEqual({
      kind: "one",
      taskId: "a",
      index: 1,
    });
    expect(downloadPlan([picture("a:0"), picture("a:1")], tasks)).toEqual({ kind: "tasks", taskIds: ["a"] });
    expect(downloadPlan([picture("a:0"), picture("a:1"), picture("b:0")], tasks)).toEqual({ kind: "pictures" });
    expect(resultName(picture("a:0"))).toBe("a.webp");
  });

  it("give every file in a ZIP a name that is safe and its own", () => {
    const taken = new Set<string>();
    expect(uniqueName("../a/b.png", taken)).toBe("__a_b.png");
    expect(["x.png", "X.png", "x.png"].map((name) => uniqueName(name, taken))).toEqual([
      "x.png",
      "X (2).png",
      "x (3).png",
    ]);
  });

  it("make a ZIP that another program reads", async () => {
    expect(crc32(new TextEncoder().encode("123456789"))).toBe(0xcbf43926);
    const zip = new ZipWriter();
    zip.add("图片.txt", new TextEncoder().encode("hello"));
    zip.add("图片.txt", new Uint8Array(0));
    const folder = mkdtempSync(join(tmpdir(), "atelier-zip-"));
    try {
      writeFileSync(join(folder, "a.zip"), Buffer.from(await zip.finish().arrayBuffer()));
      const script =
        "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; print([(i.filename, z.read(i).decode()) for i in z.infolist()])";
      const read = execFileSync("python3", ["-c", script, join(folder, "a.zip")], { encoding: "utf8" });
      expect(read.trim()).toBe("[('图片.txt', 'hello'), ('图片 (2).txt', '')]");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("the camera", () => {
  const window = { width: 1000, height: 500 };
  const picture = { width: 2000, height: 2000 };

  it("fits large pictures and leaves small ones at their size", () => {
    expect(fitScale(window, picture)).toBe(0.25);
    expect(fitScale(window, { width: 10, height: 10 })).toBe(1);
  });

  it("keeps the pixel under the pointer where it is", () => {
    const before = { scale: 1, x: 1000, y: 1000 };
    const pointer = { x: 700, y: 300 };
    const after = zoomAt(before, window, picture, 2, pointer.x, pointer.y);
    const under = (camera: typeof before | typeof after) => {
      const frame = frameOf(camera, window, picture);
      return [(pointer.x - frame.left) / frame.scale, (pointer.y - frame.top) / frame.scale];
    };
    expect(after.scale).toBe(2);
    for (const [axis, value] of under(after).entries()) expect(value).toBeCloseTo(under(before)[axis] ?? 0);
  });

  it("goes to 800 % and no further, and back to fitted", () => {
    const close = zoomAt({ scale: 7, x: 1000, y: 1000 }, window, picture, 10, 500, 250);
    expect(close.scale).toBe(8);
    expect(zoomAt(close, window, picture, 0.001, 500, 250).scale).toBeUndefined();
  });

  it("reads only sense from the address", () => {
    expect(parsePictureSearch({ view: "alpha", behind: "#aabbcc", zoom: 400, split: 30 })).toEqual({
      view: "alpha",
      behind: "#aabbcc",
      zoom: 400,
      split: 30,
    });
    expect(parsePictureSearch({ view: "x", behind: "url(http://evil)", zoom: 1e9, split: "a" })).toEqual({});
  });
});

describe("pictures on the line", () => {
  it("stand at the stage after the last that is done with them", () => {
    const open: TaskAnswer = {
      taskId: "t",
      status: "processing",
      submittedAt: "",
      options: {},
      results: [
        { imageId: "a", index: 0, status: "processing", version: 1, originalUrl: "" },
        { imageId: "b", index: 1, status: "failed", version: 1, originalUrl: "" },
        { imageId: "c", index: 2, status: "pending", version: 1, originalUrl: "" },
      ],
      summary: { totalImages: 3, successCount: 0, failureCount: 1, cancelledCount: 0, totalProcessingTime: 0 },
    };
    const live = { t: { taskId: "t", images: { a: { imageId: "a", doneStages: ["ingest"], events: [] } } } };
    const byStage = travellersByStage([open], live, ["ingest", "matte"]);
    expect(byStage.get("matte")?.map(({ imageId }) => imageId)).toEqual(["a"]);
    // Of "c" nothing has been heard, so nothing is claimed.
    expect(byStage.get("ingest")).toEqual([]);
  });
});
