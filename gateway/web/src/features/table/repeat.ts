// Another background, quality or format: further versions of pictures that the server has already.
import { api, asApiError } from "../../api/client";
import type { ImageAnswer, TaskAnswer, TaskOptions } from "../../api/types";

/** Pictures of one task that are made again together. */
export interface Repeat {
  taskId: string;
  images: ImageAnswer[];
}

const hasAddress = (image: ImageAnswer) => /^https?:/.test(image.originalUrl);

/** By task, and so that a picture without an original keeps no other one from being made again. */
export function repeatsOf(pictures: { taskId: string; image: ImageAnswer }[]): Repeat[] {
  const repeats = new Map<string, Repeat>();
  for (const { taskId, image } of pictures) {
    // Of what is fetched the server knows the original only with the result.
    const isKnown = image.status === "completed" || !hasAddress(image);
    const group = `${taskId} ${isKnown}`;
    const repeat = repeats.get(group) ?? { taskId, images: [] };
    repeat.images.push(image);
    repeats.set(group, repeat);
  }
  return [...repeats.values()];
}

export async function makeAgain(repeat: Repeat, options: TaskOptions, idempotencyKey: string): Promise<TaskAnswer> {
  const { taskId, images } = repeat;
  try {
    const body = { images: images.map(({ imageId }) => imageId), options };
    return await api.repeat(taskId, body, idempotencyKey);
  } catch (error) {
    // What was never fetched, or is no longer kept, may still be had where it came from.
    const { code } = asApiError(error).body;
    const isMissing = code === "noOriginal" || code === "originalGone";
    if (!isMissing || !images.every(hasAddress)) throw error;
    const sources = images.map(({ originalUrl, name }) => ({ url: originalUrl, ...(name ? { name } : {}) }));
    return api.submit({ images: sources, options }, idempotencyKey);
  }
}
