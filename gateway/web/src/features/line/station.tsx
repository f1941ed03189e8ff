// One stage on the line: what waits before it, what is in it, how fast it goes, and what it gave up.
import { Link } from "@tanstack/react-router";
import { pictureKey } from "../../api/selection";
import type { StageState } from "../../api/types";
import { useI18n } from "../../i18n";
import { formatMs } from "../../i18n/format";
import { hasMessage, type MessageKey } from "../../i18n/translate";
import { useStageName } from "../../ui/failure";
import { Icon } from "../../ui/icons";
import { carriedSearch } from "../../ui/shell";
import { usePreview } from "../table/previews";
import type { Traveller } from "./travellers";

interface Props {
  stage: StageState;
  isFirst: boolean;
  isLast: boolean;
  travellers: Traveller[] | undefined;
  onLetters: () => void;
}

export function Station({ stage, isFirst, isLast, travellers = [], onLetters }: Props) {
  const { t, language } = useI18n();
  const name = useStageName()(stage.name);
  const about = hasMessage(`stage.${stage.name}.about`) ? t(`stage.${stage.name}.about` as MessageKey) : undefined;
  const isBusy = stage.queued > 0 || travellers.length > 0;
  const figure = (value: number | null | undefined) => (value ? formatMs(language, value) : t("line.noFigure"));
  return (
    <li
      className="grid grid-cols-[2.6rem_1fr] lg:grid-cols-1 lg:grid-rows-[5.5rem_2.6rem_1fr]"
      data-testid={`station-${stage.name}`}
    >
      <div className="order-2 col-start-2 flex min-h-0 items-end pb-2 max-lg:order-3 max-lg:pb-6 lg:order-1 lg:col-start-1 lg:pr-3">
        <Travellers travellers={travellers} />
      </div>
      <Rail isFirst={isFirst} isLast={isLast} queued={stage.queued} isBusy={isBusy} />
      <div className="order-2 lg:order-3 lg:pr-6 lg:pt-3">
        <h2 className="text-lg leading-tight font-semibold tracking-tight">{name}</h2>
        {about && <p className="text-[0.82rem] text-soft lg:min-h-[2.9em]">{about}</p>}
        <dl className="mt-3 grid grid-cols-3 gap-x-4 gap-y-2 sm:grid-cols-6 lg:grid-cols-2">
          <Figure name={t("line.queue")} value={stage.queued.toLocaleString(language)} isStrong={stage.queued > 0} />
          <Figure
            name={t("line.throughput")}
            value={
              stage.perSecond > 0
                ? stage.perSecond.toLocaleString(language, { maximumFractionDigits: 2 })
                : t("line.noFigure")
            }
          />
          <Figure name={t("line.p50")} value={figure(stage.p50Ms)} />
          <Figure name={t("line.p95")} value={figure(stage.p95Ms)} />
          <Figure name={t("line.total")} value={stage.processedTotal.toLocaleString(language)} />
          <Figure name={t("line.retry")} value={stage.inRetry.toLocaleString(language)} isStrong={stage.inRetry > 0} />
        </dl>
        <div className="mt-3 mb-2 lg:mb-0">
          {stage.deadLetters > 0 ? (
            <button
              type="button"
              onClick={onLetters}
              aria-label={t("line.dead.open", { count: stage.deadLetters, stage: name })}
              className="inline-flex items-center gap-1.5 rounded-[5px] bg-fail-wash px-2.5 py-1 font-semibold text-fail hover:outline-1 hover:outline-fail"
            >
              <Icon name="alert" size={14} />
              {t("line.dead", { count: stage.deadLetters })}
            </button>
          ) : (
            <p className="edge-print py-1">{t("line.dead.none")}</p>
          )}
        </div>
        <p className="edge-print mt-1 break-words max-lg:pb-5">
          {t("line.topics", { topics: stage.inputTopics.join(", ") })}
        </p>
      </div>
    </li>
  );
}

function Figure({ name, value, isStrong = false }: { name: string; value: string; isStrong?: boolean }) {
  return (
    <div className="flex flex-col-reverse">
      <dt className="edge-print leading-tight">{name}</dt>
      <dd className={`text-[1.05rem] leading-tight ${isStrong ? "font-semibold" : ""}`}>{value}</dd>
    </div>
  );
}

const SLEEPERS_SHOWN = 12;

/** The rail, with a sleeper for each message that waits: a queue is seen before it is read. */
function Rail({
  isFirst,
  isLast,
  queued,
  isBusy,
}: {
  isFirst: boolean;
  isLast: boolean;
  queued: number;
  isBusy: boolean;
}) {
  return (
    <div aria-hidden="true" className="relative order-1 row-span-2 lg:order-2 lg:row-span-1">
      <span
        className={`absolute bg-edge max-lg:top-0 max-lg:bottom-0 max-lg:left-[0.8rem] max-lg:w-[2px] lg:top-1/2 lg:right-0 lg:left-0 lg:h-[2px] lg:-translate-y-1/2 ${isFirst ? "max-lg:top-3 lg:left-2" : ""} ${isLast ? "max-lg:bottom-[70%] lg:right-[70%]" : ""}`}
      />
      <span
        className={`absolute size-[1.1rem] rounded-full border-2 max-lg:top-1.5 max-lg:left-[calc(0.8rem+1px)] max-lg:-translate-x-1/2 lg:top-1/2 lg:left-0 lg:-translate-y-1/2 ${isBusy ? "border-pencil bg-pencil" : "border-edge bg-glow"}`}
      />
      <span className="absolute hidden items-center gap-[3px] lg:top-1/2 lg:right-3 lg:flex lg:-translate-y-1/2">
        {!isLast || queued > 0
          ? Array.from({ length: Math.min(queued, SLEEPERS_SHOWN) }, (_, place) => (
              <span key={place} className="h-3.5 w-[3px] rounded-full bg-pencil" />
            ))
          : null}
      </span>
    </div>
  );
}

const TRAVELLERS_SHOWN = 6;

function Travellers({ travellers }: { travellers: Traveller[] }) {
  const { t } = useI18n();
  const rest = travellers.length - TRAVELLERS_SHOWN;
  if (travellers.length === 0) return <span className="sr-only">{t("line.hereNone")}</span>;
  return (
    <ul aria-label={t("line.here")} className="flex items-end">
      {travellers.slice(0, TRAVELLERS_SHOWN).map((traveller, place) => (
        <li
          key={traveller.imageId}
          className="travel"
          style={{ marginLeft: place === 0 ? 0 : "-1.1rem", zIndex: TRAVELLERS_SHOWN - place }}
        >
          <TravellerCard traveller={traveller} />
        </li>
      ))}
      {rest > 0 && <li className="edge-print ml-2">+ {rest}</li>}
    </ul>
  );
}

function TravellerCard({ traveller }: { traveller: Traveller }) {
  const { t } = useI18n();
  const preview = usePreview(pictureKey(traveller.taskId, traveller.index));
  const name = traveller.name ?? t("tile.unnamed", { number: traveller.index + 1 });
  return (
    <Link
      to="/pictures/$taskId/$index"
      params={{ taskId: traveller.taskId, index: String(traveller.index) }}
      search={carriedSearch}
      aria-label={t("tile.open", { name })}
      title={name}
      className="block size-14 rounded-[2px] bg-paper p-[3px] shadow-(--shadow) hover:-translate-y-1"
    >
      <span className="block size-full overflow-hidden bg-well">
        {preview && <img src={preview} alt="" className="size-full object-cover" />}
      </span>
    </Link>
  );
}
