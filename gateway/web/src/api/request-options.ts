// The chosen options as the gateway takes them, and those of a task as a choice to start from.
import { backgroundText } from "./background";
import { type Choice, choiceFromSearch, DEFAULT_CHOICE, PLACES, parseSize } from "./choice";
import { ANCHORS, type OutputOptions, type TaskOptions, type Watermark } from "./types";

const withoutUndefined = <T extends object>(object: { [K in keyof T]: T[K] | undefined }): Partial<T> =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as Partial<T>;

const unlessEmpty = <T extends object>(object: T): T | undefined =>
  Object.keys(object).length > 0 ? object : undefined;

/** The request's options, defaults left out. */
export function toTaskOptions(choice: Choice): TaskOptions {
  const unlessDefault = <K extends keyof Choice>(key: K): Choice[K] | undefined =>
    choice[key] === DEFAULT_CHOICE[key] ? undefined : choice[key];
  const isCropped = choice.crop !== "none";
  return withoutUndefined<TaskOptions>({
    type: unlessDefault("kind"),
    quality: unlessDefault("quality"),
    subject: unlessDefault("subject"),
    watermark: watermarkOf(choice),
    output: unlessEmpty(
      withoutUndefined<OutputOptions>({
        format: unlessDefault("format"),
        background: unlessDefault("background"),
        // PNG is lossless: an encoder quality would say nothing.
        encodingQuality: choice.format === "png" ? undefined : unlessDefault("encoding"),
        crop: unlessDefault("crop"),
        cropMarginPx: isCropped ? unlessDefault("margin") : undefined,
        shadow: shadowOf(choice),
        size: parseSize(choice.size ?? ""),
        scale: choice.scale,
        position: choice.position,
      }),
    ),
  });
}

function shadowOf({ shadow, strength }: Choice): OutputOptions["shadow"] {
  if (shadow === "none") return undefined;
  return strength === undefined ? shadow : { type: shadow, opacity: strength / 100 };
}

function watermarkOf(choice: Choice): Watermark | undefined {
  const { mark, markAt, markOpacity, markSize, markColor, markTile } = choice;
  if (mark.trim() === "") return undefined;
  const isTiled = markTile !== undefined;
  return withoutUndefined<Watermark>({
    text: mark,
    // It stands everywhere where it is repeated.
    position: isTiled || markAt === DEFAULT_CHOICE.markAt ? undefined : markAt,
    opacity: markOpacity === DEFAULT_CHOICE.markOpacity ? undefined : markOpacity / 100,
    scale: markSize === DEFAULT_CHOICE.markSize ? undefined : markSize / 100,
    textColor: markColor === DEFAULT_CHOICE.markColor ? undefined : markColor,
    tile: isTiled ? { angleDegrees: markTile } : undefined,
  });
}

const percentOf = (share: number | undefined) => (share === undefined ? undefined : Math.round(share * 100));

/** The place by name that two shares such as `0% 50%` say, as the gateway writes positions. */
function placeOf(position: string | undefined): string | undefined {
  const [, x, y] = /^(0|50|100)% (0|50|100)%$/.exec(position ?? "") ?? [];
  if (!x || !y) return position;
  return PLACES[(Number(y) / 50) * 3 + Number(x) / 50];
}

/** What a finished task was asked for, as a choice to start from; what the page does not offer is left out. */
export function choiceFromOptions(options: TaskOptions): Choice {
  const { output = {}, watermark = {} } = options;
  const { shadow, size } = output;
  return choiceFromSearch(
    withoutUndefined<Choice>({
      kind: options.type,
      quality: options.quality,
      subject: options.subject as Choice["subject"],
      format: output.format,
      background: output.background && backgroundText(output.background),
      encoding: output.encodingQuality,
      crop: output.crop,
      margin: output.cropMarginPx,
      shadow: typeof shadow === "object" ? shadow.type : shadow,
      strength: typeof shadow === "object" ? percentOf(shadow.opacity) : undefined,
      size: size && `${size.width}x${size.height}`,
      scale: output.scale,
      position: placeOf(output.position),
      mark: watermark.text,
      markAt: ANCHORS.find((anchor) => anchor === watermark.position),
      markOpacity: percentOf(watermark.opacity),
      markSize: percentOf(watermark.scale),
      markColor: watermark.textColor,
      markTile: watermark.tile && Math.round(watermark.tile.angleDegrees ?? 0),
    }),
  );
}
