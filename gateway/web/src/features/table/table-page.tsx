// The light table: everything lies here, newest first, and the tools stand at the edge.
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo } from "react";
import { asApiError } from "../../api/client";
import { useConnection } from "../../api/live-store";
import { useTasks } from "../../api/queries";
import { pictureKey } from "../../api/selection";
import { useI18n } from "../../i18n";
import { Button } from "../../ui/button";
import { Failure } from "../../ui/failure";
import { Icon } from "../../ui/icons";
import { EdgeSheet } from "../../ui/sheet";
import { usePageTitle } from "../../ui/shell";
import { useChoice } from "../../ui/use-choice";
import { OptionsPanel } from "../options/options-panel";
import { AddTools, EmptyTable } from "./add-tools";
import { dismissNotices, useLayDown, useNotices } from "./lay-down";
import { SelectionBar } from "./selection-bar";
import { Sheet } from "./sheet";
import { useUploads } from "./uploads";
import { useSelection } from "./use-selection";

export function TablePage() {
  const { t } = useI18n();
  usePageTitle(t("title.table"));
  const [choice, setChoice] = useChoice();
  const tasks = useTasks();
  const uploads = useUploads();
  const selection = useSelection();
  const connection = useConnection();
  const layDown = useLayDown();
  const notices = useNotices();
  const search = useSearch({ strict: false });
  const navigate = useNavigate();
  const setPanel = (panel: "options" | undefined) =>
    void navigate({ to: ".", search: (previous) => ({ ...previous, panel }), resetScroll: false });

  const allTasks = useMemo(() => tasks.data?.pages.flatMap((page) => page.tasks) ?? [], [tasks.data]);
  const isEmpty = tasks.isSuccess && allTasks.length === 0 && uploads.length === 0;
  const selectAll = () =>
    selection.setMany(
      allTasks.flatMap((task) => task.results.map((image) => pictureKey(task.taskId, image.index))),
      true,
    );
  // While the server is away the banner says so; a second message at the sheet would only repeat it.
  const listError = tasks.isError && connection.state === "live" ? asApiError(tasks.error) : undefined;

  return (
    <div className="flex flex-1 gap-8 px-4 pb-28 sm:px-7">
      <div className="flex min-w-0 flex-1 flex-col">
        <h1 className="sr-only">{t("title.table")}</h1>
        {!isEmpty && (
          <AddTools
            onFiles={layDown.files}
            onAddresses={layDown.addresses}
            onOptions={() => setPanel("options")}
            onSelectAll={selectAll}
          />
        )}
        {notices.length > 0 && <Notices notices={notices} onClose={dismissNotices} />}
        {listError && (
          <Failure error={listError.body}>
            <Button icon="again" onClick={() => void tasks.refetch()}>
              {t("common.retry")}
            </Button>
          </Failure>
        )}
        {tasks.isPending && uploads.length === 0 && <p className="m-auto p-10 text-soft">{t("table.loading")}</p>}
        {isEmpty ? (
          <EmptyTable onFiles={layDown.files} onAddresses={layDown.addresses} onOptions={() => setPanel("options")} />
        ) : (
          <Sheet tasks={allTasks} uploads={uploads} selection={selection} />
        )}
        {tasks.hasNextPage && (
          <div className="mt-8 text-center">
            <Button onClick={() => void tasks.fetchNextPage()} disabled={tasks.isFetchingNextPage}>
              {tasks.isFetchingNextPage ? t("common.loading") : t("common.more")}
            </Button>
          </div>
        )}
      </div>
      <aside
        id="options"
        tabIndex={-1}
        aria-labelledby="options-title"
        className="hidden w-[19.5rem] shrink-0 lg:block xl:w-[21rem]"
      >
        <div className="sticky top-0 max-h-dvh overflow-y-auto py-4 pr-1">
          <h2 id="options-title" className="text-lg font-semibold tracking-tight">
            {t("options.title")}
          </h2>
          <p className="mb-5 text-[0.85rem] text-soft">{t("options.subtitle")}</p>
          <OptionsPanel choice={choice} onChange={setChoice} />
        </div>
      </aside>
      <EdgeSheet title={t("options.title")} isOpen={search.panel === "options"} onClose={() => setPanel(undefined)}>
        <OptionsPanel choice={choice} onChange={setChoice} />
      </EdgeSheet>
      <SelectionBar selection={selection} tasks={allTasks} choice={choice} onChoice={setChoice} />
    </div>
  );
}

function Notices({ notices, onClose }: { notices: string[]; onClose: () => void }) {
  const { t } = useI18n();
  return (
    <div role="status" className="mb-4 flex items-start gap-3 rounded-[5px] bg-fail-wash px-4 py-2">
      <span className="mt-1 text-fail">
        <Icon name="alert" />
      </span>
      <ul className="flex-1">
        {notices.map((notice) => (
          <li key={notice}>{notice}</li>
        ))}
      </ul>
      <Button look="quiet" onClick={onClose}>
        {t("common.close")}
      </Button>
    </div>
  );
}
