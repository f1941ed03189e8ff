// Which pictures are at which stage now, by the last event that was heard of each.
import { useMemo } from "react";
import { type LiveTasks, progressOf } from "../../api/live";
import { useLiveTasks } from "../../api/live-store";
import type { StageState, TaskAnswer } from "../../api/types";

export interface Traveller {
  taskId: string;
  index: number;
  imageId: string;
  name: string | undefined;
}

export function travellersByStage(
  tasks: Iterable<TaskAnswer>,
  live: LiveTasks,
  stages: string[],
): Map<string, Traveller[]> {
  const byStage = new Map<string, Traveller[]>(stages.map((stage) => [stage, []]));
  for (const task of tasks) {
    if (task.status !== "pending" && task.status !== "processing") continue;
    for (const image of task.results) {
      if (image.status !== "pending" && image.status !== "processing") continue;
      const { stage } = progressOf(live[task.taskId]?.images[image.imageId], stages);
      // Of what has not begun it is known where it is; of what is in work and not heard of yet, it is not.
      const at = stage ?? (image.status === "pending" && task.status === "pending" ? stages[0] : undefined);
      if (at)
        byStage.get(at)?.push({ taskId: task.taskId, index: image.index, imageId: image.imageId, name: image.name });
    }
  }
  return byStage;
}

export function useTravellers(tasks: Map<string, TaskAnswer>, stages: StageState[]): Map<string, Traveller[]> {
  const live = useLiveTasks();
  return useMemo(
    () =>
      travellersByStage(
        tasks.values(),
        live,
        stages.map(({ name }) => name),
      ),
    [tasks, live, stages],
  );
}
