// A line of text over the finished picture.
import { MOST_MARK_LETTERS } from "../../api/choice";
import { useI18n } from "../../i18n";
import { formatPercent } from "../../i18n/format";
import { ColorField, RangeField, TextField } from "../../ui/fields";
import { Folded } from "../../ui/folded";
import { PlaceGrid } from "../../ui/place-grid";
import { Segmented } from "../../ui/segmented";
import type { OptionProps } from "./option-props";

const FIRST_ANGLE_DEGREES = -30;

export function WatermarkChoice({ choice, onChange }: OptionProps) {
  const { t, language } = useI18n();
  const { mark, markAt, markOpacity, markSize, markColor, markTile } = choice;
  const hasMark = mark.trim() !== "";
  return (
    <Folded title={t("options.mark")} note={hasMark ? mark : t("options.mark.none")}>
      <div className="flex flex-col gap-4 pt-2 pb-5">
        <div>
          <TextField
            label={t("options.mark.text")}
            value={mark}
            maxLength={MOST_MARK_LETTERS}
            placeholder="© 2026"
            onChange={(text) => onChange({ mark: text })}
          />
          <p className="mt-1.5 text-[0.8rem] text-soft">{t("options.mark.help")}</p>
        </div>
        {hasMark && (
          <>
            <ColorField
              label={t("options.mark.color")}
              value={markColor}
              onChange={(color) => onChange({ markColor: color })}
            />
            <RangeField
              label={t("options.mark.opacity")}
              value={markOpacity}
              text={formatPercent(language, markOpacity / 100)}
              min={0}
              max={100}
              step={5}
              onChange={(next) => onChange({ markOpacity: next })}
            />
            <RangeField
              label={t("options.mark.size")}
              value={markSize}
              text={formatPercent(language, markSize / 100)}
              min={1}
              max={100}
              onChange={(next) => onChange({ markSize: next })}
            />
            <Segmented
              legend={t("options.mark.repeat")}
              value={markTile === undefined ? "once" : "tiled"}
              onChange={(next) => onChange({ markTile: next === "tiled" ? FIRST_ANGLE_DEGREES : undefined })}
              segments={[
                { value: "once", label: t("options.mark.once") },
                { value: "tiled", label: t("options.mark.tiled") },
              ]}
            />
            {markTile === undefined ? (
              <PlaceGrid
                legend={t("options.position")}
                value={markAt}
                onChange={(place) => onChange({ markAt: place })}
              />
            ) : (
              <RangeField
                label={t("options.mark.angle")}
                value={markTile}
                text={`${markTile}°`}
                min={-180}
                max={180}
                step={5}
                onChange={(next) => onChange({ markTile: next })}
              />
            )}
          </>
        )}
      </div>
    </Folded>
  );
}
