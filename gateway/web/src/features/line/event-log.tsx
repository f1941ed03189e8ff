// The last events as they came off task-events: the line's own words.
import { Link } from "@tanstack/react-router";
import { useRecentEvents } from "../../api/live-store";
import type { ErrorBody, LiveEvent, TaskAnswer } from "../../api/types";
import { useI18n } from "../../i18n";
import { formatClock, formatMs } from "../../i18n/format";
import { hasMessage, type MessageKey } from "../../i18n/translate";
import { useFailureWords, useStageName } from "../../ui/failure";
import { carriedSearch } from "../../ui/shell";

const SHOWN = 14;

interface AnyData {
  taskId?: string;
  imageId?: string;
  stage?: string;
  processingTimeMs?: number;
  error?: ErrorBody;
}

export function EventLog({ tasks }: { tasks: Map<string, TaskAnswer> }) {
  const { t } = useI18n();
  const events = useRecentEvents();
  return (
    <section aria-labelledby="log-title" className="mt-12 border-t border-rule pt-4">
      <h2 id="log-title" className="font-semibold">
        {t("line.log")}
      </h2>
      <p className="mb-3 text-[0.85rem] text-soft">{t(events.length > 0 ? "line.log.help" : "line.log.none")}</p>
      <ol className="max-w-4xl text-[0.85rem]">
        {events.slice(0, SHOWN).map((event) => (
          <Row key={event.eventId} event={event} tasks={tasks} />
        ))}
      </ol>
    </section>
  );
}

function Row({ event, tasks }: { event: LiveEvent; tasks: Map<string, TaskAnswer> }) {
  const { t, language } = useI18n();
  const stageName = useStageName();
  const words = useFailureWords();
  const { taskId, imageId, stage, processingTimeMs, error } = event.data as AnyData;
  const image = taskId ? tasks.get(taskId)?.results.find((result) => result.imageId === imageId) : undefined;
  const key = `event.${event.type}`;
  const what = hasMessage(key) ? t(key as MessageKey, stage ? { stage: stageName(stage) } : {}) : event.type;
  return (
    <li className="grid grid-cols-[4.6rem_1fr_auto] items-baseline gap-x-4 border-b border-rule py-1 sm:grid-cols-[4.6rem_11rem_1fr_auto]">
      <time dateTime={event.time} className="text-soft">
        {formatClock(language, event.time)}
      </time>
      <span className={error ? "text-fail" : ""}>
        {what}
        {error ? `: ${words(error.code).what}` : ""}
      </span>
      <span className="min-w-0 truncate text-soft max-sm:hidden">
        {image && taskId ? (
          <Link
            to="/pictures/$taskId/$index"
            params={{ taskId, index: String(image.index) }}
            search={carriedSearch}
            className="underline decoration-rule underline-offset-4 hover:text-ink"
          >
            {image.name ?? t("tile.unnamed", { number: image.index + 1 })}
          </Link>
        ) : (
          taskId?.slice(0, 8)
        )}
      </span>
      <span className="text-right text-soft">
        {processingTimeMs === undefined ? "" : formatMs(language, processingTimeMs)}
      </span>
    </li>
  );
}
