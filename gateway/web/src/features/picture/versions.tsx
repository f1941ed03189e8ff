// What else was made of the same original: every version with what was asked for, the one that is looked at marked.
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { asApiError } from "../../api/client";
import { versionsQuery } from "../../api/queries";
import { choiceFromOptions } from "../../api/request-options";
import type { ImageAnswer, TaskOptions } from "../../api/types";
import { useI18n } from "../../i18n";
import { Failure } from "../../ui/failure";
import { carriedSearch } from "../../ui/shell";
import { backgroundWords } from "../options/words";

export function Versions({ taskId, image }: { taskId: string; image: ImageAnswer }) {
  const { t } = useI18n();
  const { data, error } = useQuery(versionsQuery(taskId, image.index));
  if (error) return <Failure error={asApiError(error).body} compact />;
  if (!data || data.versions.length < 2) return null;
  return (
    <section aria-labelledby="versions-title" data-testid="versions">
      <h2 id="versions-title" className="edge-print mb-1">
        {t("picture.versions")}
      </h2>
      <ol className="text-[0.9rem]">
        {data.versions.map((version) => {
          const isThis = version.imageId === image.imageId;
          return (
            <li key={version.imageId} className="flex items-baseline gap-3 border-b border-rule py-1.5">
              <Link
                to="/pictures/$taskId/$index"
                params={{ taskId: version.taskId, index: String(version.index) }}
                search={carriedSearch}
                aria-current={isThis ? "page" : undefined}
                className={`shrink-0 underline-offset-4 hover:decoration-ink ${isThis ? "font-medium" : "underline decoration-edge"}`}
              >
                {t("picture.version", { number: version.version })}
              </Link>
              <Asked options={version.options} />
            </li>
          );
        })}
      </ol>
    </section>
  );
}

function Asked({ options }: { options: TaskOptions }) {
  const { t } = useI18n();
  const { quality, format, background, shadow } = choiceFromOptions(options);
  const words = [t(`quality.${quality}`), t(`format.${format}`), backgroundWords(t, background)];
  if (shadow !== "none") words.push(t("picture.versions.shadow", { shadow: t(`shadow.${shadow}`) }));
  return <span className="min-w-0 flex-1 truncate text-right text-[0.8rem] text-soft">{words.join(" · ")}</span>;
}
