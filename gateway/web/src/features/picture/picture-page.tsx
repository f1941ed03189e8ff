// One picture: compare, look closely, read what is known, take it away or make it again.
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { type CSSProperties, useEffect, useState } from "react";
import { asApiError, downloadPath } from "../../api/client";
import { mergeTask, progressOf } from "../../api/live";
import { useLiveTask } from "../../api/live-store";
import { taskQuery, useStages } from "../../api/queries";
import { choiceFromOptions } from "../../api/request-options";
import type { ImageAnswer, TaskAnswer } from "../../api/types";
import { useI18n } from "../../i18n";
import { LinkButton } from "../../ui/button";
import { Failure, useStageName } from "../../ui/failure";
import { Icon } from "../../ui/icons";
import { Segmented } from "../../ui/segmented";
import { carriedSearch, usePageTitle } from "../../ui/shell";
import { StageTicks } from "../../ui/stage-ticks";
import { pictureName } from "../table/tile";
import { BehindChoice, type BehindKind } from "./behind-choice";
import { Facts } from "./facts";
import { MakeAgain } from "./make-again";
import { VIEWS } from "./view-state";
import { Viewer } from "./viewer";

export function PicturePage() {
  const { t } = useI18n();
  const { taskId, index } = useParams({ from: "/pictures/$taskId/$index" });
  const query = useQuery(taskQuery(taskId));
  const live = useLiveTask(taskId);
  const task = query.data ? mergeTask(query.data, live) : undefined;
  const image = task?.results.find((result) => String(result.index) === index);
  usePageTitle(image ? pictureName(image, t("tile.unnamed", { number: image.index + 1 })) : t("picture.loading"));

  if (query.isPending) return <p className="m-auto p-10 text-soft">{t("picture.loading")}</p>;
  if (!task || !image) {
    const error = query.isError ? asApiError(query.error).body : { code: "notFound", message: `${taskId} / ${index}` };
    return (
      <div className="m-auto w-full max-w-xl p-6">
        <h1 className="mb-3 text-xl font-semibold">{t("picture.notThere")}</h1>
        <Failure error={error} />
        <BackLink />
      </div>
    );
  }
  // A picture has its own camera and its own colour behind: another picture begins afresh.
  return <Picture key={image.imageId} task={task} image={image} />;
}

function BackLink() {
  const { t } = useI18n();
  return (
    <Link to="/" search={carriedSearch} className="inline-flex items-center gap-1 py-2 text-soft hover:text-ink">
      <Icon name="left" />
      {t("picture.back")}
    </Link>
  );
}

const FIRST_COLOR = "#b9c4c9";

/** What lies behind, of the address where it can be; an own picture lives only as long as the page. */
function useBehind() {
  const search = useSearch({ from: "/pictures/$taskId/$index" });
  const navigate = useNavigate();
  const [ownUrl, setOwnUrl] = useState<string>();
  const [isOwn, setIsOwn] = useState(false);
  useEffect(() => () => (ownUrl ? URL.revokeObjectURL(ownUrl) : undefined), [ownUrl]);
  const set = (behind: string | undefined) =>
    void navigate({ to: ".", search: (previous) => ({ ...previous, behind }), replace: true, resetScroll: false });
  const behind = search.behind;
  const kind: BehindKind = isOwn
    ? "image"
    : behind === undefined
      ? "checker"
      : behind === "white" || behind === "black"
        ? behind
        : "color";
  const color = behind?.startsWith("#") ? behind : FIRST_COLOR;
  const style: CSSProperties =
    kind === "image"
      ? { background: `url("${ownUrl}") center / cover` }
      : kind === "checker"
        ? {}
        : { background: kind === "color" ? color : kind };
  return {
    kind,
    color,
    ownUrl,
    style,
    choose: (next: BehindKind) => {
      setIsOwn(next === "image");
      if (next !== "image") set(next === "checker" ? undefined : next === "color" ? color : next);
    },
    chooseColor: (next: string) => set(next),
    chooseImage: (file: File) => {
      setOwnUrl(URL.createObjectURL(file));
      setIsOwn(true);
    },
  };
}

function useSplit(): [number, (split: number) => void] {
  const search = useSearch({ from: "/pictures/$taskId/$index" });
  const navigate = useNavigate();
  const [split, setSplit] = useState(search.split ?? 50);
  useEffect(() => {
    if (Math.round(split) === (search.split ?? 50)) return;
    const timer = setTimeout(
      () =>
        void navigate({
          to: ".",
          search: (previous) => ({ ...previous, split: Math.round(split) }),
          replace: true,
          resetScroll: false,
        }),
      250,
    );
    return () => clearTimeout(timer);
  }, [split, search.split, navigate]);
  return [split, setSplit];
}

function Picture({ task, image }: { task: TaskAnswer; image: ImageAnswer }) {
  const { t } = useI18n();
  const search = useSearch({ from: "/pictures/$taskId/$index" });
  const navigate = useNavigate();
  const live = useLiveTask(task.taskId)?.images[image.imageId];
  const behind = useBehind();
  const [split, setSplit] = useSplit();
  const name = pictureName(image, t("tile.unnamed", { number: image.index + 1 }));
  const isDone = image.status === "completed";
  const view = search.view ?? "compare";
  const choice = choiceFromOptions(task.options);
  const isOpaque = choice.format === "jpeg" || choice.background !== "transparent";

  return (
    <div className="flex flex-1 flex-col lg:h-[calc(100dvh-3.5rem)] lg:flex-none lg:flex-row lg:overflow-hidden">
      <div className="flex h-[min(68dvh,48rem)] min-w-0 flex-col lg:h-auto lg:flex-1">
        <Viewer
          taskId={task.taskId}
          image={image}
          name={name}
          view={view}
          behind={behind.style}
          isChecker={behind.kind === "checker"}
          split={split}
          onSplit={setSplit}
          showsMarks={search.marks === true}
          onMarks={(shows) =>
            void navigate({
              to: ".",
              search: (previous) => ({ ...previous, marks: shows || undefined }),
              replace: true,
              resetScroll: false,
            })
          }
        />
      </div>
      <div className="w-full shrink-0 px-4 pb-10 sm:px-7 lg:w-[23rem] lg:overflow-y-auto lg:px-6">
        <Neighbours task={task} image={image} />
        <h1 className="text-xl leading-snug font-semibold tracking-tight break-words">{name}</h1>
        {image.error && (
          <div className="mt-4">
            <Failure error={image.error} />
          </div>
        )}
        {!isDone && !image.error && <OnTheLine image={image} live={live} />}
        {isDone && (
          <div className="my-5 flex flex-col gap-5">
            <Segmented
              legend={t("picture.view")}
              value={view}
              columns={2}
              onChange={(next) =>
                void navigate({
                  to: ".",
                  search: (previous) => ({ ...previous, view: next === "compare" ? undefined : next }),
                  resetScroll: false,
                })
              }
              segments={VIEWS.map((value) => ({ value, label: t(`picture.view.${value}`) }))}
            />
            {view !== "original" && view !== "alpha" && (
              <div>
                <BehindChoice
                  kind={behind.kind}
                  color={behind.color}
                  ownUrl={behind.ownUrl}
                  onChange={behind.choose}
                  onColor={behind.chooseColor}
                  onImage={behind.chooseImage}
                />
                {isOpaque && <p className="mt-1.5 text-[0.8rem] text-soft">{t("picture.behind.opaque")}</p>}
              </div>
            )}
            <div className="flex flex-wrap gap-2">
              <LinkButton
                look="primary"
                icon="download"
                href={downloadPath(task.taskId, image.index)}
                download
                className="flex-1"
              >
                {t("picture.download")}
              </LinkButton>
              <LinkButton icon="download" href={downloadPath(task.taskId, image.index, "alpha")} download>
                {t("picture.download.alpha")}
              </LinkButton>
            </div>
            <MakeAgain task={task} image={image} />
          </div>
        )}
        {image.error && (
          <div className="my-5">
            <MakeAgain task={task} image={image} />
          </div>
        )}
        <Facts taskId={task.taskId} image={image} live={live} />
      </div>
    </div>
  );
}

function Neighbours({ task, image }: { task: TaskAnswer; image: ImageAnswer }) {
  const { t } = useI18n();
  const place = task.results.indexOf(image);
  const link = (neighbour: ImageAnswer | undefined, icon: "left" | "right", label: string) =>
    neighbour ? (
      <Link
        to="/pictures/$taskId/$index"
        params={{ taskId: task.taskId, index: String(neighbour.index) }}
        // The view goes along, the place in the picture does not.
        search={(previous) => ({ ...previous, zoom: undefined, x: undefined, y: undefined })}
        aria-label={label}
        title={label}
        className="grid size-9 place-items-center rounded-[5px] text-soft hover:bg-well hover:text-ink"
      >
        <Icon name={icon} />
      </Link>
    ) : (
      <span className="size-9" />
    );
  return (
    <nav aria-label={t("picture.back")} className="flex items-center py-2">
      <BackLink />
      {task.results.length > 1 && (
        <span className="ml-auto flex items-center">
          {link(task.results[place - 1], "left", t("picture.previous"))}
          <span className="edge-print">{t("common.of", { done: place + 1, total: task.results.length })}</span>
          {link(task.results[place + 1], "right", t("picture.next"))}
        </span>
      )}
    </nav>
  );
}

function OnTheLine({ image, live }: { image: ImageAnswer; live: Parameters<typeof progressOf>[0] }) {
  const { t } = useI18n();
  const stages = useStages();
  const stageName = useStageName();
  const { step, stepCount, stage } = progressOf(live, stages);
  return (
    <div className="my-5" role="status">
      <p className="mb-2 font-medium">{t("picture.notDone")}</p>
      <StageTicks done={step - 1} count={stepCount} />
      <p className="edge-print mt-1">
        {stage
          ? t("progress.at", { stage: stageName(stage), step, total: stepCount })
          : t(image.status === "pending" ? "status.pending" : "progress.unknown")}
      </p>
    </div>
  );
}
