// The one connection to /api/v1/events and what it told, as a store that components subscribe to piecewise. A hidden page
// closes its connection (browsers allow few to one host) and goes on from its last event when it is looked at again.
import type { InfiniteData, QueryClient } from "@tanstack/react-query";
import { useSyncExternalStore } from "react";
import { asApiError, errorFromAnswer } from "./client";
import { applyEvent, type LiveTask, type LiveTasks } from "./live";
import { EventStream, type StreamState } from "./sse";
import { SseParser } from "./sse-parser";
import type { LiveEvent, TaskEndedData, TaskPage } from "./types";

export interface Connection {
  state: StreamState;
  retryAtMs: number | undefined;
  /** Whether there was a connection before: a first failure is told differently from a loss. */
  wasLive: boolean;
}

const HIDDEN_CLOSE_MS = 20_000;
const NEW_TASK_PAUSE_MS = 400;
const ENDED_PAUSE_MS = 3_000;

let tasks: LiveTasks = {};
/** The latest events, newest first, for the log at the line. */
const RECENT_KEPT = 40;
let recent: LiveEvent[] = [];
let connection: Connection = { state: "connecting", retryAtMs: undefined, wasLive: false };
const listeners = new Set<() => void>();
const endListeners = new Set<(task: TaskEndedData) => void>();
let frame = 0;

function notify(): void {
  // Hundreds of events a second make one rendering a frame.
  if (frame !== 0) return;
  const run = () => {
    frame = 0;
    for (const listener of listeners) listener();
  };
  // A hidden page gets no frames, and its listeners still have to learn that the connection is back.
  frame = document.hidden ? window.setTimeout(run, 200) : requestAnimationFrame(run);
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function useLiveTask(taskId: string): LiveTask | undefined {
  return useSyncExternalStore(subscribe, () => tasks[taskId]);
}

export function useLiveTasks(): LiveTasks {
  return useSyncExternalStore(subscribe, () => tasks);
}

export function useRecentEvents(): LiveEvent[] {
  return useSyncExternalStore(subscribe, () => recent);
}

export function useConnection(): Connection {
  return useSyncExternalStore(subscribe, () => connection);
}

export function onTaskEnded(listener: (task: TaskEndedData) => void): () => void {
  endListeners.add(listener);
  return () => endListeners.delete(listener);
}

const reconnectListeners = new Set<() => void>();

/** Called whenever the server answers (again): whatever was waiting may go on. */
export function onConnected(listener: () => void): () => void {
  reconnectListeners.add(listener);
  return () => reconnectListeners.delete(listener);
}

let stream: EventStream | undefined;

export function retryConnection(): void {
  stream?.retryNow();
}

const HISTORY_LIMIT_MS = 20_000;

/** The earliest place on every partition that the stream has named. */
export function startOfLog(position: string | undefined): string | undefined {
  return position?.replace(/-\d+/g, "-0");
}

/**
 * Reads the events of a finished task from the start of the log, for one who opened the page after they had passed.
 * Costs the server a walk through the log, so it is done only when somebody asks.
 */
export async function fetchHistory(taskId: string): Promise<void> {
  const from = startOfLog(stream?.position);
  if (!from) return;
  const response = await fetch(`/api/v1/tasks/${taskId}/events`, {
    headers: { accept: "text/event-stream", "last-event-id": from },
    signal: AbortSignal.timeout(HISTORY_LIMIT_MS),
  }).catch((error: unknown) => {
    throw asApiError(error);
  });
  if (response.status === 204) return;
  if (!response.ok) throw errorFromAnswer(response.status, await response.text());
  const parser = new SseParser();
  for (const message of parser.push(`${await response.text()}\n\n`)) {
    if (message.event !== "snapshot") tasks = applyEvent(tasks, JSON.parse(message.data) as LiveEvent);
  }
  notify();
}

function isOnSheet(queries: QueryClient, event: LiveEvent): boolean {
  const { taskId } = event.data as { taskId: string };
  const sheet = queries.getQueryData<InfiniteData<TaskPage>>(["tasks"]);
  return sheet?.pages.some((page) => page.tasks.some((task) => task.taskId === taskId)) ?? false;
}

/** Starts the stream; the returned function ends it. */
export function startLive(queries: QueryClient): () => void {
  const refetchTimers = new Map<string, ReturnType<typeof setTimeout>>();
  let hiddenTimer: ReturnType<typeof setTimeout> | undefined;
  const refetchSoon = (key: string, pauseMs: number) => {
    if (refetchTimers.has(key)) return;
    const refetch = () => {
      refetchTimers.delete(key);
      void queries.invalidateQueries({ queryKey: [key] });
    };
    refetchTimers.set(key, setTimeout(refetch, pauseMs));
  };
  const receive = (event: LiveEvent) => {
    tasks = applyEvent(tasks, event);
    recent = [event, ...recent.filter(({ eventId }) => eventId !== event.eventId)].slice(0, RECENT_KEPT);
    // Tasks that came by topic or from another window are learnt of here.
    if (event.type === "atelier.task.accepted.v1" && !isOnSheet(queries, event))
      refetchSoon("tasks", NEW_TASK_PAUSE_MS);
    if (event.type === "atelier.image.ended.v1") refetchSoon("measurements", ENDED_PAUSE_MS);
    if (event.type === "atelier.task.ended.v1") {
      // The overlay says already what has changed; the snapshots follow at leisure, before the overlay forgets.
      refetchSoon("tasks", ENDED_PAUSE_MS);
      refetchSoon("task", ENDED_PAUSE_MS);
      for (const listener of endListeners) listener(event.data as TaskEndedData);
    }
    notify();
  };
  const current = new EventStream({
    url: "/api/v1/events",
    onMessage: (message) => {
      // Only a place to go on from, without an event.
      if (message.event === "position") return;
      try {
        receive(JSON.parse(message.data) as LiveEvent);
      } catch (error) {
        console.error("an event could not be read", message, error);
      }
    },
    onState: (state, retryAtMs) => {
      connection = { state, retryAtMs, wasLive: connection.wasLive || state === "live" };
      notify();
    },
    onOpen: () => {
      // Snapshots are fetched after the stream stands, so that nothing falls between the two.
      void queries.invalidateQueries();
      for (const listener of reconnectListeners) listener();
    },
  });
  stream = current;
  const onVisibility = () => {
    clearTimeout(hiddenTimer);
    if (document.hidden) hiddenTimer = setTimeout(() => current.stop(), HIDDEN_CLOSE_MS);
    else current.start();
  };
  document.addEventListener("visibilitychange", onVisibility);
  current.start();
  return () => {
    document.removeEventListener("visibilitychange", onVisibility);
    clearTimeout(hiddenTimer);
    for (const timer of refetchTimers.values()) clearTimeout(timer);
    current.stop();
  };
}
