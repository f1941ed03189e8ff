// Another background, quality or format: new tasks from originals that the server has already.
import { asApiError, originalBlob } from "../../api/client";
import { splitKey } from "../../api/selection";
import type { ImageSource } from "../../api/types";
import { BATCH_FILES } from "./files";

const ASKED_AT_ONCE = 6;

export interface Picture {
  key: string;
  name: string | undefined;
  /** Where it came from: the sender's address, or this server's. */
  originalUrl: string | undefined;
}

export async function sourceOf(picture: Picture): Promise<ImageSource> {
  const { taskId, index } = splitKey(picture.key);
  const name = picture.name ? { name: picture.name } : {};
  try {
    return { blob: await originalBlob(taskId, index), ...name };
  } catch (error) {
    // What was never fetched, or is no longer kept, may still be had where it came from.
    const isGone = asApiError(error).body.code === "originalGone";
    if (isGone && picture.originalUrl && /^https?:/.test(picture.originalUrl))
      return { url: picture.originalUrl, ...name };
    throw error;
  }
}

/** The sources of the pictures in tasks of moderate size. Fails whole where one original is gone. */
export async function sourcesOf(pictures: Picture[], onProgress: (done: number) => void): Promise<ImageSource[][]> {
  const sources: ImageSource[] = new Array(pictures.length);
  let next = 0;
  let done = 0;
  const worker = async () => {
    for (;;) {
      const place = next++;
      const picture = pictures[place];
      if (!picture) return;
      sources[place] = await sourceOf(picture);
      onProgress(++done);
    }
  };
  await Promise.all(Array.from({ length: ASKED_AT_ONCE }, worker));
  const batches: ImageSource[][] = [];
  for (let start = 0; start < sources.length; start += BATCH_FILES)
    batches.push(sources.slice(start, start + BATCH_FILES));
  return batches;
}
