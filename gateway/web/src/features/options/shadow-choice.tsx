import { SHADOWS } from "../../api/types";
import { useI18n } from "../../i18n";
import { formatPercent } from "../../i18n/format";
import { RangeField } from "../../ui/fields";
import { Segmented } from "../../ui/segmented";
import type { OptionProps } from "./option-props";

/** What the gateway takes where no strength is asked for: a drawn shadow is half as dark as it can be, a kept one as it was. */
const USUAL_PERCENT = { keep: 100, drop: 50, contact: 50, auto: 50 };

/** The shadow under the subject: none, the picture's own, or a drawn one, and how dark it is. */
export function ShadowChoice({ choice, onChange }: OptionProps) {
  const { t, language } = useI18n();
  const { shadow } = choice;
  const percent = choice.strength ?? (shadow === "none" ? 0 : USUAL_PERCENT[shadow]);
  return (
    <div>
      <Segmented
        legend={t("options.shadow")}
        value={shadow}
        columns={3}
        // What is dark enough for one kind is not for another.
        onChange={(next) => onChange({ shadow: next, strength: undefined })}
        segments={SHADOWS.map((kind) => ({ value: kind, label: t(`shadow.${kind}`) }))}
      />
      {shadow !== "none" && (
        <>
          <p className="mt-1.5 mb-3 text-[0.8rem] text-soft">{t(`options.shadow.${shadow}`)}</p>
          <RangeField
            label={t("options.shadow.strength")}
            value={percent}
            text={formatPercent(language, percent / 100)}
            min={0}
            max={100}
            step={5}
            onChange={(strength) => onChange({ strength })}
          />
        </>
      )}
    </div>
  );
}
