// What is known of a finished picture, and where to read the rest of it.
import { useMutation, useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { asApiError } from "../../api/client";
import type { LiveImage } from "../../api/live";
import { fetchHistory } from "../../api/live-store";
import { capabilitiesQuery, useStages } from "../../api/queries";
import { kcatFollowLine } from "../../api/request-options";
import type { ImageAnswer, StageTiming } from "../../api/types";
import { useI18n } from "../../i18n";
import { formatBytes, formatMs, formatPercent } from "../../i18n/format";
import { CopyBlock, CopyId } from "../../ui/copy";
import { Failure, useStageName } from "../../ui/failure";
import { Versions } from "./versions";

interface Props {
  taskId: string;
  image: ImageAnswer;
  live: LiveImage | undefined;
}

export function Facts({ taskId, image, live }: Props) {
  const { t, language } = useI18n();
  const { data: capabilities } = useQuery(capabilitiesQuery);
  const found = image.metadata;
  const brokers = capabilities?.kafka?.bootstrapServers;
  return (
    <div className="flex flex-col gap-6">
      {found && (
        <section aria-labelledby="facts-title">
          <h2 id="facts-title" className="sr-only">
            {t("picture.facts")}
          </h2>
          <dl className="text-[0.9rem]">
            <Fact
              name={t("picture.kind")}
              note={t("picture.confidence", { percent: formatPercent(language, found.confidence) })}
            >
              {t(`kind.${found.type}`)}
            </Fact>
            <Fact name={t("picture.model")} note={t("picture.provider", { provider: found.model.provider })}>
              {found.model.name}
            </Fact>
            {found.matting?.noSubject && <Fact name={t("picture.noSubject")}>{t("picture.noSubject.help")}</Fact>}
            <Fact name={t("picture.size")}>{t("picture.sizeValue", found.dimensions)}</Fact>
            <Fact name={t("picture.file")}>
              {found.mediaType.replace(/^.*\//, "").toUpperCase()} · {formatBytes(language, found.bytes)}
            </Fact>
          </dl>
          <Times stages={found.stages} />
        </section>
      )}
      <Versions taskId={taskId} image={image} />
      <section>
        <h2 className="edge-print mb-1">{t("picture.ids")}</h2>
        <div className="text-[0.85rem]">
          <CopyId label={t("picture.ids.task")} id={taskId} />
          <CopyId label={t("picture.ids.image")} id={image.imageId} />
          <EventIds taskId={taskId} image={image} live={live} />
        </div>
      </section>
      {brokers && (
        <section>
          <CopyBlock title={t("picture.follow")} text={kcatFollowLine(taskId, brokers)} />
          <p className="mt-1.5 text-[0.8rem] text-soft">{t("picture.follow.help")}</p>
        </section>
      )}
    </div>
  );
}

function Fact({ name, note, children }: { name: string; note?: string; children: ReactNode }) {
  return (
    <div className="flex items-baseline gap-3 border-b border-rule py-1.5">
      <dt className="w-20 shrink-0 text-soft">{name}</dt>
      <dd className="min-w-0 flex-1">
        {children}
        {note && <span className="ml-2 text-[0.8rem] text-soft">{note}</span>}
      </dd>
    </div>
  );
}

/** Six greys would not be told apart: neighbours alternate, and the longest stage takes the pencil. */
function shadeOf(place: number, isLongest: boolean): string {
  if (isLongest) return "bg-pencil";
  return place % 2 === 0 ? "bg-soft" : "bg-edge";
}

function Times({ stages }: { stages: StageTiming[] }) {
  const { t, language } = useI18n();
  const order = useStages();
  const stageName = useStageName();
  const sorted = [...stages].sort((a, b) => order.indexOf(a.stage) - order.indexOf(b.stage));
  const work = sorted.reduce((sum, timing) => sum + timing.processingTimeMs, 0);
  const waiting = sorted.reduce((sum, timing) => sum + timing.queueMs, 0);
  const longest = Math.max(...sorted.map((timing) => timing.processingTimeMs));
  if (sorted.length === 0) return null;
  return (
    <div className="mt-4">
      <p className="flex justify-between text-[0.9rem]">
        <span className="text-soft">{t("picture.time")}</span>
        <span>
          {t("picture.time.total", { time: formatMs(language, work) })}
          <span className="text-soft"> + {t("picture.time.queue", { time: formatMs(language, waiting) })}</span>
        </span>
      </p>
      <div aria-hidden="true" className="my-2 flex h-2.5 gap-px overflow-hidden rounded-full bg-well">
        {sorted.map((timing, place) => (
          <span
            key={timing.stage}
            className={shadeOf(place, timing.processingTimeMs === longest)}
            style={{ flexGrow: timing.processingTimeMs, minWidth: 2 }}
          />
        ))}
      </div>
      <ul className="text-[0.82rem]">
        {sorted.map((timing, place) => (
          <li
            key={timing.stage}
            className="flex items-center gap-2 py-px"
            title={t("picture.time.stage", {
              stage: stageName(timing.stage),
              work: formatMs(language, timing.processingTimeMs),
              queue: formatMs(language, timing.queueMs),
            })}
          >
            <span
              aria-hidden="true"
              className={`size-2 rounded-full ${shadeOf(place, timing.processingTimeMs === longest)}`}
            />
            <span className="flex-1 text-soft">{stageName(timing.stage)}</span>
            <span>{formatMs(language, timing.processingTimeMs)}</span>
            <span className="w-20 text-right text-faint">+ {formatMs(language, timing.queueMs)}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}

/** An image ends with the event that says so: with fewer, some have passed before the page was opened. */
const hasWholeHistory = (live: LiveImage | undefined, stageCount: number) =>
  live !== undefined && live.events.length > stageCount && live.ended !== undefined;

function EventIds({ taskId, image, live }: Props) {
  const { t } = useI18n();
  const stageName = useStageName();
  const stages = useStages();
  const history = useMutation({ mutationFn: () => fetchHistory(taskId) });
  const isOpen = image.status === "pending" || image.status === "processing";
  const events = [...(live?.events ?? [])].sort((a, b) => a.time.localeCompare(b.time));
  // A failed image passes fewer stages: after one look there is no more to be found.
  const mayLookUp = !isOpen && !history.isSuccess && !hasWholeHistory(live, stages.length);
  return (
    <>
      {events.map((event) => (
        <CopyId
          key={event.eventId}
          id={event.eventId}
          label={t("picture.ids.event", {
            name: event.stage ? stageName(event.stage) : event.type.replace(/^atelier\.(.*)\.v\d+$/, "$1"),
          })}
        />
      ))}
      {isOpen && events.length === 0 && <p className="mt-1 text-[0.8rem] text-soft">{t("picture.ids.none")}</p>}
      {history.isSuccess && events.length === 0 && (
        <p className="mt-1 text-[0.8rem] text-soft">{t("picture.ids.gone")}</p>
      )}
      {history.isError && <Failure error={asApiError(history.error).body} compact />}
      {mayLookUp && (
        <button
          type="button"
          onClick={() => history.mutate()}
          disabled={history.isPending}
          className="mt-1 underline decoration-edge underline-offset-4 hover:decoration-ink"
        >
          {t(history.isPending ? "picture.ids.lookingUp" : "picture.ids.lookUp")}
        </button>
      )}
    </>
  );
}
