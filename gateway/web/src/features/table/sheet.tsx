// The contact sheet: strips of pictures, a strip a task, newest first. Small strips lie side by side as on a real one.
import { useEffect, useRef, useState } from "react";
import { onTaskEnded } from "../../api/live-store";
import type { TaskAnswer } from "../../api/types";
import { useI18n } from "../../i18n";
import { announce } from "../../ui/announce";
import { TaskStrip } from "./task-strip";
import { UploadStrip } from "./upload-strip";
import type { Upload } from "./uploads";
import type { SelectionTools } from "./use-selection";
import { useSheetKeys } from "./use-sheet-keys";

const TILE_WIDTH_PX = 160;
const LEAST_COLUMNS = 2;

function useColumns() {
  const ref = useRef<HTMLDivElement>(null);
  const [columns, setColumns] = useState(LEAST_COLUMNS);
  useEffect(() => {
    const element = ref.current;
    if (!element) return;
    const observer = new ResizeObserver(([entry]) => {
      const rem = Number.parseFloat(getComputedStyle(document.documentElement).fontSize) / 15;
      if (entry) setColumns(Math.max(LEAST_COLUMNS, Math.floor(entry.contentRect.width / (TILE_WIDTH_PX * rem))));
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return { ref, columns };
}

interface Props {
  tasks: TaskAnswer[];
  uploads: Upload[];
  selection: SelectionTools;
}

export function Sheet({ tasks, uploads, selection }: Props) {
  const { t } = useI18n();
  const { ref, columns } = useColumns();
  const { onKeyDown, onFocus } = useSheetKeys(selection, ref);
  useEffect(
    () =>
      onTaskEnded(({ summary }) =>
        announce(t("announce.taskEnded", { ok: summary.successCount, failed: summary.failureCount })),
      ),
    [t],
  );
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the keys are shortcuts; every tile is a link with a checkbox of its own
    <div
      ref={ref}
      className="sheet grid items-start gap-x-[0.9rem] gap-y-7"
      style={{ gridTemplateColumns: `repeat(${columns}, minmax(0, 1fr))` }}
      data-selecting={selection.keys.size > 0}
      onKeyDown={onKeyDown}
      onFocus={onFocus}
    >
      <p className="keys-hint">{t("table.keys")}</p>
      {[...uploads].reverse().map((upload) => (
        <UploadStrip key={upload.id} upload={upload} columns={columns} />
      ))}
      {tasks.map((task) => (
        <TaskStrip key={task.taskId} task={task} columns={columns} selection={selection} />
      ))}
    </div>
  );
}
