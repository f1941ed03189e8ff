// What a picture is to become, and what that costs in time on this machine. What is seldom wanted is folded away.
import { useQuery } from "@tanstack/react-query";
import { MOST_MARGIN_PX } from "../../api/choice";
import { capabilitiesQuery } from "../../api/queries";
import { FORMATS, KIND_CHOICES, QUALITIES, SUBJECTS } from "../../api/types";
import { useI18n } from "../../i18n";
import { NumberField, RangeField } from "../../ui/fields";
import { Segmented } from "../../ui/segmented";
import { AsText } from "./as-text";
import { BackgroundChoice } from "./background-choice";
import { CanvasChoice } from "./canvas-choice";
import { QualityCosts, StageCosts } from "./costs";
import type { OptionProps } from "./option-props";
import { ShadowChoice } from "./shadow-choice";
import { WatermarkChoice } from "./watermark-choice";

interface Props extends OptionProps {
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
      <ShadowChoice choice={choice} onChange={onChange} />
      <div>
        <Segmented
          legend={t("options.format")}
          value={choice.format}
          onChange={(format) => onChange({ format })}
          segments={formats.map((format) => ({ value: format, label: t(`format.${format}`) }))}
        />
        <p className="mt-1.5 text-[0.8rem] text-soft">{t(`options.format.${choice.format}`)}</p>
        {choice.format !== "png" && (
          <div className="mt-3">
            <RangeField
              label={t("options.encodingQuality")}
              value={choice.encoding}
              text={String(choice.encoding)}
              min={1}
              max={100}
              onChange={(encoding) => onChange({ encoding })}
            />
          </div>
        )}
      </div>
      <CropChoice choice={choice} onChange={onChange} />
      <div className="-my-3 divide-y divide-rule border-y border-rule">
        <CanvasChoice choice={choice} onChange={onChange} />
        <WatermarkChoice choice={choice} onChange={onChange} />
      </div>
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

function CropChoice({ choice, onChange }: OptionProps) {
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
        <div className="mt-2">
          <NumberField
            label={t("options.crop.margin")}
            value={choice.margin}
            min={0}
            max={MOST_MARGIN_PX}
            unit={t("unit.px")}
            fault={t("options.crop.margin.fault", { most: MOST_MARGIN_PX })}
            onChange={(margin) => onChange({ margin })}
          />
        </div>
      )}
    </div>
  );
}
