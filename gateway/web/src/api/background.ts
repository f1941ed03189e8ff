// What lies behind a cut-out, as text: `transparent`, a colour, an address, or what CSS calls a gradient and a blur. The
// gateway reads the same text, and answers with objects.
import type { Background } from "./types";

export const BACKGROUND_KINDS = ["transparent", "color", "gradient", "blur", "url"] as const;
export type BackgroundKind = (typeof BACKGROUND_KINDS)[number];

export const MOST_BLUR_PX = 500;

const COLOR = /^#([0-9a-f]{3}|[0-9a-f]{6}|[0-9a-f]{8})$/i;
const GRADIENT = /^(linear|radial)-gradient\((?:(-?\d+(?:\.\d+)?)deg, ?)?(.+)\)$/;
const STOP = /^(#\w+)(?: (\d+(?:\.\d+)?)%)?$/;
const BLUR = /^blur\((\d+(?:\.\d+)?)px\)$/;

export const isColor = (text: unknown): text is string => typeof text === "string" && COLOR.test(text);

/** A gradient as the page edits it. Where it has more colours than two, those between are kept until one is changed. */
export interface GradientParts {
  type: "linear" | "radial";
  angleDegrees: number;
  /** The colours with their places, such as `#fff` or `#888 30%`. */
  stops: string[];
}

export function parseGradient(text: string): GradientParts | undefined {
  const [, type, angle = "180", list = ""] = GRADIENT.exec(text) ?? [];
  const angleDegrees = Number(angle);
  const stops = list.split(",").map((stop) => stop.trim());
  const isRight = stops.every((stop) => isColor(STOP.exec(stop)?.[1]) && Number(STOP.exec(stop)?.[2] ?? 0) <= 100);
  if (!type || !isRight || stops.length < 2 || stops.length > 16 || Math.abs(angleDegrees) > 360) return undefined;
  return { type: type as "linear" | "radial", angleDegrees, stops };
}

export function gradientText({ type, angleDegrees, stops }: GradientParts): string {
  const parts = type === "linear" ? [`${angleDegrees}deg`, ...stops] : stops;
  return `${type}-gradient(${parts.join(", ")})`;
}

/** Standard deviation in pixels. */
export function parseBlur(text: string): number | undefined {
  const sigmaPx = Number(BLUR.exec(text)?.[1]);
  return sigmaPx > 0 && sigmaPx <= MOST_BLUR_PX ? sigmaPx : undefined;
}

export const blurText = (sigmaPx: number) => `blur(${sigmaPx}px)`;

/** `undefined` where the text is no background. */
export function kindOfBackground(text: string): BackgroundKind | undefined {
  if (text === "transparent") return "transparent";
  if (isColor(text)) return "color";
  if (parseGradient(text)) return "gradient";
  if (parseBlur(text) !== undefined) return "blur";
  return /^https?:\/\/\S+$/.test(text) ? "url" : undefined;
}

/** `undefined` where it has no text: a picture that is already uploaded. */
export function backgroundText(background: Background): string | undefined {
  if (typeof background === "string") return kindOfBackground(background) && background;
  if ("blur" in background) return blurText(background.blur);
  if ("gradient" in background) {
    const { type = "linear", angleDegrees = 180, stops } = background.gradient;
    const last = stops.length - 1;
    return gradientText({
      type,
      angleDegrees,
      // A colour that lies where it would lie anyway needs no place.
      stops: stops.map(({ color, at }, index) =>
        Math.abs(at - index / last) < 1e-4 ? color : `${color} ${Math.round(at * 1e4) / 100}%`,
      ),
    });
  }
  return undefined;
}
