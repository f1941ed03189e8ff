// Words. One flat catalogue per language; a test holds their keys equal. Nothing here knows React.
import en from "./en.json";
import zhCN from "./zh-CN.json";

export const LANGUAGES = ["en", "zh-CN"] as const;
export type Language = (typeof LANGUAGES)[number];

type Key = keyof typeof en;
/** Keys that come as `…_one` and `…_other` are asked for without the ending, with a `count`. */
type PluralKey = Key extends infer K ? (K extends `${infer Base}_other` ? Base : never) : never;
type PlainKey = Exclude<Key, `${PluralKey}_one` | `${PluralKey}_other`>;
export type MessageKey = PlainKey | PluralKey;
export type Params = Record<string, string | number>;

const CATALOGUES: Record<Language, Record<string, string>> = { en, "zh-CN": zhCN };

export function hasMessage(key: string): key is PlainKey {
  return key in en;
}

export function translate(language: Language, key: MessageKey, params: Params = {}): string {
  const catalogue = CATALOGUES[language];
  const plural = typeof params.count === "number" ? new Intl.PluralRules(language).select(params.count) : "other";
  const text = catalogue[key] ?? catalogue[`${key}_${plural}`] ?? catalogue[`${key}_other`] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => {
    const value = params[name];
    if (value === undefined) return whole;
    return typeof value === "number" ? value.toLocaleString(language) : value;
  });
}

/** The first of the reader's languages that there is a catalogue for. */
export function chooseLanguage(wanted: readonly string[]): Language {
  for (const tag of wanted) {
    const primary = tag.toLowerCase().split("-")[0];
    if (primary === "zh") return "zh-CN";
    if (primary === "en") return "en";
  }
  return "en";
}
