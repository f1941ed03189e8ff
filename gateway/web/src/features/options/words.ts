import { kindOfBackground } from "../../api/background";
import type { Translate } from "../../i18n";

/** A background in a word: a colour by its digits, everything else by its kind. */
export function backgroundWords(t: Translate, background: string): string {
  const kind = kindOfBackground(background) ?? "transparent";
  return kind === "color" ? background : t(`options.background.${kind}`);
}
