// What is fetched, under which key, and how long it is good for. The event stream marks things stale; nothing polls.
import {
  type InfiniteData,
  infiniteQueryOptions,
  type QueryClient,
  queryOptions,
  useInfiniteQuery,
  useQuery,
} from "@tanstack/react-query";
import { api, asApiError } from "./client";
import { DEFAULT_STAGES } from "./live";
import type { TaskAnswer, TaskPage } from "./types";

export const tasksQuery = infiniteQueryOptions({
  queryKey: ["tasks"],
  queryFn: ({ pageParam, signal }) => api.tasks(pageParam, signal),
  initialPageParam: undefined as string | undefined,
  getNextPageParam: (page: TaskPage) => page.nextCursor,
});

export const taskQuery = (taskId: string) =>
  queryOptions({ queryKey: ["task", taskId], queryFn: ({ signal }) => api.task(taskId, signal) });

export const versionsQuery = (taskId: string, index: number) =>
  queryOptions({
    queryKey: ["versions", taskId, index],
    queryFn: ({ signal }) => api.versions(taskId, index, signal),
  });

export const capabilitiesQuery = queryOptions({
  queryKey: ["capabilities"],
  queryFn: ({ signal }) => api.capabilities(signal),
  staleTime: Number.POSITIVE_INFINITY,
});

export const measurementsQuery = queryOptions({
  queryKey: ["measurements"],
  queryFn: ({ signal }) => api.measurements(signal),
});

export const pipelineQuery = queryOptions({
  queryKey: ["pipeline"],
  queryFn: ({ signal }) => api.pipeline(signal),
});

export const deadLettersQuery = (stage: string) =>
  queryOptions({ queryKey: ["deadLetters", stage], queryFn: ({ signal }) => api.deadLetters(stage, signal) });

/** Only what may succeed later is asked for again; a plain refusal is shown at once. */
export function shouldRetry(failures: number, error: unknown): boolean {
  return failures < 3 && asApiError(error).isTransient;
}

export const useTasks = () => useInfiniteQuery(tasksQuery);

/** The stages in the order of the line. */
export function useStages(): string[] {
  const { data } = useQuery({ ...pipelineQuery, staleTime: 60_000 });
  return data && data.stages.length > 0 ? data.stages.map((stage) => stage.name) : DEFAULT_STAGES;
}

/** Puts an accepted task on top of the sheet at once, before the list is fetched again. */
export function showTask(queries: QueryClient, task: TaskAnswer): void {
  queries.setQueryData(["task", task.taskId], task);
  queries.setQueryData<InfiniteData<TaskPage, string | undefined>>(["tasks"], (data) => {
    if (!data) return data;
    if (data.pages.some((page) => page.tasks.some((known) => known.taskId === task.taskId))) return data;
    const [first, ...others] = data.pages;
    return { ...data, pages: first ? [{ ...first, tasks: [task, ...first.tasks] }, ...others] : [{ tasks: [task] }] };
  });
  void queries.invalidateQueries({ queryKey: ["tasks"] });
  void queries.invalidateQueries({ queryKey: ["versions"] });
}
