// What can be done with the marked pictures: download them, or make them again with the options that are chosen now.
import { useState } from "react";
import type { Choice } from "../../api/choice";
import { type ApiError, archivePath, asApiError, downloadPath, pageError } from "../../api/client";
import { toTaskOptions } from "../../api/request-options";
import { splitKey } from "../../api/selection";
import type { TaskAnswer } from "../../api/types";
import { useI18n } from "../../i18n";
import { announce } from "../../ui/announce";
import { Button, LinkButton } from "../../ui/button";
import { Failure } from "../../ui/failure";
import { EdgeSheet } from "../../ui/sheet";
import { OptionsPanel } from "../options/options-panel";
import { downloadPlan, type PictureState, packPictures, saveBlob } from "./download";
import { repeatsOf } from "./repeat";
import { layDownRepeats } from "./uploads";
import { useSelectedTasks } from "./use-merged-tasks";
import type { SelectionTools } from "./use-selection";

interface Props {
  selection: SelectionTools;
  tasks: TaskAnswer[];
  choice: Choice;
  onChoice: (change: Partial<Choice>) => void;
}

export function SelectionBar({ selection, tasks, choice, onChoice }: Props) {
  const { t } = useI18n();
  const merged = useSelectedTasks(selection.keys, tasks);
  const [error, setError] = useState<ApiError>();
  const [work, setWork] = useState<string>();
  const [isRepeating, setIsRepeating] = useState(false);
  if (selection.keys.size === 0) return null;

  const pictures: PictureState[] = [...selection.keys].map((key) => {
    const { taskId, index } = splitKey(key);
    const image = merged.get(taskId)?.results.find((result) => result.index === index);
    return {
      key,
      name: image?.name,
      isDone: image?.status === "completed",
      bytes: image?.metadata?.bytes ?? 0,
      mediaType: image?.metadata?.mediaType ?? "",
    };
  });
  const plan = downloadPlan(pictures, [...merged.values()]);

  const pack = async () => {
    setError(undefined);
    const done = pictures.filter(({ isDone }) => isDone);
    try {
      const zip = await packPictures(done, (count) =>
        setWork(t("select.zipping", { done: count, total: done.length })),
      );
      saveBlob(zip, "atelier.zip");
    } catch (thrown) {
      setError(asApiError(thrown));
    } finally {
      setWork(undefined);
    }
  };
  const repeat = () => {
    const wanted = pictures.flatMap(({ key }) => {
      const { taskId, index } = splitKey(key);
      const image = merged.get(taskId)?.results.find((result) => result.index === index);
      return image ? [{ taskId, image }] : [];
    });
    // A selection in an address may name what is not there, or not yet.
    if (wanted.length < pictures.length) return setError(pageError("originalGone", "not every picture is known"));
    setError(undefined);
    layDownRepeats(repeatsOf(wanted), toTaskOptions(choice));
    announce(t("repeat.done", { count: pictures.length }));
    setIsRepeating(false);
    selection.clear();
    window.scrollTo({ top: 0, behavior: "smooth" });
  };

  return (
    <>
      <section
        aria-label={t("select.bar")}
        className="fixed inset-x-2 bottom-2 z-20 mx-auto flex max-w-3xl flex-wrap items-center gap-2 rounded-xl border border-rule bg-glow p-2 pl-4 shadow-(--lift) sm:bottom-5"
        data-testid="selection-bar"
      >
        <p className="mr-auto font-medium" aria-live="polite">
          {work ?? t("select.count", { count: selection.keys.size })}
        </p>
        {plan.kind === "one" && (
          <LinkButton look="primary" icon="download" href={downloadPath(plan.taskId, plan.index)} download>
            {t("select.download")}
          </LinkButton>
        )}
        {plan.kind === "tasks" && (
          <LinkButton look="primary" icon="download" href={archivePath(plan.taskIds)} download>
            {t("select.zip")}
          </LinkButton>
        )}
        {plan.kind === "pictures" && (
          <Button look="primary" icon="download" onClick={pack} disabled={work !== undefined}>
            {t("select.zip")}
          </Button>
        )}
        {plan.kind === "nothing" && <span className="text-[0.85rem] text-soft">{t("select.nothingDone")}</span>}
        <Button icon="again" onClick={() => setIsRepeating(true)} disabled={work !== undefined}>
          {t("select.repeat")}
        </Button>
        <Button look="quiet" onClick={selection.clear}>
          {t("select.clear")}
        </Button>
        {error && (
          <div className="basis-full">
            <Failure error={error.body} />
          </div>
        )}
      </section>
      <EdgeSheet title={t("select.repeat")} isOpen={isRepeating} onClose={() => setIsRepeating(false)}>
        <OptionsPanel choice={choice} onChange={onChoice} isBrief />
        <div className="sticky bottom-0 -mx-5 mt-6 border-t border-rule bg-glow p-5 sm:-mx-7 sm:px-7">
          {error && <Failure error={error.body} />}
          <Button look="primary" icon="again" className="mt-2 w-full" onClick={repeat} disabled={work !== undefined}>
            {work ?? t("options.repeat", { count: pictures.length })}
          </Button>
        </div>
      </EdgeSheet>
    </>
  );
}
