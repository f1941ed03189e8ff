// What was laid down and is not a task yet. Each batch keeps one idempotency key for all of its attempts, so that an
// attempt whose answer was lost makes no second task.
import { useSyncExternalStore } from "react";
import { type ApiError, api, asApiError, uploadFiles } from "../../api/client";
import { onConnected } from "../../api/live-store";
import { pictureKey } from "../../api/selection";
import type { ImageSource, TaskAnswer, TaskOptions } from "../../api/types";
import { splitIntoBatches } from "./files";
import { makePreview, renamePreview } from "./previews";
import { makeAgain, type Repeat } from "./repeat";

export interface UploadItem {
  key: string;
  name: string;
  bytes: number;
}

export interface Upload {
  id: string;
  idempotencyKey: string;
  items: UploadItem[];
  files: File[];
  /** Instead of files: pictures that the server fetches. */
  sources: ImageSource[];
  /** Instead of both: pictures that the server has already. */
  repeat: Repeat | undefined;
  options: TaskOptions;
  state: "queued" | "sending" | "waiting" | "failed";
  sentBytes: number;
  totalBytes: number;
  attempts: number;
  retryAtMs: number | undefined;
  error: ApiError | undefined;
}

const SENT_AT_ONCE = 2;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 15_000;

let uploads: Upload[] = [];
const listeners = new Set<() => void>();
const acceptedListeners = new Set<(task: TaskAnswer) => void>();
const timers = new Map<string, ReturnType<typeof setTimeout>>();

function set(next: Upload[]): void {
  uploads = next;
  for (const listener of listeners) listener();
}

function change(id: string, values: Partial<Upload>): void {
  set(uploads.map((upload) => (upload.id === id ? { ...upload, ...values } : upload)));
}

export function useUploads(): Upload[] {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => uploads,
  );
}

export function onAccepted(listener: (task: TaskAnswer) => void): () => void {
  acceptedListeners.add(listener);
  return () => acceptedListeners.delete(listener);
}

function newUpload(options: TaskOptions, what: { files?: File[]; sources?: ImageSource[]; repeat?: Repeat }): Upload {
  const id = crypto.randomUUID();
  const { files = [], sources = [], repeat } = what;
  const named = [
    ...files,
    ...sources.map((source) => ({ name: source.name ?? source.url ?? "", size: 0 })),
    ...(repeat?.images ?? []).map((image) => ({ name: image.name ?? "", size: 0 })),
  ];
  const items = named.map((file, index) => ({ key: `${id}:${index}`, name: file.name, bytes: file.size }));
  return {
    id,
    idempotencyKey: crypto.randomUUID(),
    items,
    files,
    sources,
    repeat,
    options,
    state: "queued",
    sentBytes: 0,
    totalBytes: items.reduce((sum, item) => sum + item.bytes, 0),
    attempts: 0,
    retryAtMs: undefined,
    error: undefined,
  };
}

/** Queues files for sending; answers those that are too large to be sent at all. */
export function layDownFiles(files: File[], options: TaskOptions, limits: { bytes: number; images: number }): File[] {
  const { batches, tooLarge } = splitIntoBatches(files, limits.bytes, Math.min(24, limits.images));
  const added = batches.map((batch) => newUpload(options, { files: batch.files }));
  for (const upload of added) {
    upload.files.forEach((file, index) => {
      const item = upload.items[index];
      if (item) makePreview(item.key, file);
    });
  }
  set([...uploads, ...added]);
  pump();
  return tooLarge;
}

export function layDownSources(sources: ImageSource[], options: TaskOptions): void {
  set([...uploads, newUpload(options, { sources })]);
  pump();
}

export function layDownRepeats(repeats: Repeat[], options: TaskOptions): void {
  set([...uploads, ...repeats.map((repeat) => newUpload(options, { repeat }))]);
  pump();
}

export function retryUpload(id: string): void {
  clearTimeout(timers.get(id));
  change(id, { state: "queued", retryAtMs: undefined });
  pump();
}

export function discardUpload(id: string): void {
  clearTimeout(timers.get(id));
  set(uploads.filter((upload) => upload.id !== id));
}

function pump(): void {
  const sending = uploads.filter((upload) => upload.state === "sending").length;
  for (const upload of uploads.filter(({ state }) => state === "queued").slice(0, SENT_AT_ONCE - sending)) {
    void send(upload);
  }
}

function submit({ id, files, sources, repeat, options, idempotencyKey }: Upload): Promise<TaskAnswer> {
  if (repeat) return makeAgain(repeat, options, idempotencyKey);
  if (files.length === 0) return api.submit({ images: sources, options }, idempotencyKey);
  const progress = (sentBytes: number, totalBytes: number) => change(id, { sentBytes, totalBytes });
  return uploadFiles(files, options, idempotencyKey, progress).done;
}

async function send(upload: Upload): Promise<void> {
  const attempts = upload.attempts + 1;
  change(upload.id, { state: "sending", attempts, sentBytes: 0, error: undefined });
  try {
    const task = await submit(upload);
    upload.items.forEach((item, index) => {
      renamePreview(item.key, pictureKey(task.taskId, index));
    });
    for (const listener of acceptedListeners) listener(task);
    set(uploads.filter(({ id }) => id !== upload.id));
  } catch (thrown) {
    const error = asApiError(thrown);
    if (error.isTransient) waitAndRetry(upload.id, attempts, error);
    else change(upload.id, { state: "failed", error });
  }
  pump();
}

function waitAndRetry(id: string, attempts: number, error: ApiError): void {
  const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (attempts - 1));
  change(id, { state: "waiting", error, retryAtMs: Date.now() + pauseMs });
  timers.set(
    id,
    setTimeout(() => retryUpload(id), pauseMs),
  );
}

// What is not sent yet is only in this page: leaving it would lose it, so the browser asks first.
window.addEventListener("beforeunload", (event) => {
  if (uploads.length > 0) event.preventDefault();
});

// The server is back: nothing needs to wait for its turn any longer.
onConnected(() => {
  for (const upload of uploads) if (upload.state === "waiting") retryUpload(upload.id);
});
