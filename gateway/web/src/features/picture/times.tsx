// How long it took: every stage as a bar, and the steps of `matte` for those who ask.
import { useStages } from "../../api/queries";
import type { StageTiming, Step } from "../../api/types";
import { useI18n } from "../../i18n";
import { formatMs } from "../../i18n/format";
import { useStageName } from "../../ui/failure";
import { Folded } from "../../ui/folded";
import { stepWords } from "./matting-words";

/** Six greys would not be told apart: neighbours alternate, and the longest stage takes the pencil. */
function shadeOf(place: number, isLongest: boolean): string {
  if (isLongest) return "bg-pencil";
  return place % 2 === 0 ? "bg-soft" : "bg-edge";
}

export function Times({ stages, steps }: { stages: StageTiming[]; steps: Step[] }) {
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
      {steps.length > 0 && (
        <Folded title={t("picture.steps", { stage: stageName("matte") })} className="mt-2 text-[0.82rem]">
          <ol>
            {steps.map(({ name, ms }, place) => (
              <li key={place} className="flex gap-3 py-px">
                <span className="min-w-0 flex-1 break-words text-soft">{stepWords(t, name)}</span>
                <span>{formatMs(language, ms)}</span>
              </li>
            ))}
          </ol>
        </Folded>
      )}
    </div>
  );
}
