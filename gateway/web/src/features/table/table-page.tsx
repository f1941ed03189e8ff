// The light table: everything lies here, newest first, and the tools stand at the edge.
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useCallback, useMemo, useState } from "react";
import { asApiError } from "../../api/client";
import { useConnection } from "../../api/live-store";
import { capabilitiesQuery, useTasks } from "../../api/queries";
import { toTaskOptions } from "../../api/request-options";
import { pictureKey } from "../../api/selection";
import { useI18n } from "../../i18n";
import { formatBytes } from "../../i18n/format";
import { announce } from "../../ui/announce";
import { Button } from "../../ui/button";
import { Failure } from "../../ui/failure";
import { Icon } from "../../ui/icons";
import { EdgeSheet } from "../../ui/sheet";
import { usePageTitle } from "../../ui/shell";
import { useChoice } from "../../ui/use-choice";
import { OptionsPanel } from "../options/options-panel";
import { AddTools, EmptyTable } from "./add-tools";
import { DropArea } from "./drop-area";
import { looksLikePicture } from "./files";
import { SelectionBar } from "./selection-bar";
import { Sheet } from "./sheet";
import { layDownFiles, layDownSources, useUploads } from "./uploads";
import { useSelection } from "./use-selection";

/** Until the gateway has told its limit. */
const DEFAULT_LIMITS = { bytes: 64_000_000, images: 1_000 };
const NAMES_SHOWN = 3;

export function TablePage() {
  const { t } = useI18n();
  usePageTitle(t("title.table"));
  const [choice, setChoice] = useChoice();
  const tasks = useTasks();
  const uploads = useUploads();
  const selection = useSelection();
  const connection = useConnection();
  const { notices, dismissNotices, layDown } = useLayDown();
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
      <DropArea onFiles={layDown.files} onAddresses={layDown.addresses} />
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

/** What is laid down becomes tasks with the options that are chosen now; what cannot be sent is named with the reason. */
function useLayDown() {
  const { t, language } = useI18n();
  const [choice] = useChoice();
  const { data: capabilities } = useQuery(capabilitiesQuery);
  const [notices, setNotices] = useState<string[]>([]);

  const addFiles = useCallback(
    (files: File[]) => {
      const pictures = files.filter(looksLikePicture);
      const others = files.filter((file) => !looksLikePicture(file));
      const limits = capabilities
        ? { bytes: capabilities.maxUploadBytes, images: capabilities.maxImagesPerTask }
        : DEFAULT_LIMITS;
      const tooLarge = layDownFiles(pictures, toTaskOptions(choice), limits);
      const said = tooLarge.map((file) =>
        t("upload.tooLarge", {
          name: file.name,
          size: formatBytes(language, file.size),
          limit: formatBytes(language, limits.bytes),
        }),
      );
      if (others.length > 0) {
        const names = others.slice(0, NAMES_SHOWN).map((file) => file.name);
        said.push(
          t("table.leftOut", {
            count: others.length,
            names: names.join(", ") + (others.length > NAMES_SHOWN ? " …" : ""),
          }),
        );
      }
      setNotices(said);
      if (pictures.length > tooLarge.length)
        announce(t("count.pictures", { count: pictures.length - tooLarge.length }));
    },
    [choice, capabilities, t, language],
  );
  const addAddresses = useCallback(
    (addresses: string[]) => {
      layDownSources(
        addresses.map((url) => ({ url, name: new URL(url).pathname.split("/").at(-1) || undefined })),
        toTaskOptions(choice),
      );
    },
    [choice],
  );
  return {
    notices,
    dismissNotices: () => setNotices([]),
    layDown: useMemo(() => ({ files: addFiles, addresses: addAddresses }), [addFiles, addAddresses]),
  };
}
