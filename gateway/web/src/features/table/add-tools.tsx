// The ways onto the table for those who do not drag: choose files, choose a folder, give addresses.
import { type FormEvent, useId, useRef, useState } from "react";
import { useI18n } from "../../i18n";
import { Button } from "../../ui/button";
import { parseAddresses } from "./files";

interface Props {
  onFiles: (files: File[]) => void;
  onAddresses: (addresses: string[]) => void;
  onOptions: () => void;
}

const ACCEPTED = "image/*,.tif,.tiff,.ico,.bmp,.heic,.avif";

function FileButtons({ onFiles, isMain = false }: { onFiles: (files: File[]) => void; isMain?: boolean }) {
  const { t } = useI18n();
  const files = useRef<HTMLInputElement>(null);
  const folder = useRef<HTMLInputElement>(null);
  const take = (input: HTMLInputElement) => {
    onFiles([...(input.files ?? [])]);
    // So that the same file can be chosen again.
    input.value = "";
  };
  return (
    <>
      <Button look={isMain ? "primary" : "plain"} icon="add" onClick={() => files.current?.click()}>
        {t("table.add.files")}
      </Button>
      <Button look="plain" icon="folder" onClick={() => folder.current?.click()} className="max-sm:hidden">
        {t("table.add.folder")}
      </Button>
      <input
        ref={files}
        type="file"
        multiple
        accept={ACCEPTED}
        hidden
        data-testid="file-input"
        onChange={(event) => take(event.target)}
      />
      <input
        ref={(element) => {
          folder.current = element;
          // React knows no such attribute; without it the browser offers files only.
          element?.setAttribute("webkitdirectory", "");
        }}
        type="file"
        hidden
        onChange={(event) => take(event.target)}
      />
    </>
  );
}

function AddressForm({ onAddresses }: { onAddresses: (addresses: string[]) => void }) {
  const { t } = useI18n();
  const [text, setText] = useState("");
  const [isWrong, setIsWrong] = useState(false);
  const help = useId();
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const addresses = parseAddresses(text);
    setIsWrong(addresses === undefined);
    if (!addresses) return;
    onAddresses(addresses);
    setText("");
  };
  return (
    <form onSubmit={submit} noValidate className="flex min-w-0 flex-1 flex-wrap items-start gap-2">
      <label className="min-w-0 flex-1 basis-44">
        <span className="sr-only">{t("table.add.url")}</span>
        <input
          type="url"
          inputMode="url"
          value={text}
          placeholder={t("table.add.url.placeholder")}
          aria-invalid={isWrong}
          aria-describedby={isWrong ? help : undefined}
          onChange={(event) => {
            setText(event.target.value);
            setIsWrong(false);
          }}
          className="field w-full"
        />
      </label>
      <Button type="submit" icon="link">
        {t("table.add.url.submit")}
      </Button>
      {isWrong && (
        <p id={help} role="alert" className="basis-full text-[0.85rem] text-fail">
          {t("table.add.url.invalid")}
        </p>
      )}
    </form>
  );
}

export function AddTools({ onFiles, onAddresses, onOptions, onSelectAll }: Props & { onSelectAll: () => void }) {
  const { t } = useI18n();
  return (
    <section aria-label={t("table.add")} className="flex flex-wrap items-start gap-2 py-4">
      <FileButtons onFiles={onFiles} isMain />
      <div className="order-last min-w-0 max-sm:basis-full sm:order-none sm:max-w-md sm:flex-1">
        <AddressForm onAddresses={onAddresses} />
      </div>
      <span className="ml-auto flex gap-2">
        <Button look="quiet" onClick={onSelectAll} className="max-sm:hidden">
          {t("select.all")}
        </Button>
        <Button icon="sliders" onClick={onOptions} className="lg:hidden">
          {t("options.open")}
        </Button>
      </span>
    </section>
  );
}

export function EmptyTable({ onFiles, onAddresses, onOptions }: Props) {
  const { t } = useI18n();
  return (
    <section
      aria-label={t("table.add")}
      className="m-auto flex w-full max-w-2xl flex-col items-center gap-5 py-12 text-center"
    >
      <EmptyFrames />
      <h2 className="text-[clamp(1.6rem,4vw,2.6rem)] leading-tight font-semibold tracking-tight text-balance">
        {t("table.empty.title")}
      </h2>
      <p className="max-w-prose text-soft text-pretty">{t("table.empty.text")}</p>
      <div className="flex flex-wrap justify-center gap-2">
        <FileButtons onFiles={onFiles} isMain />
        <Button icon="sliders" onClick={onOptions} className="lg:hidden">
          {t("options.open")}
        </Button>
      </div>
      <div className="w-full max-w-md text-left">
        <AddressForm onAddresses={onAddresses} />
      </div>
    </section>
  );
}

/** Three empty mounts: where the pictures will lie. */
function EmptyFrames() {
  return (
    <svg aria-hidden="true" viewBox="0 0 260 110" className="w-56 text-edge">
      {[-1, 0, 1].map((place) => (
        <g key={place} transform={`translate(${130 + place * 72} ${56 + Math.abs(place) * 5}) rotate(${place * 5})`}>
          <rect
            x="-33"
            y="-42"
            width="66"
            height="84"
            rx="3"
            fill="var(--paper)"
            stroke="currentColor"
            strokeWidth="1"
          />
          <rect x="-26" y="-35" width="52" height="60" fill="var(--well)" />
          {place === 0 && <path d="M-26 25 26 -35v60Z" fill="var(--pencil)" opacity="0.85" />}
        </g>
      ))}
    </svg>
  );
}
