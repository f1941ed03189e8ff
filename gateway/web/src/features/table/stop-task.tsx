// Stops a task that is on its way. Its end comes by the event stream, as every end does.
import { useState } from "react";
import { api, asApiError } from "../../api/client";
import type { ErrorBody } from "../../api/types";
import { useI18n } from "../../i18n";
import { announce } from "../../ui/announce";
import { Icon } from "../../ui/icons";

interface Props {
  taskId: string;
  /** Whether there is room for a word beside the sign. */
  isWide: boolean;
  onRefused: (error: ErrorBody | undefined) => void;
}

export function StopTask({ taskId, isWide, onRefused }: Props) {
  const { t } = useI18n();
  const [isAsked, setIsAsked] = useState(false);

  const stop = async () => {
    if (isAsked) return;
    setIsAsked(true);
    onRefused(undefined);
    try {
      await api.cancel(taskId);
      announce(t("table.stop.asked"));
    } catch (thrown) {
      onRefused(asApiError(thrown).body);
      setIsAsked(false);
    }
  };

  return (
    <button
      type="button"
      onClick={stop}
      // Not `disabled`: that would take the focus away.
      aria-disabled={isAsked}
      aria-label={t("table.stop.label")}
      title={t("table.stop.label")}
      className="inline-flex items-center gap-1 hover:text-ink aria-disabled:opacity-60"
    >
      <Icon name="close" size={12} />
      {isWide && t(isAsked ? "table.stop.asked" : "table.stop")}
    </button>
  );
}
