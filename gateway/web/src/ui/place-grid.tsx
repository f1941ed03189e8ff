// One of nine places on a canvas, as a small picture of it: radio buttons of the browser, which arrow keys move through.
import { useId } from "react";
import { ANCHORS, type Anchor } from "../api/types";
import { useI18n } from "../i18n";

interface Props {
  legend: string;
  /** `undefined`: none of the nine. */
  value: Anchor | undefined;
  onChange: (place: Anchor) => void;
}

export function PlaceGrid({ legend, value, onChange }: Props) {
  const { t } = useI18n();
  const name = useId();
  return (
    <fieldset className="flex items-start gap-3">
      <legend className="edge-print mb-1.5">{legend}</legend>
      <div className="grid w-28 grid-cols-3 gap-px overflow-hidden rounded-[5px] border border-edge bg-rule">
        {ANCHORS.map((place) => (
          <label
            key={place}
            title={t(`place.${place}`)}
            className="relative grid h-8 place-items-center bg-paper text-edge hover:text-ink has-checked:bg-ink has-checked:text-table has-focus-visible:z-10 has-focus-visible:outline-2 has-focus-visible:outline-offset-[-4px] has-focus-visible:outline-pencil"
          >
            <input
              type="radio"
              name={name}
              aria-label={t(`place.${place}`)}
              checked={place === value}
              onChange={() => onChange(place)}
              className="absolute inset-0 size-full cursor-pointer appearance-none opacity-0"
            />
            <span aria-hidden="true" className="size-1.5 rounded-full bg-current" />
          </label>
        ))}
      </div>
      <p className="pt-1 text-[0.85rem] text-soft">{value && t(`place.${value}`)}</p>
    </fieldset>
  );
}
