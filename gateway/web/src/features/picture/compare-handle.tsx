// The boundary between before and after. Mouse and touch drag it; as a slider it obeys the arrow keys.
import type { KeyboardEvent, PointerEvent } from "react";
import { useI18n } from "../../i18n";
import { formatPercent } from "../../i18n/format";

interface Props {
  /** Its place in the window, in pixels. */
  x: number;
  split: number;
  onSplit: (split: number) => void;
  toSplit: (x: number) => number;
}

export function CompareHandle({ x, split, onSplit, toSplit }: Props) {
  const { t, language } = useI18n();
  const onKeyDown = (event: KeyboardEvent) => {
    const step = event.shiftKey ? 10 : 2;
    const next: Record<string, number> = {
      ArrowLeft: split - step,
      ArrowDown: split - step,
      ArrowRight: split + step,
      ArrowUp: split + step,
      PageDown: split - 10,
      PageUp: split + 10,
      Home: 0,
      End: 100,
    };
    const value = next[event.key];
    if (value === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    onSplit(Math.min(100, Math.max(0, value)));
  };
  const onPointerMove = (event: PointerEvent<HTMLElement>) => {
    if (!event.currentTarget.hasPointerCapture(event.pointerId)) return;
    event.stopPropagation();
    const box = event.currentTarget.parentElement?.getBoundingClientRect();
    if (box) onSplit(toSplit(event.clientX - box.left));
  };
  return (
    <div
      role="slider"
      tabIndex={0}
      aria-label={t("picture.handle")}
      aria-orientation="horizontal"
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(split)}
      aria-valuetext={t("picture.handle.value", { percent: formatPercent(language, split / 100) })}
      onKeyDown={onKeyDown}
      onPointerDown={(event) => {
        event.stopPropagation();
        event.currentTarget.setPointerCapture(event.pointerId);
      }}
      onPointerMove={onPointerMove}
      className="group absolute inset-y-0 w-11 -translate-x-1/2 cursor-ew-resize touch-none outline-none"
      style={{ left: x }}
      data-testid="handle"
    >
      <span className="absolute inset-y-0 left-1/2 w-[2px] -translate-x-1/2 bg-white shadow-[0_0_0_1px_rgb(0_0_0/0.35)]" />
      <span className="absolute top-1/2 left-1/2 grid size-10 -translate-x-1/2 -translate-y-1/2 place-items-center rounded-full border border-black/25 bg-white text-black shadow-md group-focus-visible:outline-3 group-focus-visible:outline-offset-2 group-focus-visible:outline-pencil">
        <svg
          aria-hidden="true"
          width="18"
          height="18"
          viewBox="0 0 18 18"
          fill="none"
          stroke="currentColor"
          strokeWidth="1.6"
          strokeLinecap="round"
          strokeLinejoin="round"
        >
          <path d="M6.5 5 2.5 9l4 4M11.5 5l4 4-4 4" />
        </svg>
      </span>
    </div>
  );
}
