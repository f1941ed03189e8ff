// The pipeline as what it is: a line on which pictures travel. Its figures come by the event stream, a second at a time.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useEffect, useMemo, useState } from "react";
import { asApiError } from "../../api/client";
import { useConnection } from "../../api/live-store";
import { pipelineQuery, useTasks } from "../../api/queries";
import { EventStream, type StreamState } from "../../api/sse";
import type { PipelineState, TaskAnswer } from "../../api/types";
import { useI18n } from "../../i18n";
import { formatClock } from "../../i18n/format";
import { Failure } from "../../ui/failure";
import { usePageTitle } from "../../ui/shell";
import { useMergedTasks } from "../table/use-merged-tasks";
import { DeadLetters } from "./dead-letters";
import { EventLog } from "./event-log";
import { Station } from "./station";
import { useTravellers } from "./travellers";

/** Keeps the pipeline's state fresh while the line is looked at. */
function usePipelineStream(): StreamState {
  const queries = useQueryClient();
  const [state, setState] = useState<StreamState>("connecting");
  useEffect(() => {
    const stream = new EventStream({
      url: "/api/v1/pipeline/events",
      onMessage: (message) => {
        try {
          queries.setQueryData(pipelineQuery.queryKey, JSON.parse(message.data) as PipelineState);
        } catch (error) {
          console.error("the pipeline's state could not be read", message, error);
        }
      },
      onState: setState,
      onOpen: () => undefined,
    });
    const onVisibility = () => (document.hidden ? stream.stop() : stream.start());
    document.addEventListener("visibilitychange", onVisibility);
    stream.start();
    return () => {
      document.removeEventListener("visibilitychange", onVisibility);
      stream.stop();
    };
  }, [queries]);
  return state;
}

const NO_TASKS: TaskAnswer[] = [];

export function LinePage() {
  const { t, language } = useI18n();
  usePageTitle(t("title.line"));
  const streamState = usePipelineStream();
  const pipeline = useQuery(pipelineQuery);
  const connection = useConnection();
  const tasks = useTasks();
  const allTasks = useMemo(() => tasks.data?.pages.flatMap((page) => page.tasks) ?? NO_TASKS, [tasks.data]);
  const merged = useMergedTasks(allTasks);
  const { letters } = useSearch({ from: "/line" });
  const navigate = useNavigate();
  const showLetters = (stage: string | undefined) =>
    void navigate({ to: ".", search: (previous) => ({ ...previous, letters: stage }), resetScroll: false });
  const stages = pipeline.data?.stages ?? [];
  const travellers = useTravellers(merged, stages);
  const open = pipeline.data?.tasksOpen ?? 0;

  return (
    <section className="mx-auto w-full max-w-[110rem] flex-1 px-4 pb-16 sm:px-7">
      <div className="flex flex-wrap items-end justify-between gap-x-8 gap-y-2 pt-6 pb-8">
        <div className="max-w-2xl">
          <h1 className="text-[clamp(1.6rem,3vw,2.4rem)] leading-tight font-semibold tracking-tight">
            {t("line.title")}
          </h1>
          <p className="mt-1 text-soft text-pretty">{t("line.lead")}</p>
        </div>
        {pipeline.data && (
          <p className="text-right" data-testid="line-open">
            <span className="block font-medium">{open > 0 ? t("line.open", { count: open }) : t("line.idle")}</span>
            <span className="edge-print">
              {t(streamState === "live" ? "line.asOf" : "line.stale", {
                time: formatClock(language, pipeline.data.at),
              })}
            </span>
          </p>
        )}
      </div>
      {pipeline.isPending && <p className="py-16 text-center text-soft">{t("line.loading")}</p>}
      {pipeline.isError && !pipeline.data && connection.state === "live" && (
        <Failure error={asApiError(pipeline.error).body} />
      )}
      <ol className="grid lg:grid-cols-6" style={{ ["--stations" as string]: stages.length }} data-testid="line">
        {stages.map((stage, place) => (
          <Station
            key={stage.name}
            stage={stage}
            isFirst={place === 0}
            isLast={place === stages.length - 1}
            travellers={travellers.get(stage.name)}
            onLetters={() => showLetters(stage.name)}
          />
        ))}
      </ol>
      <EventLog tasks={merged} />
      {letters !== undefined && <DeadLetters stage={letters} onClose={() => showLetters(undefined)} />}
    </section>
  );
}
