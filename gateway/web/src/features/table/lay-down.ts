// What is laid down becomes tasks with the options that are chosen now; what cannot be sent is named with the reason.
import { useQuery } from "@tanstack/react-query";
import { useCallback, useMemo, useSyncExternalStore } from "react";
import { capabilitiesQuery } from "../../api/queries";
import { toTaskOptions } from "../../api/request-options";
import { useI18n } from "../../i18n";
import { formatBytes } from "../../i18n/format";
import { announce } from "../../ui/announce";
import { useChoice } from "../../ui/use-choice";
import { looksLikePicture } from "./files";
import { layDownFiles, layDownSources } from "./uploads";

/** Until the gateway has told its limit. */
const DEFAULT_LIMITS = { bytes: 50_000_000, images: 1_000 };
const NAMES_SHOWN = 3;

let notices: string[] = [];
const listeners = new Set<() => void>();

function setNotices(next: string[]): void {
  notices = next;
  for (const listener of listeners) listener();
}

export const dismissNotices = () => setNotices([]);

/** What was left out of the last drop, and why: told on the table, wherever the drop was. */
export function useNotices(): string[] {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => notices,
  );
}

export function useLayDown() {
  const { t, language } = useI18n();
  const [choice] = useChoice();
  const { data: capabilities } = useQuery(capabilitiesQuery);

  const files = useCallback(
    (dropped: File[]) => {
      const pictures = dropped.filter(looksLikePicture);
      const others = dropped.filter((file) => !looksLikePicture(file));
      const limits = capabilities
        ? { bytes: capabilities.maxUploadBytes, images: capabilities.maxImagesPerTask }
        : DEFAULT_LIMITS;
      const tooLarge = layDownFiles(pictures, toTaskOptions(choice), limits);
      const size = (bytes: number) => formatBytes(language, bytes);
      const said = tooLarge.map((file) =>
        t("upload.tooLarge", { name: file.name, size: size(file.size), limit: size(limits.bytes) }),
      );
      if (others.length > 0) {
        const names = others.slice(0, NAMES_SHOWN).map((file) => file.name);
        const more = others.length > NAMES_SHOWN ? " …" : "";
        said.push(t("table.leftOut", { count: others.length, names: names.join(", ") + more }));
      }
      setNotices(said);
      const taken = pictures.length - tooLarge.length;
      if (taken > 0) announce(t("count.pictures", { count: taken }));
    },
    [choice, capabilities, t, language],
  );
  const addresses = useCallback(
    (urls: string[]) => {
      layDownSources(
        urls.map((url) => ({ url, name: new URL(url).pathname.split("/").at(-1) || undefined })),
        toTaskOptions(choice),
      );
    },
    [choice],
  );
  return useMemo(() => ({ files, addresses }), [files, addresses]);
}
