// All tasks of the sheet as they stand now, by id: snapshots with what the stream has told since.
import { useMemo } from "react";
import { mergeTask } from "../../api/live";
import { useLiveTasks } from "../../api/live-store";
import type { TaskAnswer } from "../../api/types";

export function useMergedTasks(tasks: TaskAnswer[]): Map<string, TaskAnswer> {
  const live = useLiveTasks();
  return useMemo(() => new Map(tasks.map((task) => [task.taskId, mergeTask(task, live[task.taskId])])), [tasks, live]);
}
