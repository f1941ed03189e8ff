// What was measured on the way, in words: marks.tsx draws it over the picture.
import type { Detection, KeyPoint, Measured } from "../../api/types";
import { useI18n } from "../../i18n";
import { formatPercent } from "../../i18n/format";
import { Fact } from "./fact";
import { hasMarks } from "./marks";
import { thingWords } from "./matting-words";

/** Further colours have so little of the picture that their bar would not be seen. */
const MOST_COLORS = 8;

export function MeasuredFacts({ measured }: { measured: Measured }) {
  const { t, language } = useI18n();
  const { faces = [], keyPoints = [], boxes = [], shapes, clusters = [] } = measured;
  const scores = (found: Detection[]) => found.map(({ score }) => formatPercent(language, score)).join(", ");
  if (!hasMarks(measured) && clusters.length === 0) return null;
  return (
    <section aria-labelledby="measured-title" data-testid="measured">
      <h2 id="measured-title" className="edge-print mb-1">
        {t("picture.measured")}
      </h2>
      <dl className="text-[0.9rem]">
        {faces.length > 0 && (
          <Fact name={t("picture.measured.faces")} note={scores(faces)}>
            {faces.length.toLocaleString(language)}
          </Fact>
        )}
        {keyPoints.length > 0 && (
          <Fact name={t("picture.measured.points")} note={t("picture.measured.people", { count: peopleIn(keyPoints) })}>
            {keyPoints.length.toLocaleString(language)}
          </Fact>
        )}
        {boxes.length > 0 && (
          <Fact name={t("picture.measured.boxes")}>
            <ul>
              {boxes.map((box, place) => (
                <li key={place}>
                  {thingWords(t, box.label)}
                  <span className="ml-2 text-[0.8rem] text-soft">{formatPercent(language, box.score)}</span>
                </li>
              ))}
            </ul>
          </Fact>
        )}
        {shapes && (
          <Fact
            name={t("picture.measured.shapes")}
            note={
              shapes.paths.length < shapes.count
                ? t("picture.measured.shapesTold", { count: shapes.paths.length })
                : undefined
            }
          >
            {shapes.count.toLocaleString(language)}
          </Fact>
        )}
        {clusters.length > 0 && (
          <Fact name={t("picture.measured.colors")}>
            <span aria-hidden="true" className="mb-1.5 flex h-2.5 gap-px overflow-hidden rounded-full bg-well">
              {clusters.map(({ color, share }, place) => (
                <span key={place} style={{ background: color, flexGrow: share, minWidth: 2 }} />
              ))}
            </span>
            <ul className="text-[0.8rem]">
              {clusters.slice(0, MOST_COLORS).map(({ color, share, background }, place) => (
                <li key={place} className="flex items-center gap-2">
                  <span
                    aria-hidden="true"
                    className="size-3 rounded-full border border-edge"
                    style={{ background: color }}
                  />
                  <span className="font-mono text-[0.75rem]">{color}</span>
                  {background && <span className="text-soft">{t("options.background")}</span>}
                  <span className="ml-auto text-soft">{formatPercent(language, share, share < 0.1 ? 1 : 0)}</span>
                </li>
              ))}
            </ul>
          </Fact>
        )}
      </dl>
      {hasMarks(measured) && <p className="mt-1.5 text-[0.8rem] text-soft">{t("picture.measured.help")}</p>}
    </section>
  );
}

const peopleIn = (points: KeyPoint[]) => new Set(points.map(({ person }) => person)).size;
