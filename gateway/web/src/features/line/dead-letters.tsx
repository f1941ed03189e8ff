// What a stage gave up, each with its reason, and the way back onto the line.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { api, asApiError } from "../../api/client";
import { deadLettersQuery, useTasks } from "../../api/queries";
import type { DeadLetter } from "../../api/types";
import { useI18n } from "../../i18n";
import { formatTime } from "../../i18n/format";
import { announce } from "../../ui/announce";
import { Button, buttonClass } from "../../ui/button";
import { Failure, useFailureWords, useStageName } from "../../ui/failure";
import { EdgeSheet } from "../../ui/sheet";
import { carriedSearch } from "../../ui/shell";

export function DeadLetters({ stage, onClose }: { stage: string; onClose: () => void }) {
  const { t } = useI18n();
  const letters = useQuery(deadLettersQuery(stage));
  const stageName = useStageName();
  return (
    <EdgeSheet title={t("letters.title", { stage: stageName(stage) })} isOpen onClose={onClose}>
      <p className="mb-5 text-soft">{t("letters.help")}</p>
      {letters.isPending && <p className="text-soft">{t("letters.loading")}</p>}
      {letters.isError && <Failure error={asApiError(letters.error).body} />}
      {letters.data?.deadLetters.length === 0 && <p>{t("letters.none")}</p>}
      <ul className="flex flex-col gap-3">
        {letters.data?.deadLetters.map((letter) => (
          <Letter key={`${letter.partition}-${letter.offset}`} letter={letter} />
        ))}
      </ul>
    </EdgeSheet>
  );
}

function Letter({ letter }: { letter: DeadLetter }) {
  const { t, language } = useI18n();
  const queries = useQueryClient();
  const words = useFailureWords();
  const replay = useMutation({
    mutationFn: () => api.replay(letter),
    onSuccess: () => {
      announce(t("letters.replayed"));
      void queries.invalidateQueries({ queryKey: ["pipeline"] });
    },
  });
  const index = useIndexOf(letter);
  return (
    <li className="rounded-[5px] border border-rule bg-paper p-4" data-testid="letter">
      <p className="flex flex-wrap justify-between gap-x-4">
        <span className="font-semibold text-fail">{letter.code ? words(letter.code).what : t("letters.unparsed")}</span>
        <time className="edge-print" dateTime={letter.time}>
          {formatTime(language, letter.time)}
        </time>
      </p>
      {letter.code && (
        <p className="mt-1 text-[0.9rem]">
          {words(letter.code).why} {words(letter.code).remedy}
        </p>
      )}
      {letter.message && <p className="mt-2 font-mono text-[0.75rem] break-words text-soft">{letter.message}</p>}
      <p className="edge-print mt-2 break-words">
        {t("letters.where", {
          topic: letter.topic,
          partition: String(letter.partition),
          offset: String(letter.offset),
        })}
        {letter.attempt ? ` · ${t("letters.attempt", { count: letter.attempt })}` : ""}
        {letter.replay ? ` · ${t("letters.replayedBefore", { count: letter.replay })}` : ""}
      </p>
      <div className="mt-3 flex flex-wrap gap-2">
        <Button
          icon={replay.isSuccess ? "check" : "again"}
          onClick={() => replay.mutate()}
          disabled={replay.isPending || replay.isSuccess}
          aria-label={t("letters.replay.label", { offset: String(letter.offset) })}
        >
          {replay.isPending ? t("letters.replaying") : replay.isSuccess ? t("letters.replayed") : t("letters.replay")}
        </Button>
        {letter.taskId && index !== undefined && (
          <Link
            to="/pictures/$taskId/$index"
            params={{ taskId: letter.taskId, index: String(index) }}
            search={carriedSearch}
            className={buttonClass("quiet")}
          >
            {t("letters.picture")}
          </Link>
        )}
      </div>
      {replay.isError && (
        <div className="mt-2">
          <Failure error={asApiError(replay.error).body} />
        </div>
      )}
    </li>
  );
}

/** The letter names its picture by id; the view of a picture is found by its place in the task. */
function useIndexOf(letter: DeadLetter): number | undefined {
  const tasks = useTasks();
  const task = tasks.data?.pages.flatMap((page) => page.tasks).find(({ taskId }) => taskId === letter.taskId);
  return task?.results.find(({ imageId }) => imageId === letter.imageId)?.index;
}
