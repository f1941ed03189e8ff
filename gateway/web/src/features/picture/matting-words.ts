// The reader's words for what `matte` tells in English: its steps, its reasons, and the things that its networks know.
import { hasMessage, type MessageKey, type Params } from "../../i18n/translate";

type Translate = (key: MessageKey, params?: Params) => string;

/**
 * The reasons of stages/matte, each as it is written there. They carry no code, so that they are known by their words; one
 * that a newer gateway gives is shown as it came.
 */
export const REASONS: readonly [sentence: RegExp, key: MessageKey][] = [
  [/^nobody was found in it$/, "reason.noPerson"],
  [/^what looked like a person in it is none$/, "reason.nobody"],
  [/^the people in it are not what stands out$/, "reason.peopleApart"],
  [/^(?<share>\d+) % of its border have one colour, at least (?<least>\d+) % must$/, "reason.border"],
  [/^(?<share>\d+) % of its background have exactly one colour, at least (?<least>\d+) % must$/, "reason.ground"],
  [
    /^(?<share>\d+) % of its subject are in flat or slowly shaded regions, at least (?<least>\d+) % must$/,
    "reason.texture",
  ],
  [/^the model `(?<model>.*)` was asked for$/, "reason.model"],
  [/^of what it shows, the subject `(?<subject>.*)` was asked for$/, "reason.subject"],
  [/^no network sees anything that stands out from its background$/, "reason.nothing"],
  [/^nothing that stands out lies in the rectangle of `subject`$/, "reason.nothingWithin"],
  [/^everything in it has one colour$/, "reason.oneColor"],
];

/** `undefined` where the page has no words for it. */
export function reasonWords(t: Translate, reason: string): string | undefined {
  for (const [sentence, key] of REASONS) {
    const found = sentence.exec(reason);
    if (found) return t(key, found.groups);
  }
  return undefined;
}

const SECOND_LOOK = "second look: ";

/** A step that runs a network is named as the network is. */
export function stepWords(t: Translate, name: string): string {
  if (name.startsWith(SECOND_LOOK)) {
    return t("step.secondLook", { step: stepWords(t, name.slice(SECOND_LOOK.length)) });
  }
  return hasMessage(`step.${name}`) ? t(`step.${name}` as MessageKey) : name;
}

export function thingWords(t: Translate, label: string): string {
  return hasMessage(`thing.${label}`) ? t(`thing.${label}` as MessageKey) : label;
}
