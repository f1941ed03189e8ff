// All tasks of the sheet as they stand now, by id: snapshots with what the stream has told since.
import { useQueries } from "@tanstack/react-query";
import { useMemo } from "react";
import { mergeTask } from "../../api/live";
import { useLiveTasks } from "../../api/live-store";
import { taskQuery } from "../../api/queries";
import { type Selection, splitKey } from "../../api/selection";
import type { TaskAnswer } from "../../api/types";

export function useMergedTasks(tasks: TaskAnswer[]): Map<string, TaskAnswer> {
  const live = useLiveTasks();
  return useMemo(() => new Map(tasks.map((task) => [task.taskId, mergeTask(task, live[task.taskId])])), [tasks, live]);
}

/** The tasks of a selection. An address may name some that lie further down the sheet than was fetched. */
export function useSelectedTasks(selection: Selection, tasks: TaskAnswer[]): Map<string, TaskAnswer> {
  const missing = useMemo(() => {
    const known = new Set(tasks.map(({ taskId }) => taskId));
    return [...new Set([...selection].map((key) => splitKey(key).taskId))].filter((taskId) => !known.has(taskId));
  }, [selection, tasks]);
  const fetched = useQueries({
    queries: missing.map(taskQuery),
    combine: (results) => results.flatMap(({ data }) => data ?? []),
  });
  const all = useMemo(() => [...tasks, ...fetched], [tasks, fetched]);
  return useMergedTasks(all);
}
