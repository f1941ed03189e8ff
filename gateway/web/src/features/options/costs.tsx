// What the choices cost in time: only what was measured on this machine, and nothing where nothing was.
import { useQuery } from "@tanstack/react-query";
import { capabilitiesQuery, measurementsQuery, useStages } from "../../api/queries";
import { QUALITIES, type Quality } from "../../api/types";
import { useI18n } from "../../i18n";
import { formatMs } from "../../i18n/format";
import { useStageName } from "../../ui/failure";

/** Bars of all qualities beside each other, so that the price of the next better one can be seen. */
export function QualityCosts({ quality }: { quality: Quality }) {
  const { t, language } = useI18n();
  const { data: capabilities } = useQuery(capabilitiesQuery);
  const { data: measurements } = useQuery(measurementsQuery);
  const costs = QUALITIES.map((value) => {
    const model = capabilities?.qualities.find((known) => known.name === value)?.model;
    return { value, model, measured: measurements?.models.find((known) => known.name === model) };
  });
  const longest = Math.max(1, ...costs.map(({ measured }) => measured?.medianMs ?? 0));
  const chosen = costs.find(({ value }) => value === quality);
  return (
    <div className="mt-2">
      <ul className="flex flex-col gap-1" data-testid="quality-costs">
        {costs.map(({ value, measured }) => (
          <li
            key={value}
            className={`grid grid-cols-[4.2rem_1fr_auto] items-center gap-2 text-[0.8rem] ${value === quality ? "text-ink" : "text-faint"}`}
          >
            <span>{t(`quality.${value}`)}</span>
            <span aria-hidden="true" className="h-[3px] rounded-full bg-rule">
              {measured?.medianMs ? (
                <span
                  className={`block h-full rounded-full ${value === quality ? "bg-pencil" : "bg-edge"}`}
                  style={{ width: `${(100 * measured.medianMs) / longest}%` }}
                />
              ) : null}
            </span>
            <span className="text-right">
              {measured?.medianMs ? formatMs(language, measured.medianMs) : t("options.notMeasured")}
            </span>
          </li>
        ))}
      </ul>
      {chosen?.model && (
        <p className="mt-1.5 text-[0.8rem] text-soft">
          {t("options.model", { model: chosen.model })}
          {chosen.measured?.medianMs ? ` · ${t("options.measuredOn", { count: chosen.measured.count ?? 0 })}` : ""}
          {chosen.measured?.p95Ms
            ? ` · ${t("options.costP95", { time: formatMs(language, chosen.measured.p95Ms) })}`
            : ""}
        </p>
      )}
    </div>
  );
}

export function StageCosts() {
  const { t, language } = useI18n();
  const { data: measurements } = useQuery(measurementsQuery);
  const stages = useStages();
  const stageName = useStageName();
  return (
    <section>
      <h3 className="edge-print mb-1">{t("options.stages")}</h3>
      <p className="mb-2 text-[0.8rem] text-soft">{t("options.stages.help")}</p>
      <dl className="grid grid-cols-2 gap-x-6 gap-y-1 text-[0.85rem]">
        {stages
          .filter((stage) => stage !== "matte")
          .map((stage) => {
            const medianMs = measurements?.stages.find(({ name }) => name === stage)?.medianMs;
            return (
              <div key={stage} className="flex justify-between gap-2 border-b border-rule py-0.5">
                <dt className="text-soft">{stageName(stage)}</dt>
                <dd>{medianMs ? formatMs(language, medianMs) : t("line.noFigure")}</dd>
              </div>
            );
          })}
      </dl>
    </section>
  );
}
