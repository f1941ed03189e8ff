// What lies behind the cut-out in the finished file.
import { useId, useState } from "react";
import {
  type BackgroundKind,
  blurText,
  type GradientParts,
  gradientText,
  kindOfBackground,
  parseBlur,
  parseGradient,
} from "../../api/background";
import { useI18n } from "../../i18n";
import { ColorField, RangeField } from "../../ui/fields";
import { Segmented } from "../../ui/segmented";
import type { OptionProps } from "./option-props";

type Ground = BackgroundKind | "white";

const WHITE = "#ffffff";
const FIRST_COLOR = "#d9d4cc";
const FIRST_GRADIENT = "linear-gradient(180deg, #f4f4f2, #b9c4c9)";
const FIRST_BLUR_PX = 24;
/** As far as the slider goes: more is hardly told apart. */
const SLIDER_BLUR_PX = 200;
const ALL_COLORS = "conic-gradient(#c55, #cc5, #5c5, #5cc, #55c, #c5c, #c55)";

function groundOf(background: string): Ground {
  return background.toLowerCase() === WHITE ? "white" : (kindOfBackground(background) ?? "transparent");
}

export function BackgroundChoice({ choice, onChange }: OptionProps) {
  const { t } = useI18n();
  // An address that is still being written is no background yet, but its field has to stand open.
  const [isWritingUrl, setIsWritingUrl] = useState(false);
  const { background } = choice;
  const ground = isWritingUrl ? "url" : groundOf(background);
  const set = (next: string) => onChange({ background: next });
  const choose = (next: Ground) => {
    setIsWritingUrl(next === "url");
    if (next === "url") return;
    set(
      {
        transparent: "transparent",
        white: WHITE,
        color: FIRST_COLOR,
        gradient: FIRST_GRADIENT,
        blur: blurText(FIRST_BLUR_PX),
      }[next],
    );
  };
  const gradient = parseGradient(background);
  const sigmaPx = parseBlur(background);
  return (
    <div>
      <Segmented
        legend={t("options.background")}
        value={ground}
        columns={2}
        onChange={choose}
        segments={[
          { value: "transparent", label: t("options.background.transparent"), swatch: "checker" },
          { value: "white", label: t("options.background.white"), swatch: WHITE },
          {
            value: "color",
            label: t("options.background.color"),
            swatch: ground === "color" ? background : ALL_COLORS,
          },
          {
            value: "gradient",
            label: t("options.background.gradient"),
            swatch: ground === "gradient" ? background : "linear-gradient(#fff, #777)",
          },
          { value: "blur", label: t("options.background.blur") },
          { value: "url", label: t("options.background.url") },
        ]}
      />
      {ground === "color" && (
        <div className="mt-2">
          <ColorField label={t("options.background.colorPick")} value={background} onChange={set} />
        </div>
      )}
      {ground === "gradient" && gradient && <GradientFields parts={gradient} onChange={set} />}
      {ground === "blur" && sigmaPx !== undefined && (
        <div className="mt-3">
          <RangeField
            label={t("options.background.blurWidth")}
            value={sigmaPx}
            text={t("options.pixels", { count: sigmaPx })}
            min={1}
            max={Math.max(SLIDER_BLUR_PX, sigmaPx)}
            onChange={(next) => set(blurText(next))}
          />
        </div>
      )}
      {ground === "url" && <BackgroundAddress choice={choice} onChange={onChange} />}
    </div>
  );
}

function GradientFields({ parts, onChange }: { parts: GradientParts; onChange: (background: string) => void }) {
  const { t } = useI18n();
  const { type, angleDegrees, stops } = parts;
  const change = (next: Partial<GradientParts>) => onChange(gradientText({ ...parts, ...next }));
  const [first = "", last = ""] = [stops[0], stops.at(-1)].map((stop) => stop?.split(" ")[0]);
  return (
    <div className="mt-2 flex flex-col gap-2">
      <Segmented
        legend={t("options.background.gradientKind")}
        hideLegend
        value={type}
        onChange={(next) => change({ type: next })}
        segments={[
          { value: "linear", label: t("options.background.linear") },
          { value: "radial", label: t("options.background.radial") },
        ]}
      />
      <ColorField
        label={t("options.background.from")}
        value={first}
        onChange={(color) => change({ stops: [color, last] })}
      />
      <ColorField
        label={t("options.background.to")}
        value={last}
        onChange={(color) => change({ stops: [first, color] })}
      />
      {type === "linear" && (
        <RangeField
          label={t("options.background.angle")}
          value={angleDegrees}
          text={`${angleDegrees}°`}
          min={Math.min(0, angleDegrees)}
          max={360}
          step={5}
          onChange={(next) => change({ angleDegrees: next })}
        />
      )}
    </div>
  );
}

function BackgroundAddress({ choice, onChange }: OptionProps) {
  const { t } = useI18n();
  const [text, setText] = useState(kindOfBackground(choice.background) === "url" ? choice.background : "");
  const isAddress = (address: string) => kindOfBackground(address) === "url";
  const isWrong = text !== "" && !isAddress(text);
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
          if (isAddress(event.target.value)) onChange({ background: event.target.value });
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
