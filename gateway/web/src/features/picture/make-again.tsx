// The same original with another background, quality or format: its next version, a task of its own.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useRef } from "react";
import { choiceToSearch } from "../../api/choice";
import { asApiError } from "../../api/client";
import { showTask } from "../../api/queries";
import { choiceFromOptions, toTaskOptions } from "../../api/request-options";
import { pictureKey } from "../../api/selection";
import type { ImageAnswer, TaskAnswer } from "../../api/types";
import { useI18n } from "../../i18n";
import { Button } from "../../ui/button";
import { Failure } from "../../ui/failure";
import { EdgeSheet } from "../../ui/sheet";
import { carriedSearch } from "../../ui/shell";
import { useChoice } from "../../ui/use-choice";
import { OptionsPanel } from "../options/options-panel";
import { copyPreview } from "../table/previews";
import { makeAgain } from "../table/repeat";

export function MakeAgain({ task, image }: { task: TaskAnswer; image: ImageAnswer }) {
  const { t } = useI18n();
  const search = useSearch({ strict: false });
  const navigate = useNavigate();
  const queries = useQueryClient();
  const [choice, setChoice] = useChoice();
  // One key as long as the wish is the same: a second press after a lost answer makes no second task.
  const wish = useRef({ key: "", body: "" });

  const make = useMutation({
    mutationFn: async () => {
      const options = toTaskOptions(choice);
      const body = JSON.stringify(options);
      if (wish.current.body !== body) wish.current = { key: crypto.randomUUID(), body };
      return makeAgain({ taskId: task.taskId, images: [image] }, options, wish.current.key);
    },
    onSuccess: (made) => {
      wish.current = { key: "", body: "" };
      copyPreview(pictureKey(task.taskId, image.index), pictureKey(made.taskId, 0));
      showTask(queries, made);
      void navigate({
        to: "/pictures/$taskId/$index",
        params: { taskId: made.taskId, index: "0" },
        search: carriedSearch,
      });
    },
  });

  const open = () => {
    make.reset();
    // It begins with what this picture was made with, so that one change is one change.
    void navigate({
      to: ".",
      search: (previous) => ({
        ...previous,
        ...choiceToSearch(choiceFromOptions(task.options)),
        panel: "options" as const,
      }),
      resetScroll: false,
    });
  };
  const close = () =>
    void navigate({
      to: ".",
      search: (previous) => ({ ...previous, panel: undefined }),
      replace: true,
      resetScroll: false,
    });

  return (
    <>
      <Button icon="again" onClick={open}>
        {t("picture.again")}
      </Button>
      <EdgeSheet title={t("picture.again")} isOpen={search.panel === "options"} onClose={close}>
        <p className="mb-5 text-soft">{t("picture.again.help")}</p>
        <OptionsPanel choice={choice} onChange={setChoice} isBrief />
        <div className="sticky bottom-0 -mx-5 mt-6 border-t border-rule bg-glow p-5 sm:-mx-7 sm:px-7">
          {make.isError && <Failure error={asApiError(make.error).body} />}
          <Button
            look="primary"
            icon="again"
            className="mt-2 w-full"
            onClick={() => make.mutate()}
            disabled={make.isPending}
          >
            {make.isPending ? t("picture.again.working") : t("picture.again.submit")}
          </Button>
        </div>
      </EdgeSheet>
    </>
  );
}
