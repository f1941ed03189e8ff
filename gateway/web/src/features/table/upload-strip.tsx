// What is on its way to the server: shown on the sheet where its task will lie, with the progress of its bytes.
import { useEffect, useState } from "react";
import { useI18n } from "../../i18n";
import { formatPercent } from "../../i18n/format";
import { announce } from "../../ui/announce";
import { Button } from "../../ui/button";
import { Failure, useFailureWords } from "../../ui/failure";
import { usePreview } from "./previews";
import { discardUpload, retryUpload, type Upload, type UploadItem } from "./uploads";

const TILES_SHOWN = 24;

export function UploadStrip({ upload, columns }: { upload: Upload; columns: number }) {
  const { t } = useI18n();
  const words = useFailureWords();
  const failure = upload.state === "failed" ? words(upload.error?.body.code ?? "internal").what : undefined;
  useEffect(() => {
    if (failure) announce(`${t("upload.failed")}: ${failure}`);
  }, [failure, t]);
  const span = Math.min(Math.max(1, upload.items.length), columns);
  const share = upload.totalBytes > 0 ? Math.min(1, upload.sentBytes / upload.totalBytes) : 0;
  return (
    <section
      className="strip"
      style={{ gridColumn: `span ${span}`, ["--columns" as string]: span }}
      data-testid="upload"
      data-state={upload.state}
    >
      <header className="edge-print mb-2 flex min-h-6 items-center gap-3 border-t border-rule pt-1">
        <UploadWords upload={upload} share={share} />
        {upload.state === "sending" && (
          <progress value={share} max={1} className="sr-only">
            {share}
          </progress>
        )}
        <span aria-hidden="true" className="h-[3px] flex-1 overflow-hidden rounded-full bg-rule">
          <span className="block h-full bg-pencil transition-[width]" style={{ width: `${share * 100}%` }} />
        </span>
      </header>
      <ul className="tile-grid">
        {upload.items.slice(0, TILES_SHOWN).map((item) => (
          <UploadTile key={item.key} item={item} />
        ))}
      </ul>
      {upload.state === "waiting" && <Waiting upload={upload} />}
      {upload.state === "failed" && upload.error && (
        <div className="mt-2">
          <Failure error={upload.error.body} compact={span === 1}>
            <Button icon="again" onClick={() => retryUpload(upload.id)}>
              {t("upload.retry")}
            </Button>
            <Button look="quiet" onClick={() => discardUpload(upload.id)}>
              {t("upload.discard")}
            </Button>
          </Failure>
        </div>
      )}
    </section>
  );
}

function UploadTile({ item }: { item: UploadItem }) {
  const preview = usePreview(item.key);
  return (
    <li data-testid="upload-tile">
      <div className="rounded-[3px] bg-paper p-[5px] shadow-(--shadow)">
        <span className="relative block aspect-square overflow-hidden bg-well">
          {preview ? (
            <img src={preview} alt="" className="absolute inset-0 size-full object-contain opacity-70" />
          ) : (
            <span className="absolute inset-0 grid place-items-center p-3 text-center text-[0.75rem] break-all text-faint">
              {item.name}
            </span>
          )}
        </span>
      </div>
      <p className="mt-1.5 truncate text-[0.82rem]">{item.name}</p>
    </li>
  );
}

function UploadWords({ upload, share }: { upload: Upload; share: number }) {
  const { t, language } = useI18n();
  if (upload.state === "failed" || upload.state === "waiting")
    return <span className="text-fail">{t("upload.failed")}</span>;
  if (upload.state === "queued") return <span>{t("upload.queued")}</span>;
  if (upload.files.length === 0) return <span>{t("upload.asking")}</span>;
  return (
    <span>{share >= 1 ? t("upload.sent") : t("upload.sending", { percent: formatPercent(language, share) })}</span>
  );
}

/** The connection broke: it is tried again by itself, and whoever does not want to wait need not. */
function Waiting({ upload }: { upload: Upload }) {
  const { t } = useI18n();
  const words = useFailureWords();
  const seconds = useSecondsUntil(upload.retryAtMs);
  return (
    <p className="mt-2 rounded-[5px] bg-fail-wash p-2 text-[0.8rem] leading-snug">
      {t("upload.waiting", { what: words(upload.error?.body.code ?? "offline").what, seconds })}{" "}
      <button
        type="button"
        className="underline decoration-edge underline-offset-4 hover:decoration-ink"
        onClick={() => retryUpload(upload.id)}
      >
        {t("connection.retry")}
      </button>
    </p>
  );
}

function useSecondsUntil(timeMs: number | undefined): number {
  const [nowMs, setNowMs] = useState(() => Date.now());
  useEffect(() => {
    if (timeMs === undefined) return;
    setNowMs(Date.now());
    const timer = setInterval(() => setNowMs(Date.now()), 500);
    return () => clearInterval(timer);
  }, [timeMs]);
  return timeMs === undefined ? 0 : Math.max(0, Math.ceil((timeMs - nowMs) / 1000));
}
