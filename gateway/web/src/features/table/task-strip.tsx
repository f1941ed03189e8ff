// One task on the contact sheet, with its edge print: when, with which options, how far.
import { memo, useState } from "react";
import { archivePath } from "../../api/client";
import { mergeTask } from "../../api/live";
import { useLiveTask } from "../../api/live-store";
import { useStages } from "../../api/queries";
import { choiceFromOptions } from "../../api/request-options";
import { pictureKey } from "../../api/selection";
import type { ErrorBody, TaskAnswer } from "../../api/types";
import { useI18n } from "../../i18n";
import { formatTime } from "../../i18n/format";
import { Failure } from "../../ui/failure";
import { Icon } from "../../ui/icons";
import { StopTask } from "./stop-task";
import { Tile } from "./tile";
import type { SelectionTools } from "./use-selection";

/** More tiles of one task only on request: a task may have a thousand. */
const TILES_AT_FIRST = 60;

interface Props {
  task: TaskAnswer;
  columns: number;
  selection: SelectionTools;
}

export const TaskStrip = memo(function TaskStrip({ task: snapshot, columns, selection }: Props) {
  const { t, language } = useI18n();
  const live = useLiveTask(snapshot.taskId);
  const stages = useStages();
  const [showsAll, setShowsAll] = useState(false);
  const [refusal, setRefusal] = useState<ErrorBody>();
  const task = mergeTask(snapshot, live);
  const { totalImages, successCount, failureCount, cancelledCount } = task.summary;
  const count = Math.max(1, totalImages, task.results.length);
  const span = Math.min(count, columns);
  const time = formatTime(language, task.submittedAt);
  const shown = showsAll ? task.results : task.results.slice(0, TILES_AT_FIRST);
  const isOpen = task.status === "pending" || task.status === "processing";
  const choice = choiceFromOptions(task.options);
  const keys = task.results.map((image) => pictureKey(task.taskId, image.index));
  const allSelected = keys.length > 0 && keys.every((key) => selection.keys.has(key));
  const isWide = span > 1;

  return (
    <section
      aria-label={t("table.pictures", { time })}
      className="strip"
      style={{ gridColumn: `span ${span}`, ["--columns" as string]: span }}
      data-testid="task"
      data-task={task.taskId}
      data-status={task.status}
    >
      <header className="edge-print mb-2 flex min-h-6 items-center gap-x-3 overflow-hidden border-t border-rule pt-1 whitespace-nowrap">
        <time dateTime={task.submittedAt} className="text-soft">
          {time}
        </time>
        <span className="truncate">
          {t(`quality.${choice.quality}`)} · {t(`format.${choice.format}`)}
        </span>
        {isOpen && count > 1 && (
          <span className="text-ink">
            {t("common.of", { done: successCount + failureCount + cancelledCount, total: count })}
          </span>
        )}
        {isOpen && <StopTask taskId={task.taskId} isWide={isWide} onRefused={setRefusal} />}
        {failureCount > 0 && isWide && <span className="text-fail">{t("count.failed", { count: failureCount })}</span>}
        {isWide && (
          <span className="ml-auto flex gap-3">
            <label className="inline-flex items-center gap-1 hover:text-ink">
              <input
                type="checkbox"
                checked={allSelected}
                onChange={() => selection.setMany(keys, !allSelected)}
                aria-label={t("table.selectTask")}
                className="accent-(--pencil)"
              />
              {t("count.pictures", { count })}
            </label>
            {successCount > 1 && (
              <a
                href={archivePath([task.taskId])}
                download
                className="inline-flex items-center gap-1 hover:text-ink"
                aria-label={t("table.zipTask.label")}
              >
                <Icon name="download" size={12} />
                {t("table.zipTask")}
              </a>
            )}
          </span>
        )}
      </header>
      {refusal && <Failure error={refusal} compact={!isWide} />}
      {task.error && <Failure error={task.error} compact={!isWide} />}
      <ul className="tile-grid">
        {shown.map((image) => (
          <Tile
            key={image.imageId}
            taskId={task.taskId}
            image={image}
            live={live?.images[image.imageId]}
            stages={stages}
            isSelected={selection.keys.has(pictureKey(task.taskId, image.index))}
            onToggle={selection.toggle}
          />
        ))}
      </ul>
      {shown.length < task.results.length && (
        <button type="button" onClick={() => setShowsAll(true)} className="mt-3 underline underline-offset-4">
          {t("table.showAll", { count: task.results.length })}
        </button>
      )}
    </section>
  );
});
