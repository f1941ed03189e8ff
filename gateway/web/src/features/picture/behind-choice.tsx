// What lies behind the cut-out while one looks at it. It changes nothing in the file.
import { useRef } from "react";
import { useI18n } from "../../i18n";
import { Segmented } from "../../ui/segmented";

export type BehindKind = "checker" | "white" | "black" | "color" | "image";

interface Props {
  kind: BehindKind;
  color: string;
  /** The own picture, where one is laid behind. */
  ownUrl: string | undefined;
  onChange: (kind: BehindKind) => void;
  onColor: (color: string) => void;
  onImage: (file: File) => void;
}

export function BehindChoice({ kind, color, ownUrl, onChange, onColor, onImage }: Props) {
  const { t } = useI18n();
  const file = useRef<HTMLInputElement>(null);
  return (
    <div className="flex flex-wrap items-center gap-2">
      <div className="min-w-0 flex-1">
        <Segmented
          legend={t("picture.behind")}
          value={kind}
          columns={ownUrl ? 5 : 4}
          isSwatches
          onChange={onChange}
          segments={[
            { value: "checker", label: t("picture.behind.checker"), swatch: "checker" },
            { value: "white", label: t("picture.behind.white"), swatch: "#fff" },
            { value: "black", label: t("picture.behind.black"), swatch: "#000" },
            { value: "color", label: t("picture.behind.color"), swatch: color },
            ...(ownUrl
              ? [
                  {
                    value: "image" as const,
                    label: t("picture.behind.image"),
                    swatch: `center / cover url("${ownUrl}")`,
                  },
                ]
              : []),
          ]}
        />
        {kind === "color" && (
          <label className="mt-2 flex items-center gap-2 text-soft">
            <input
              type="color"
              value={color}
              onChange={(event) => onColor(event.target.value)}
              className="h-9 w-14 cursor-pointer rounded-[5px] border border-edge bg-paper p-1"
            />
            {t("options.background.colorPick")}
          </label>
        )}
        <button
          type="button"
          onClick={() => file.current?.click()}
          className="mt-1.5 text-[0.82rem] text-soft underline decoration-edge underline-offset-4 hover:text-ink"
        >
          {t("picture.behind.pickImage")}
        </button>
        <input
          ref={file}
          type="file"
          accept="image/*"
          hidden
          data-testid="behind-input"
          onChange={(event) => {
            const chosen = event.target.files?.[0];
            if (chosen) onImage(chosen);
            event.target.value = "";
          }}
        />
      </div>
    </div>
  );
}
