// The picture under the loupe: original and cut-out in one frame, divided by a handle, over whatever is laid behind.
import { type CSSProperties, type KeyboardEvent, useMemo, useRef, useState } from "react";
import { imagePath } from "../../api/client";
import type { ImageAnswer } from "../../api/types";
import { useI18n } from "../../i18n";
import { formatPercent } from "../../i18n/format";
import { IconButton } from "../../ui/button";
import { CompareHandle } from "./compare-handle";
import { hasMarks, Marks } from "./marks";
import { useCamera, useGestures } from "./use-camera";
import { PIXEL_GRID_FROM, type Size, SQUARE_PIXELS_FROM, type View, visibleSpan } from "./view-state";

interface Props {
  taskId: string;
  image: ImageAnswer;
  name: string;
  view: View;
  behind: CSSProperties;
  isChecker: boolean;
  split: number;
  onSplit: (split: number) => void;
  /** Whether what was measured is drawn over the picture. */
  showsMarks: boolean;
  onMarks: (shows: boolean) => void;
}

const KEY_ZOOM = 1.25;
const KEY_PAN_PX = 60;

export function Viewer(props: Props) {
  const { taskId, image } = props;
  const dimensions = image.metadata?.dimensions;
  const [originalSize, setOriginalSize] = useState<Size>();
  // As large as both need: a cut-out that is cropped, or has a canvas of its own, and its original lie with their middles together.
  const picture = useMemo<Size | undefined>(() => {
    if (!dimensions && !originalSize) return undefined;
    return {
      width: Math.max(dimensions?.width ?? 0, originalSize?.width ?? 0),
      height: Math.max(dimensions?.height ?? 0, originalSize?.height ?? 0),
    };
  }, [dimensions, originalSize]);
  const { t } = useI18n();
  if (picture) {
    return <Surface {...props} picture={picture} originalSize={originalSize} onOriginalSize={setOriginalSize} />;
  }
  return (
    <div className="relative grid flex-1 place-items-center bg-well">
      <p className="text-soft">{t("picture.loading")}</p>
      <img
        src={imagePath(taskId, image.index, "original")}
        alt=""
        className="absolute size-px opacity-0"
        onLoad={({ currentTarget: { naturalWidth: width, naturalHeight: height } }) =>
          setOriginalSize({ width, height })
        }
        // A frame of some size, so that the words about the missing original have a place.
        onError={() => setOriginalSize({ width: 640, height: 480 })}
      />
    </div>
  );
}

function Surface({
  taskId,
  image,
  name,
  view,
  behind,
  isChecker,
  split,
  onSplit,
  showsMarks,
  onMarks,
  picture,
  originalSize,
  onOriginalSize,
}: Props & { picture: Size; originalSize: Size | undefined; onOriginalSize: (size: Size) => void }) {
  const { t, language } = useI18n();
  const surface = useRef<HTMLDivElement>(null);
  const { frame, size, isFitted, zoom, pan, fit, actual } = useCamera(surface, picture);
  const [isOriginalMissing, setIsOriginalMissing] = useState(false);
  const isDone = image.status === "completed";
  const shown: View = isDone ? (isOriginalMissing && view === "compare" ? "result" : view) : "original";
  const compares = shown === "compare";
  const found = image.metadata?.matting?.measured;
  const measured = hasMarks(found) ? found : undefined;
  const span = visibleSpan(frame, size);
  const splitX = span.left + ((span.right - span.left) * split) / 100;
  const toSplit = (x: number) =>
    Math.min(100, Math.max(0, (100 * (x - span.left)) / Math.max(1, span.right - span.left)));
  const gestures = useGestures(
    ({ x, dx, dy }) => {
      // A picture that is seen whole has nowhere to be moved to: the hand then moves the boundary.
      if (!isFitted) pan(dx, dy);
      else if (compares) onSplit(toSplit(x));
    },
    (factor, at) => zoom(factor, at),
  );
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.target !== event.currentTarget || event.ctrlKey || event.metaKey || event.altKey) return;
    const actions: Record<string, () => void> = {
      "+": () => zoom(KEY_ZOOM),
      "=": () => zoom(KEY_ZOOM),
      "-": () => zoom(1 / KEY_ZOOM),
      "0": fit,
      "1": actual,
      ArrowLeft: () => pan(KEY_PAN_PX, 0),
      ArrowRight: () => pan(-KEY_PAN_PX, 0),
      ArrowUp: () => pan(0, KEY_PAN_PX),
      ArrowDown: () => pan(0, -KEY_PAN_PX),
      ...(measured ? { m: () => onMarks(!showsMarks) } : {}),
    };
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  };
  // Both halves are cut along the same line of the frame.
  const cut = frame.width > 0 ? (100 * (splitX - frame.left)) / frame.width : 50;
  const rendering: CSSProperties = frame.scale >= SQUARE_PIXELS_FROM ? { imageRendering: "pixelated" } : {};
  const layer = "absolute inset-0 size-full object-contain select-none";
  const dimensions = image.metadata?.dimensions;
  // A browser shows no ZIP: its thumbnail stands for it.
  const finished = image.metadata?.mediaType === "application/zip" ? "thumbnail" : "result";
  const original = originalSize ?? picture;
  const isResized =
    dimensions !== undefined && (dimensions.width !== original.width || dimensions.height !== original.height);
  const resultBox = boxOf(dimensions, picture);
  const originalBox = boxOf(originalSize, picture);
  // The places are those of the original: over a cut-out of another size they would point beside what they mean.
  const marks = showsMarks && (shown === "original" || compares || !isResized) ? measured : undefined;

  return (
    <div className="relative flex min-h-0 min-w-0 flex-1 flex-col">
      {/* biome-ignore lint/a11y/useSemanticElements: a picture that is moved by keys has no element of its own */}
      <div
        ref={surface}
        role="group"
        tabIndex={0}
        aria-label={`${name}. ${t("picture.surface")}${measured ? ` ${t("picture.surface.marks")}` : ""}`}
        onKeyDown={onKeyDown}
        {...gestures}
        onDoubleClick={() => (isFitted ? actual() : fit())}
        className={`relative min-h-0 flex-1 overflow-hidden bg-well focus-visible:outline-offset-[-3px] ${isFitted ? (compares ? "cursor-ew-resize touch-pan-y" : "touch-pan-y") : "cursor-grab touch-none active:cursor-grabbing"}`}
        data-testid="surface"
        data-scale={frame.scale.toFixed(3)}
      >
        <div
          className="absolute"
          style={{ left: frame.left, top: frame.top, width: frame.width, height: frame.height }}
        >
          {shown !== "original" && (
            <div className="absolute inset-0" style={compares ? { clipPath: `inset(0 0 0 ${cut}%)` } : undefined}>
              <div
                className={`absolute overflow-hidden ${isChecker && shown !== "alpha" ? "checker" : ""}`}
                style={{ ...resultBox, ...(shown === "alpha" ? { background: "#000" } : behind) }}
              >
                <img
                  src={imagePath(taskId, image.index, shown === "alpha" ? "alpha" : finished)}
                  alt={`${name}: ${t(shown === "alpha" ? "picture.view.alpha" : "picture.after")}`}
                  className={layer}
                  style={rendering}
                  draggable={false}
                />
              </div>
            </div>
          )}
          {(shown === "original" || compares) && !isOriginalMissing && (
            <div className="absolute inset-0" style={compares ? { clipPath: `inset(0 ${100 - cut}% 0 0)` } : undefined}>
              <div className="absolute" style={originalBox}>
                <img
                  src={imagePath(taskId, image.index, "original")}
                  alt={`${name}: ${t("picture.before")}`}
                  className={layer}
                  style={rendering}
                  draggable={false}
                  onLoad={({ currentTarget: { naturalWidth: width, naturalHeight: height } }) =>
                    onOriginalSize({ width, height })
                  }
                  onError={() => setIsOriginalMissing(true)}
                />
              </div>
            </div>
          )}
          {marks && (
            <div
              className="absolute inset-0"
              style={compares && isResized ? { clipPath: `inset(0 ${100 - cut}% 0 0)` } : undefined}
            >
              <div className="absolute" style={originalBox}>
                <Marks measured={marks} picture={original} scale={frame.scale} />
              </div>
            </div>
          )}
          {frame.scale >= PIXEL_GRID_FROM && <PixelGrid scale={frame.scale} />}
        </div>
        {compares && <CompareHandle x={splitX} split={split} onSplit={onSplit} toSplit={toSplit} />}
        {compares && <Captions />}
      </div>
      <p
        className="absolute inset-x-0 top-3 mx-auto w-fit max-w-[90%] rounded bg-glow/90 px-3 text-[0.82rem] text-soft empty:hidden"
        role="status"
      >
        {isOriginalMissing &&
          (shown === "original"
            ? t("picture.originalMissing")
            : view === "compare"
              ? t("picture.originalUnshowable")
              : "")}
        {compares && isResized && t("picture.resized")}
      </p>
      {measured && (
        <button
          type="button"
          aria-pressed={showsMarks}
          onClick={() => onMarks(!showsMarks)}
          className="absolute bottom-3 left-3 h-9 rounded-[7px] border border-rule bg-glow/95 px-3 text-[0.82rem] text-soft shadow-(--shadow) hover:text-ink aria-pressed:border-ink aria-pressed:bg-ink aria-pressed:text-table"
        >
          {t("picture.marks")}
        </button>
      )}
      {/* biome-ignore lint/a11y/useSemanticElements: a toolbar, not a form's fieldset */}
      <div
        role="group"
        aria-label={t("picture.zoom")}
        className="absolute right-3 bottom-3 flex items-center gap-0.5 rounded-[7px] border border-rule bg-glow/95 p-0.5 shadow-(--shadow)"
      >
        <IconButton label={t("picture.zoom.out")} icon="minus" onClick={() => zoom(1 / 1.5)} />
        <output className="w-14 text-center text-[0.82rem]" data-testid="zoom">
          {formatPercent(language, frame.scale)}
        </output>
        <IconButton label={t("picture.zoom.in")} icon="add" onClick={() => zoom(1.5)} />
        <IconButton label={t("picture.zoom.fit")} icon="fit" onClick={fit} />
        <button
          type="button"
          onClick={actual}
          className="h-9 rounded-[5px] px-2 text-[0.82rem] text-soft hover:bg-well hover:text-ink"
        >
          {t("picture.zoom.actual")}
        </button>
      </div>
    </div>
  );
}

/** The place of a picture of `size` in the middle of the frame of `picture`. */
function boxOf(size: Size | undefined, picture: Size): CSSProperties {
  if (!size) return { inset: 0 };
  const [width, height] = [(100 * size.width) / picture.width, (100 * size.height) / picture.height];
  return { width: `${width}%`, height: `${height}%`, left: `${50 - width / 2}%`, top: `${50 - height / 2}%` };
}

function Captions() {
  const { t } = useI18n();
  const look = "pointer-events-none absolute top-3 rounded bg-black/55 px-2 py-0.5 text-[0.75rem] text-white";
  return (
    <>
      <span aria-hidden="true" className={`${look} left-3`}>
        {t("picture.before")}
      </span>
      <span aria-hidden="true" className={`${look} right-3`}>
        {t("picture.after")}
      </span>
    </>
  );
}

function PixelGrid({ scale }: { scale: number }) {
  const line = "rgb(128 128 128 / 0.45)";
  return (
    <div
      aria-hidden="true"
      data-testid="pixel-grid"
      className="pointer-events-none absolute inset-0"
      style={{
        backgroundImage: `linear-gradient(to right, ${line} 1px, transparent 1px), linear-gradient(to bottom, ${line} 1px, transparent 1px)`,
        backgroundSize: `${scale}px ${scale}px`,
      }}
    />
  );
}
