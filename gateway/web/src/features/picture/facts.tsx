// What is known of a finished picture, and where to read the rest of it.
import { useMutation, useQuery } from "@tanstack/react-query";
import { asApiError } from "../../api/client";
import type { LiveImage } from "../../api/live";
import { fetchHistory } from "../../api/live-store";
import { capabilitiesQuery, useStages } from "../../api/queries";
import { kcatFollowLine } from "../../api/shell-lines";
import type { ImageAnswer } from "../../api/types";
import { useI18n } from "../../i18n";
import { formatBytes } from "../../i18n/format";
import { CopyBlock, CopyId } from "../../ui/copy";
import { Failure, useStageName } from "../../ui/failure";
import { Fact } from "./fact";
import { HowMade } from "./how-made";
import { MeasuredFacts } from "./measured";
import { Times } from "./times";
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
            <HowMade metadata={found} />
            <Fact name={t("picture.size")}>{t("picture.sizeValue", found.dimensions)}</Fact>
            <Fact name={t("picture.file")}>
              {found.mediaType.replace(/^.*\//, "").toUpperCase()} · {formatBytes(language, found.bytes)}
            </Fact>
          </dl>
          <Times stages={found.stages} steps={found.matting?.steps ?? []} />
        </section>
      )}
      {found?.matting?.measured && <MeasuredFacts measured={found.matting.measured} />}
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
