// The one connection to /api/v1/events and what it told, as a store that components subscribe to piecewise. A hidden page
// closes its connection (browsers allow few to one host) and goes on from its last event when it is looked at again.
import type { QueryClient } from "@tanstack/react-query";
import { useSyncExternalStore } from "react";
import { applyEvent, type LiveTask, type LiveTasks } from "./live";
import { EventStream, type StreamState } from "./sse";
import type { LiveEvent, TaskEndedData } from "./types";

export interface Connection {
  state: StreamState;
  retryAtMs: number | undefined;
  /** Whether there was a connection before: a first failure is told differently from a loss. */
  wasLive: boolean;
}

const HIDDEN_CLOSE_MS = 20_000;
const REFETCH_PAUSE_MS = 400;

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

/** Starts the stream; the returned function ends it. */
export function startLive(queries: QueryClient): () => void {
  let refetchTimer: ReturnType<typeof setTimeout> | undefined;
  let hiddenTimer: ReturnType<typeof setTimeout> | undefined;
  const stale = new Set<string>();
  const refetchSoon = (key: string) => {
    stale.add(key);
    refetchTimer ??= setTimeout(() => {
      refetchTimer = undefined;
      for (const name of stale) void queries.invalidateQueries({ queryKey: [name] });
      stale.clear();
    }, REFETCH_PAUSE_MS);
  };
  const receive = (event: LiveEvent) => {
    tasks = applyEvent(tasks, event);
    recent = [event, ...recent.filter(({ eventId }) => eventId !== event.eventId)].slice(0, RECENT_KEPT);
    // Tasks that came by topic or from another window are learnt of here.
    if (event.type === "atelier.task.accepted.v1") refetchSoon("tasks");
    if (event.type === "atelier.image.ended.v1") refetchSoon("measurements");
    if (event.type === "atelier.task.ended.v1") {
      refetchSoon("tasks");
      refetchSoon("task");
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
    clearTimeout(refetchTimer);
    current.stop();
  };
}
