// The typed client. Every failure, the network's included, becomes an ApiError with a stable code, so that whoever shows
// it can say what happened in the reader's language.
import type {
  Capabilities,
  DeadLetter,
  ErrorBody,
  Measurements,
  PipelineState,
  RepeatRequest,
  TaskAnswer,
  TaskOptions,
  TaskPage,
  TaskRequest,
  VersionsAnswer,
} from "./types";

/** Codes that only the page itself gives: they say that no answer of the gateway was had. */
export type PageErrorCode = "offline" | "badAnswer" | "originalGone" | "archiveTooLarge";

export class ApiError extends Error {
  readonly body: ErrorBody;
  /** HTTP status, 0 where there was no answer. */
  readonly status: number;

  constructor(body: ErrorBody, status: number) {
    super(body.message);
    this.name = "ApiError";
    this.body = body;
    this.status = status;
  }

  /** Whether the same request may succeed later without any change. */
  get isTransient(): boolean {
    return this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504;
  }
}

export function pageError(code: PageErrorCode, message: string, status = 0): ApiError {
  return new ApiError({ code, message }, status);
}

/** The error that an answer's text stands for, whatever it holds. */
export function errorFromAnswer(status: number, text: string): ApiError {
  try {
    const parsed = JSON.parse(text) as { error?: ErrorBody };
    if (parsed.error && typeof parsed.error.code === "string") return new ApiError(parsed.error, status);
  } catch {
    // Not JSON: a proxy or a crash answered. The status is all there is to say.
  }
  if (status === 413) return new ApiError({ code: "imageTooLarge", message: `HTTP ${status}` }, status);
  return pageError("badAnswer", `HTTP ${status}`, status);
}

export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  return pageError("offline", error instanceof Error ? error.message : String(error));
}

async function request(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw asApiError(error);
  }
  if (!response.ok) throw errorFromAnswer(response.status, init.method === "HEAD" ? "" : await response.text());
  return response;
}

async function getJson<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await request(path, {
    headers: { accept: "application/json" },
    ...(signal ? { signal } : {}),
  });
  return (await response.json()) as T;
}

async function postJson<T>(path: string, body: unknown, headers: Record<string, string> = {}): Promise<T> {
  const response = await request(path, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
  return (await response.json()) as T;
}

export const api = {
  tasks: (cursor: string | undefined, signal?: AbortSignal) =>
    getJson<TaskPage>(`/api/v1/tasks?limit=20${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`, signal),
  task: (taskId: string, signal?: AbortSignal) => getJson<TaskAnswer>(`/api/v1/tasks/${taskId}`, signal),
  pipeline: (signal?: AbortSignal) => getJson<PipelineState>("/api/v1/pipeline", signal),
  measurements: (signal?: AbortSignal) => getJson<Measurements>("/api/v1/measurements", signal),
  capabilities: (signal?: AbortSignal) => getJson<Capabilities>("/api/v1/capabilities", signal),
  deadLetters: (stage: string, signal?: AbortSignal) =>
    getJson<{ deadLetters: DeadLetter[] }>(`/api/v1/dead-letters?stage=${encodeURIComponent(stage)}&limit=100`, signal),
  replay: (letter: Pick<DeadLetter, "stage" | "partition" | "offset">) =>
    postJson<{ eventId: string }>("/api/v1/dead-letters/replay", {
      stage: letter.stage,
      partition: letter.partition,
      offset: letter.offset,
    }),
  cancel: (taskId: string) => request(`/api/v1/tasks/${taskId}`, { method: "DELETE" }),
  submit: (body: TaskRequest, idempotencyKey: string) =>
    postJson<TaskAnswer>("/api/v1/tasks", body, { "idempotency-key": idempotencyKey }),
  /** Further versions of pictures of a task, from the originals that the gateway keeps. */
  repeat: (taskId: string, body: RepeatRequest, idempotencyKey: string) =>
    postJson<TaskAnswer>(`/api/v1/tasks/${taskId}/repeat`, body, { "idempotency-key": idempotencyKey }).catch(
      (error: unknown) => {
        const failure = asApiError(error);
        throw failure.status === 410 ? pageError("originalGone", failure.message, 410) : failure;
      },
    ),
  versions: (taskId: string, index: number, signal?: AbortSignal) =>
    getJson<VersionsAnswer>(`/api/v1/tasks/${taskId}/images/${index}/versions`, signal),
};

export type ImagePart = "original" | "result" | "thumbnail" | "alpha";

export function imagePath(taskId: string, index: number, part: ImagePart): string {
  return `/api/v1/tasks/${taskId}/images/${index}/${part}`;
}

export function downloadPath(taskId: string, index: number, part: ImagePart = "result"): string {
  return `${imagePath(taskId, index, part)}?download=1`;
}

export function archivePath(taskIds: string[]): string {
  return `/api/v1/archive?tasks=${taskIds.join(",")}`;
}

export interface UploadHandle {
  done: Promise<TaskAnswer>;
  abort: () => void;
}

/** Sends files as one task. XMLHttpRequest, because fetch tells nothing of an upload's progress. */
export function uploadFiles(
  files: File[],
  options: TaskOptions,
  idempotencyKey: string,
  onProgress: (sentBytes: number, totalBytes: number) => void,
): UploadHandle {
  const xhr = new XMLHttpRequest();
  const done = new Promise<TaskAnswer>((resolve, reject) => {
    const form = new FormData();
    form.append("options", JSON.stringify(options));
    for (const file of files) form.append("images", file, file.name);
    xhr.open("POST", "/api/v1/tasks");
    xhr.setRequestHeader("idempotency-key", idempotencyKey);
    xhr.setRequestHeader("accept", "application/json");
    xhr.upload.onprogress = (event) => onProgress(event.loaded, event.total);
    xhr.onload = () => {
      if (xhr.status < 200 || xhr.status > 299) return reject(errorFromAnswer(xhr.status, xhr.responseText));
      try {
        resolve(JSON.parse(xhr.responseText) as TaskAnswer);
      } catch {
        reject(pageError("badAnswer", "the answer is not JSON", xhr.status));
      }
    };
    xhr.onerror = () => reject(pageError("offline", "the connection was lost"));
    xhr.ontimeout = xhr.onerror;
    xhr.onabort = () => reject(pageError("offline", "aborted"));
    xhr.send(form);
  });
  return { done, abort: () => xhr.abort() };
}
