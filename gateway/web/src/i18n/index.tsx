// The language of the page: the browser's, until the reader chooses another.

import { createContext, type ReactNode, useCallback, useContext, useEffect, useMemo, useState } from "react";
import { I18nProvider as AriaI18nProvider } from "react-aria-components";
import { chooseLanguage, LANGUAGES, type Language, type MessageKey, type Params, translate } from "./translate";

export type Translate = (key: MessageKey, params?: Params) => string;

interface I18n {
  language: Language;
  setLanguage: (language: Language) => void;
  t: Translate;
}

const I18nContext = createContext<I18n | undefined>(undefined);
const STORAGE_KEY = "atelier.language";

function storedLanguage(): Language | undefined {
  try {
    const stored = localStorage.getItem(STORAGE_KEY);
    return LANGUAGES.find((language) => language === stored);
  } catch {
    // Storage may be forbidden; the browser's language is a good answer then.
    return undefined;
  }
}

export function I18nProvider({ children }: { children: ReactNode }) {
  const [language, setState] = useState<Language>(() => storedLanguage() ?? chooseLanguage(navigator.languages));
  useEffect(() => {
    document.documentElement.lang = language;
  }, [language]);
  const setLanguage = useCallback((next: Language) => {
    setState(next);
    try {
      localStorage.setItem(STORAGE_KEY, next);
    } catch {
      // The choice then lasts until the page is closed.
    }
  }, []);
  const value = useMemo<I18n>(
    () => ({ language, setLanguage, t: (key, params) => translate(language, key, params) }),
    [language, setLanguage],
  );
  // React Aria has words of its own, such as for a hidden button that closes a dialog.
  return (
    <I18nContext value={value}>
      <AriaI18nProvider locale={language}>{children}</AriaI18nProvider>
    </I18nContext>
  );
}

export function useI18n(): I18n {
  const value = useContext(I18nContext);
  if (!value) throw new Error("useI18n outside of I18nProvider");
  return value;
}
