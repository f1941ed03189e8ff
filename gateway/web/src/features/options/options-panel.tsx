// Kind, quality, format, background, crop, subject: what a picture is to become, and what that costs in time on this machine.
import { useQuery } from "@tanstack/react-query";
import { useId, useState } from "react";
import { capabilitiesQuery } from "../../api/queries";
import { type Choice, isBackground } from "../../api/request-options";
import { FORMATS, KIND_CHOICES, QUALITIES, SUBJECTS } from "../../api/types";
import { useI18n } from "../../i18n";
import { Segmented } from "../../ui/segmented";
import { AsText } from "./as-text";
import { QualityCosts, StageCosts } from "./costs";

interface Props {
  choice: Choice;
  onChange: (change: Partial<Choice>) => void;
  /** Without the parts that are the same everywhere, where the panel stands beside a picture. */
  isBrief?: boolean;
}

export function OptionsPanel({ choice, onChange, isBrief = false }: Props) {
  const { t } = useI18n();
  const { data: capabilities } = useQuery(capabilitiesQuery);
  const kinds = capabilities?.kinds ?? KIND_CHOICES;
  const formats = capabilities?.formats ?? FORMATS;
  return (
    <div className="flex flex-col gap-6">
      <div>
        <Segmented
          legend={t("options.quality")}
          value={choice.quality}
          onChange={(quality) => onChange({ quality })}
          segments={QUALITIES.map((quality) => ({ value: quality, label: t(`quality.${quality}`) }))}
        />
        <QualityCosts quality={choice.quality} />
      </div>
      <BackgroundChoice choice={choice} onChange={onChange} />
      <div>
        <Segmented
          legend={t("options.format")}
          value={choice.format}
          onChange={(format) => onChange({ format })}
          segments={formats.map((format) => ({ value: format, label: t(`format.${format}`) }))}
        />
        <p className="mt-1.5 text-[0.8rem] text-soft">{t(`options.format.${choice.format}`)}</p>
        {choice.format !== "png" && <EncodingQuality choice={choice} onChange={onChange} />}
      </div>
      <CropChoice choice={choice} onChange={onChange} />
      <div>
        <Segmented
          legend={t("options.subject")}
          value={choice.subject}
          onChange={(subject) => onChange({ subject })}
          segments={SUBJECTS.map((subject) => ({ value: subject, label: t(`subject.${subject}`) }))}
        />
        <p className="mt-1.5 text-[0.8rem] text-soft">{t("options.subject.help")}</p>
      </div>
      <div>
        <Segmented
          legend={t("options.kind")}
          value={choice.kind}
          columns={2}
          onChange={(kind) => onChange({ kind })}
          segments={kinds.map((kind) => ({ value: kind, label: t(`kind.${kind}`) }))}
        />
        <p className="mt-1.5 text-[0.8rem] text-soft">{t("options.kind.help")}</p>
      </div>
      {!isBrief && (
        <>
          <StageCosts />
          <AsText choice={choice} />
        </>
      )}
    </div>
  );
}

function EncodingQuality({ choice, onChange }: Props) {
  const { t } = useI18n();
  return (
    <label className="mt-3 block">
      <span className="edge-print flex justify-between">
        {t("options.encodingQuality")}
        <output className="text-ink">{choice.encodingQuality}</output>
      </span>
      <input
        type="range"
        min={1}
        max={100}
        value={choice.encodingQuality}
        onChange={(event) => onChange({ encodingQuality: event.target.valueAsNumber })}
        className="mt-1 w-full"
      />
    </label>
  );
}

type Ground = "transparent" | "white" | "color" | "url";

const FIRST_COLOR = "#d9d4cc";

function groundOf(background: string): Ground {
  if (background === "transparent") return "transparent";
  if (background.toLowerCase() === "#ffffff") return "white";
  return background.startsWith("#") ? "color" : "url";
}

function BackgroundChoice({ choice, onChange }: Props) {
  const { t } = useI18n();
  // An address that is still being written is no background yet, but its field has to stand open.
  const [isWritingUrl, setIsWritingUrl] = useState(false);
  const ground = isWritingUrl ? "url" : groundOf(choice.background);
  const choose = (next: Ground) => {
    setIsWritingUrl(next === "url");
    if (next === "transparent") onChange({ background: "transparent" });
    if (next === "white") onChange({ background: "#ffffff" });
    if (next === "color") onChange({ background: FIRST_COLOR });
  };
  return (
    <div>
      <Segmented
        legend={t("options.background")}
        value={ground}
        columns={2}
        onChange={choose}
        segments={[
          { value: "transparent", label: t("options.background.transparent"), swatch: "checker" },
          { value: "white", label: t("options.background.white"), swatch: "#ffffff" },
          {
            value: "color",
            label: t("options.background.color"),
            swatch: ground === "color" ? choice.background : "conic-gradient(#c55, #cc5, #5c5, #5cc, #55c, #c5c, #c55)",
          },
          { value: "url", label: t("options.background.url") },
        ]}
      />
      {ground === "color" && (
        <label className="mt-2 flex items-center gap-2">
          <input
            type="color"
            // The picker knows six digits only; an alpha from the address is kept until it is used.
            value={choice.background.slice(0, 7).padEnd(7, "0")}
            onChange={(event) => onChange({ background: event.target.value })}
            className="h-9 w-14 cursor-pointer rounded-[5px] border border-edge bg-paper p-1"
          />
          <span className="text-soft">{t("options.background.colorPick")}</span>
          <span className="ml-auto font-mono text-[0.8rem]">{choice.background}</span>
        </label>
      )}
      {ground === "url" && <BackgroundAddress choice={choice} onChange={onChange} />}
    </div>
  );
}

function BackgroundAddress({ choice, onChange }: Props) {
  const { t } = useI18n();
  const [text, setText] = useState(groundOf(choice.background) === "url" ? choice.background : "");
  const isWrong = text !== "" && !isBackground(text);
  const help = useId();
  return (
    <label className="mt-2 block">
      <span className="text-[0.8rem] text-soft">{t("options.background.urlField")}</span>
      <input
        type="url"
        value={text}
        placeholder="https://…"
        aria-invalid={isWrong}
        aria-describedby={isWrong ? help : undefined}
        onChange={(event) => {
          setText(event.target.value);
          if (isBackground(event.target.value)) onChange({ background: event.target.value });
        }}
        className="field mt-1 w-full"
      />
      {isWrong && (
        <span id={help} className="mt-1 block text-[0.8rem] text-fail">
          {t("table.add.url.invalid")}
        </span>
      )}
    </label>
  );
}

function CropChoice({ choice, onChange }: Props) {
  const { t } = useI18n();
  return (
    <div>
      <Segmented
        legend={t("options.crop")}
        value={choice.crop}
        onChange={(crop) => onChange({ crop })}
        segments={[
          { value: "none", label: t("options.crop.none") },
          { value: "subject", label: t("options.crop.subject") },
        ]}
      />
      {choice.crop === "subject" && (
        <label className="mt-2 flex items-center gap-2 text-soft">
          {t("options.crop.margin")}
          <input
            type="number"
            min={0}
            max={10_000}
            value={choice.cropMarginPx}
            onChange={(event) => {
              const margin = event.target.valueAsNumber;
              if (Number.isInteger(margin) && margin >= 0 && margin <= 10_000) onChange({ cropMarginPx: margin });
            }}
            className="field ml-auto w-24 text-right"
          />
          px
        </label>
      )}
    </div>
  );
}
