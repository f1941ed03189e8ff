// How a selection comes down: one file as it is, whole tasks packed by the server, anything else packed here.
import { ApiError, errorFromAnswer, imagePath, pageError } from "../../api/client";
import { pictureKey, splitKey } from "../../api/selection";
import type { TaskAnswer } from "../../api/types";
import { ZipWriter } from "./zip";

export interface PictureState {
  key: string;
  name: string | undefined;
  isDone: boolean;
  bytes: number;
  mediaType: string;
}

export type DownloadPlan =
  | { kind: "nothing" }
  | { kind: "one"; taskId: string; index: number }
  | { kind: "tasks"; taskIds: string[] }
  | { kind: "pictures" };

/** An address may not grow without end: beyond this many tasks the browser packs, within its own limit. */
const TASKS_IN_ADDRESS = 150;
const PACKED_BYTES_LIMIT = 1_500_000_000;

export function downloadPlan(pictures: PictureState[], tasks: TaskAnswer[]): DownloadPlan {
  const done = pictures.filter(({ isDone }) => isDone);
  const [first] = done;
  if (!first) return { kind: "nothing" };
  if (done.length === 1) return { kind: "one", ...splitKey(first.key) };
  const selected = new Set(pictures.map(({ key }) => key));
  const taskIds = [...new Set(done.map(({ key }) => splitKey(key).taskId))];
  const isWhole = (task: TaskAnswer | undefined) =>
    task?.results.every(
      (image) => image.status !== "completed" || selected.has(pictureKey(task.taskId, image.index)),
    ) ?? false;
  const allWhole = taskIds.every((id) => isWhole(tasks.find(({ taskId }) => taskId === id)));
  return allWhole && taskIds.length <= TASKS_IN_ADDRESS ? { kind: "tasks", taskIds } : { kind: "pictures" };
}

const EXTENSIONS: Record<string, string> = {
  "image/png": "png",
  "image/webp": "webp",
  "image/jpeg": "jpg",
  "image/avif": "avif",
  "application/zip": "zip",
};

export function resultName(picture: Pick<PictureState, "key" | "name" | "mediaType">): string {
  const stem = (picture.name ?? `picture-${splitKey(picture.key).index + 1}`).replace(/\.[A-Za-z0-9]{2,5}$/, "");
  return `${stem}.${EXTENSIONS[picture.mediaType] ?? "png"}`;
}

export async function packPictures(pictures: PictureState[], onProgress: (done: number) => void): Promise<Blob> {
  const total = pictures.reduce((sum, { bytes }) => sum + bytes, 0);
  if (total > PACKED_BYTES_LIMIT) throw new ApiError(pageError("archiveTooLarge", `${total} bytes`).body, 0);
  const zip = new ZipWriter();
  for (const [count, picture] of pictures.entries()) {
    onProgress(count + 1);
    const { taskId, index } = splitKey(picture.key);
    const response = await fetch(imagePath(taskId, index, "result"));
    if (!response.ok) throw errorFromAnswer(response.status, await response.text());
    zip.add(resultName(picture), new Uint8Array(await response.arrayBuffer()));
  }
  return zip.finish();
}

export function saveBlob(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // The browser has its own hold on the bytes by then.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
