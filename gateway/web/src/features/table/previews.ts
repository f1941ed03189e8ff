// Small local pictures of what was laid down, so that the table shows it at once, before the server has seen a byte.
// Made small because hundreds of photographs at full size would fill the memory.
import { useSyncExternalStore } from "react";

const PREVIEW_SIDE_PX = 384;
const PREVIEWS_KEPT = 800;
const AT_ONCE = 2;

const urls = new Map<string, string>();
const listeners = new Set<() => void>();
const waiting: (() => Promise<void>)[] = [];
let running = 0;

function notify(): void {
  for (const listener of listeners) listener();
}

function keep(key: string, url: string): void {
  urls.set(key, url);
  const oldest = urls.keys().next().value;
  if (urls.size > PREVIEWS_KEPT && oldest !== undefined) {
    const forgotten = urls.get(oldest);
    urls.delete(oldest);
    if (forgotten && ![...urls.values()].includes(forgotten)) URL.revokeObjectURL(forgotten);
  }
  notify();
}

async function shrink(file: File): Promise<string | undefined> {
  try {
    const full = await createImageBitmap(file);
    const scale = Math.min(1, PREVIEW_SIDE_PX / Math.max(full.width, full.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(full.width * scale));
    canvas.height = Math.max(1, Math.round(full.height * scale));
    canvas.getContext("2d")?.drawImage(full, 0, 0, canvas.width, canvas.height);
    full.close();
    const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, "image/webp", 0.85));
    return blob ? URL.createObjectURL(blob) : undefined;
  } catch {
    // Broken, or of a format that the browser cannot show: the tile then shows the name alone.
    return undefined;
  }
}

function next(): void {
  const job = waiting.shift();
  if (!job || running >= AT_ONCE) {
    if (job) waiting.unshift(job);
    return;
  }
  running += 1;
  void job().finally(() => {
    running -= 1;
    next();
  });
}

export function makePreview(key: string, file: File): void {
  waiting.push(async () => {
    const url = await shrink(file);
    if (url) keep(resolveKey(key), url);
  });
  next();
}

const aliases = new Map<string, string>();
const resolveKey = (key: string) => aliases.get(key) ?? key;

/** A picture got its place in a task: its preview goes with it, also if it is still being made. */
export function renamePreview(from: string, to: string): void {
  aliases.set(from, to);
  const url = urls.get(from);
  if (url === undefined) return;
  urls.set(to, url);
  notify();
}

export function copyPreview(from: string, to: string): void {
  const url = urls.get(from);
  if (url !== undefined) keep(to, url);
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function usePreview(key: string): string | undefined {
  return useSyncExternalStore(subscribe, () => urls.get(key));
}
