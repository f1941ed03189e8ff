// How large the finished picture is, and how large and where the subject is on it.
import { type CanvasSize, MOST_CANVAS_SIDE_PX, PLACES, parseSize, shareOfScale } from "../../api/choice";
import { ANCHORS } from "../../api/types";
import { useI18n } from "../../i18n";
import { formatPercent } from "../../i18n/format";
import { NumberField, RangeField } from "../../ui/fields";
import { Folded } from "../../ui/folded";
import { PlaceGrid } from "../../ui/place-grid";
import { Segmented } from "../../ui/segmented";
import type { OptionProps } from "./option-props";

const FIRST_SIZE = "1200x1200";
const FIRST_SHARE = "80%";

export function CanvasChoice({ choice, onChange }: OptionProps) {
  const { t, language } = useI18n();
  const size = parseSize(choice.size ?? "");
  const share = shareOfScale(choice.scale);
  // As the gateway does where nothing is said.
  const scale = share === undefined ? (choice.scale ?? (size ? "fit" : "original")) : "share";
  const position = choice.position ?? (choice.size || choice.scale ? "center" : "original");
  const note = [
    size && t("picture.sizeValue", { ...size }),
    share && formatPercent(language, share / 100),
    choice.position && placeWords(choice.position),
  ].filter(Boolean);

  function placeWords(place: string): string {
    const anchor = ANCHORS[PLACES.indexOf(place)];
    if (anchor) return t(`place.${anchor}`);
    return place === "original" ? t("options.position.original") : place;
  }

  return (
    <Folded title={t("options.canvas")} note={note.join(" · ") || t("options.canvas.none")}>
      <div className="flex flex-col gap-5 pt-2 pb-5">
        <div>
          <Segmented
            legend={t("options.size")}
            value={size ? "own" : "none"}
            onChange={(next) => onChange({ size: next === "own" ? FIRST_SIZE : undefined })}
            segments={[
              { value: "none", label: t("options.size.none") },
              { value: "own", label: t("options.size.own") },
            ]}
          />
          {size && <SizeFields size={size} onChange={(next) => onChange({ size: next })} />}
        </div>
        <div>
          <Segmented
            legend={t("options.scale")}
            value={scale}
            onChange={(next) => onChange({ scale: next === "share" ? FIRST_SHARE : next })}
            segments={[
              { value: "fit", label: t("options.scale.fit") },
              { value: "original", label: t("options.scale.original") },
              { value: "share", label: t("options.scale.share") },
            ]}
          />
          {share !== undefined && (
            <div className="mt-3">
              <RangeField
                label={t("options.scale.shareOf")}
                value={share}
                text={formatPercent(language, share / 100)}
                min={1}
                max={100}
                onChange={(next) => onChange({ scale: `${next}%` })}
              />
            </div>
          )}
        </div>
        <div>
          <PlaceGrid
            legend={t("options.position")}
            value={ANCHORS[PLACES.indexOf(position)]}
            onChange={(place) => onChange({ position: PLACES[ANCHORS.indexOf(place)] })}
          />
          <label className="mt-2 flex items-center gap-2 text-soft">
            <input
              type="checkbox"
              checked={position === "original"}
              onChange={(event) => onChange({ position: event.target.checked ? "original" : "center" })}
              className="size-4 accent-ink"
            />
            {t("options.position.original")}
          </label>
        </div>
      </div>
    </Folded>
  );
}

function SizeFields({ size, onChange }: { size: CanvasSize; onChange: (size: string) => void }) {
  const { t } = useI18n();
  const text = ({ width, height }: CanvasSize) => `${width}x${height}`;
  return (
    <div className="mt-2 flex flex-col gap-2">
      {(["width", "height"] as const).map((side) => (
        <NumberField
          key={side}
          label={t(`options.size.${side}`)}
          value={size[side]}
          min={1}
          max={MOST_CANVAS_SIDE_PX}
          unit={t("unit.px")}
          isRight={(value) => parseSize(text({ ...size, [side]: value })) !== undefined}
          fault={t("options.size.fault", { most: MOST_CANVAS_SIDE_PX })}
          onChange={(value) => onChange(text({ ...size, [side]: value }))}
        />
      ))}
    </div>
  );
}
