// What is chosen for the pictures to come, as the address of the page holds it: under these names, defaults left out.
import { isColor, kindOfBackground } from "./background";
import {
  ANCHORS,
  type Anchor,
  FORMATS,
  type ImageFormat,
  KIND_CHOICES,
  type KindChoice,
  QUALITIES,
  type Quality,
  SHADOWS,
  type ShadowKind,
  SUBJECTS,
  type Subject,
} from "./types";

export interface Choice {
  kind: KindChoice;
  quality: Quality;
  subject: Subject;
  format: ImageFormat;
  /** As api/background.ts writes it. */
  background: string;
  /** The encoder's quality, 1 to 100. */
  encoding: number;
  crop: "none" | "subject";
  /** Pixels around the subject when cropping. */
  margin: number;
  shadow: ShadowKind;
  /** How dark the shadow is, in percent; `undefined`: as the gateway has it for its kind. */
  strength: number | undefined;
  /** The canvas as `1200x800`; `undefined`: as large as what lies on it. */
  size: string | undefined;
  /** How large the subject is: `original`, `fit` or a share of the canvas as `80%`; `undefined`: what fits the canvas. */
  scale: string | undefined;
  /** Where the subject is: `original`, a place by name as `top-left`, or two shares as `30% 100%`. */
  position: string | undefined;
  /** A text laid over the finished picture; empty: none. */
  mark: string;
  markAt: Anchor;
  /** Percent. */
  markOpacity: number;
  /** Its width as percent of the canvas's. */
  markSize: number;
  markColor: string;
  /** It is repeated all over, in rows turned by so many degrees; `undefined`: it stands once. */
  markTile: number | undefined;
}

export const DEFAULT_CHOICE: Choice = {
  kind: "auto",
  quality: "high",
  subject: "all",
  format: "png",
  background: "transparent",
  encoding: 90,
  crop: "none",
  margin: 0,
  shadow: "none",
  strength: undefined,
  size: undefined,
  scale: undefined,
  position: undefined,
  mark: "",
  markAt: "bottomRight",
  markOpacity: 50,
  markSize: 25,
  markColor: "#ffffff",
  markTile: undefined,
};

export const CHOICE_KEYS = Object.keys(DEFAULT_CHOICE) as (keyof Choice)[];

export type ChoiceSearch = Partial<Choice>;

export const MOST_MARGIN_PX = 10_000;
export const MOST_CANVAS_SIDE_PX = 16_000;
const MOST_CANVAS_PIXELS = 50_000_000;
export const MOST_MARK_LETTERS = 200;

const oneOf =
  <T extends string>(list: readonly T[]) =>
  (value: unknown): T | undefined =>
    list.find((item) => item === value);

const wholeNumber =
  (least: number, most: number) =>
  (value: unknown): number | undefined => {
    const number = typeof value === "string" ? Number(value) : value;
    return typeof number === "number" && Number.isInteger(number) && number >= least && number <= most
      ? number
      : undefined;
  };

const textIf =
  (isRight: (text: string) => boolean) =>
  (value: unknown): string | undefined =>
    typeof value === "string" && isRight(value) ? value : undefined;

export interface CanvasSize {
  width: number;
  height: number;
}

export function parseSize(text: string): CanvasSize | undefined {
  const [, width, height] = /^(\d{1,5})x(\d{1,5})$/.exec(text) ?? [];
  const size = { width: Number(width), height: Number(height) };
  const isSide = (side: number) => side >= 1 && side <= MOST_CANVAS_SIDE_PX;
  return isSide(size.width) && isSide(size.height) && size.width * size.height <= MOST_CANVAS_PIXELS ? size : undefined;
}

/** The share in percent that a scale such as `80%` says. */
export function shareOfScale(scale: string | undefined): number | undefined {
  return wholeNumber(1, 100)(/^(\d+)%$/.exec(scale ?? "")?.[1] ?? "");
}

export const PLACES = ANCHORS.map((anchor) => anchor.replace(/[LR]/, (letter) => `-${letter.toLowerCase()}`));

const isShares = (text: string) =>
  /^\d+(\.\d+)?% \d+(\.\d+)?%$/.test(text) && text.split(" ").every((share) => Number.parseFloat(share) <= 100);

const READERS: { [K in keyof Choice]: (value: unknown) => Choice[K] | undefined } = {
  kind: oneOf(KIND_CHOICES),
  quality: oneOf(QUALITIES),
  subject: oneOf(SUBJECTS),
  format: oneOf(FORMATS),
  background: textIf((text) => kindOfBackground(text) !== undefined),
  encoding: wholeNumber(1, 100),
  crop: oneOf(["none", "subject"]),
  margin: wholeNumber(0, MOST_MARGIN_PX),
  shadow: oneOf(SHADOWS),
  strength: wholeNumber(0, 100),
  size: textIf((text) => parseSize(text) !== undefined),
  scale: textIf((text) => text === "original" || text === "fit" || shareOfScale(text) !== undefined),
  position: textIf((text) => text === "original" || PLACES.includes(text) || isShares(text)),
  // A number alone is a text too: the router reads it as a number.
  mark: (value) => textIf((text) => text.length <= MOST_MARK_LETTERS && !/\p{Cc}/u.test(text))(String(value ?? "")),
  markAt: oneOf(ANCHORS),
  markOpacity: wholeNumber(0, 100),
  markSize: wholeNumber(1, 100),
  markColor: textIf(isColor),
  markTile: wholeNumber(-180, 180),
};

/** Every option of the choice by its reader; what differs from the default is kept. */
function differing(read: <K extends keyof Choice>(key: K) => Choice[K] | undefined): ChoiceSearch {
  return Object.fromEntries(
    CHOICE_KEYS.flatMap((key) => {
      const value = read(key);
      return value === undefined || value === DEFAULT_CHOICE[key] ? [] : [[key, value]];
    }),
  );
}

/** Reads what an address says; what makes no sense there is left out, for anybody may have written it. */
export function parseChoiceSearch(search: Record<string, unknown>): ChoiceSearch {
  return differing((key) => READERS[key](search[key]) as never);
}

export function choiceFromSearch(search: ChoiceSearch): Choice {
  return { ...DEFAULT_CHOICE, ...parseChoiceSearch({ ...search }) };
}

/** Every key, so that what is default again leaves the address. */
export function choiceToSearch(choice: Choice): Record<keyof Choice, unknown> & ChoiceSearch {
  const kept = differing((key) => choice[key]);
  return Object.fromEntries(CHOICE_KEYS.map((key) => [key, kept[key]])) as Record<keyof Choice, unknown> & ChoiceSearch;
}
