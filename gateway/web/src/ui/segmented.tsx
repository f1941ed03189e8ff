// One of a few: radio buttons of the browser, dressed as one bar. Arrow keys and screen readers know them.
import { useId } from "react";

export interface Segment<T extends string> {
  value: T;
  label: string;
  note?: string | undefined;
  swatch?: string | undefined;
}

interface Props<T extends string> {
  legend: string;
  value: T;
  segments: Segment<T>[];
  onChange: (value: T) => void;
  /** The legend is read out but not seen, where the surroundings say it already. */
  hideLegend?: boolean;
  columns?: number;
  /** Large swatches with small words under them. */
  isSwatches?: boolean;
}

export function Segmented<T extends string>({
  legend,
  value,
  segments,
  onChange,
  hideLegend = false,
  columns,
  isSwatches = false,
}: Props<T>) {
  const name = useId();
  // The last one fills its row.
  const rest = columns ? columns - ((segments.length - 1) % columns) : 1;
  return (
    <fieldset className="min-w-0">
      <legend className={hideLegend ? "sr-only" : "edge-print mb-1.5"}>{legend}</legend>
      <div
        className="grid auto-cols-fr gap-px overflow-hidden rounded-[5px] border border-edge bg-rule"
        style={columns ? { gridTemplateColumns: `repeat(${columns}, minmax(0, 1fr))` } : { gridAutoFlow: "column" }}
      >
        {segments.map((segment, place) => (
          <label
            key={segment.value}
            style={place === segments.length - 1 ? { gridColumn: `span ${rest}` } : undefined}
            className={`relative flex min-h-[2.2rem] items-center justify-center bg-paper text-center leading-tight ${isSwatches ? "flex-col gap-1 px-0.5 py-1.5 text-[0.72rem]" : "gap-1.5 px-1.5 py-1 text-[0.92rem]"} text-soft transition-colors hover:text-ink forced-colors:has-checked:underline has-checked:bg-ink has-checked:text-table has-focus-visible:z-10 has-focus-visible:outline-2 has-focus-visible:outline-offset-[-4px] has-focus-visible:outline-pencil`}
          >
            <input
              type="radio"
              name={name}
              value={segment.value}
              checked={segment.value === value}
              onChange={() => onChange(segment.value)}
              className="absolute inset-0 size-full cursor-pointer appearance-none opacity-0"
            />
            {segment.swatch && (
              <span
                aria-hidden="true"
                className={`${isSwatches ? "size-6" : "size-3.5"} shrink-0 rounded-full border border-edge ${segment.swatch === "checker" ? "checker" : ""}`}
                style={segment.swatch === "checker" ? { backgroundSize: "7px 7px" } : { background: segment.swatch }}
              />
            )}
            <span>
              {segment.label}
              {segment.note && <span className="block text-[0.7rem] opacity-80">{segment.note}</span>}
            </span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}
