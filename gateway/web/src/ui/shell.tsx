// The frame around every view: the name, the two views, how the connection stands, language and appearance.
import { type ErrorComponentProps, Link, Outlet, useRouterState } from "@tanstack/react-router";
import { type ReactNode, useEffect, useRef, useState } from "react";
import { CHOICE_KEYS } from "../api/choice";
import { retryConnection, useConnection } from "../api/live-store";
import { useI18n } from "../i18n";
import type { Language } from "../i18n/translate";
import { Announcer, announce } from "./announce";
import { Button, buttonClass } from "./button";
import { Icon } from "./icons";
import { applyTheme, storedTheme, THEMES, type Theme } from "./theme";

/** What goes along from view to view: the options and the selection. */
export function carriedSearch(search: Record<string, unknown>): Record<string, never> {
  return Object.fromEntries(
    [...CHOICE_KEYS, "selected"].filter((key) => search[key] !== undefined).map((key) => [key, search[key]]),
  ) as Record<string, never>;
}

export function Shell({ children }: { children: ReactNode }) {
  const { t } = useI18n();
  const path = useRouterState({ select: (state) => state.location.pathname });
  return (
    <div className="flex min-h-dvh flex-col">
      <a
        href="#content"
        className="sr-only z-50 focus:not-sr-only focus:fixed focus:top-2 focus:left-2 focus:bg-paper focus:p-3"
      >
        {t("app.skip")}
      </a>
      {path === "/" && (
        <a
          href="#options"
          className="sr-only z-50 focus:not-sr-only focus:fixed focus:top-2 focus:left-2 focus:bg-paper focus:p-3 max-lg:hidden"
        >
          {t("app.skipOptions")}
        </a>
      )}
      <TopBar />
      <LostConnection />
      <main id="content" tabIndex={-1} className="flex flex-1 flex-col outline-none">
        <Outlet />
      </main>
      {children}
      <Announcer />
    </div>
  );
}

function TopBar() {
  const { t } = useI18n();
  const link =
    "relative px-1 py-2 text-soft hover:text-ink aria-[current=page]:text-ink aria-[current=page]:after:absolute " +
    "aria-[current=page]:after:inset-x-0 aria-[current=page]:after:bottom-1 aria-[current=page]:after:h-[2px] aria-[current=page]:after:bg-pencil";
  return (
    <header className="flex h-14 shrink-0 items-center gap-x-5 px-4 sm:gap-x-8 sm:px-7">
      <Link to="/" search={carriedSearch} className="flex items-center gap-2 font-semibold tracking-tight text-ink">
        <Mark />
        <span className="max-[26rem]:sr-only">{t("app.name")}</span>
      </Link>
      <nav aria-label={t("nav.label")} className="flex gap-4 font-medium">
        <Link to="/" search={carriedSearch} activeOptions={{ exact: true, includeSearch: false }} className={link}>
          {t("nav.table")}
        </Link>
        <Link to="/line" search={carriedSearch} activeOptions={{ includeSearch: false }} className={link}>
          {t("nav.line")}
        </Link>
      </nav>
      <div className="ml-auto flex items-center gap-1 sm:gap-3">
        <ConnectionState />
        <LanguageChoice />
        <ThemeChoice />
      </div>
    </header>
  );
}

function Mark() {
  return (
    <svg aria-hidden="true" width="22" height="22" viewBox="0 0 22 22">
      <rect x="1" y="1" width="20" height="20" rx="3" fill="none" stroke="currentColor" strokeWidth="1.6" />
      <path d="M4 18 18 4v12a2 2 0 0 1-2 2Z" fill="var(--pencil)" />
    </svg>
  );
}

function ConnectionState() {
  const { t } = useI18n();
  const { state } = useConnection();
  const dot = state === "live" ? "bg-ink" : state === "connecting" ? "bg-edge" : "bg-fail";
  return (
    <span
      className="edge-print mr-1 inline-flex items-center gap-1.5 whitespace-nowrap"
      data-testid="connection"
      data-state={state}
    >
      <span aria-hidden="true" className={`size-[7px] rounded-full ${dot}`} />
      {t(`connection.${state}`)}
    </span>
  );
}

function LanguageChoice() {
  const { t, language, setLanguage } = useI18n();
  return (
    <label className="relative inline-flex size-9 items-center justify-center rounded-[5px] text-soft hover:bg-well hover:text-ink has-focus-visible:outline-2 has-focus-visible:outline-ink">
      <Icon name="language" />
      <span className="sr-only">{t("nav.language")}</span>
      <select
        value={language}
        title={t("nav.language")}
        onChange={(event) => setLanguage(event.target.value as Language)}
        className="absolute inset-0 cursor-pointer bg-paper text-ink opacity-0"
      >
        <option value="en">English</option>
        <option value="zh-CN">简体中文</option>
      </select>
    </label>
  );
}

function ThemeChoice() {
  const { t } = useI18n();
  const [theme, setTheme] = useState<Theme>(storedTheme);
  return (
    <label className="relative inline-flex size-9 items-center justify-center rounded-[5px] text-soft hover:bg-well hover:text-ink has-focus-visible:outline-2 has-focus-visible:outline-ink">
      <Icon name="theme" />
      <span className="sr-only">{t("nav.theme")}</span>
      <select
        value={theme}
        title={t("nav.theme")}
        onChange={(event) => {
          setTheme(event.target.value as Theme);
          applyTheme(event.target.value as Theme);
        }}
        className="absolute inset-0 cursor-pointer bg-paper text-ink opacity-0"
      >
        {THEMES.map((value) => (
          <option key={value} value={value}>
            {t(`theme.${value}`)}
          </option>
        ))}
      </select>
    </label>
  );
}

function LostConnection() {
  const { t } = useI18n();
  const { state } = useConnection();
  // A hiccup of a moment is no news: only what lasts is told, and stays told until the server answers.
  const [isLost, setIsLost] = useState(false);
  const wasLost = useRef(false);
  useEffect(() => {
    if (state === "live") {
      setIsLost(false);
      if (wasLost.current) announce(t("connection.back"));
      wasLost.current = false;
      return;
    }
    const timer = setTimeout(() => {
      setIsLost(true);
      if (!wasLost.current) announce(t("connection.lost"));
      wasLost.current = true;
    }, 900);
    return () => clearTimeout(timer);
  }, [state, t]);
  if (!isLost) return null;
  return (
    <div
      className="mx-4 mb-2 flex flex-wrap items-center justify-between gap-3 rounded-[5px] bg-fail-wash px-4 py-2 sm:mx-7"
      data-testid="lost"
    >
      <p className="flex items-center gap-2">
        <span className="text-fail">
          <Icon name="alert" />
        </span>
        {t("connection.lost")}
      </p>
      <Button look="plain" icon="again" onClick={retryConnection}>
        {t("connection.retry")}
      </Button>
    </div>
  );
}

/** Tells title and address apart for a reader who cannot see the change of view. */
export function usePageTitle(title: string): void {
  const path = useRouterState({ select: (state) => state.location.pathname });
  const { t } = useI18n();
  const previousPath = useRef(path);
  useEffect(() => {
    document.title = `${title} · ${t("app.name")}`;
    if (previousPath.current !== path) announce(title);
    previousPath.current = path;
  }, [title, path, t]);
}

export function NotFoundPage() {
  const { t } = useI18n();
  usePageTitle(t("notFound.title"));
  return (
    <section className="m-auto max-w-md p-8 text-center">
      <h1 className="text-2xl font-semibold">{t("notFound.title")}</h1>
      <p className="my-4 text-soft">{t("notFound.text")}</p>
      <Link to="/" className={buttonClass("primary")}>
        {t("notFound.link")}
      </Link>
    </section>
  );
}

export function CrashPage({ error }: ErrorComponentProps) {
  const { t } = useI18n();
  return (
    <section role="alert" className="m-auto max-w-xl p-8">
      <h1 className="text-2xl font-semibold">{t("crash.title")}</h1>
      <p className="my-4 text-soft">{t("crash.text")}</p>
      <pre className="mb-4 overflow-x-auto rounded bg-well p-3 font-mono text-xs">
        {error instanceof Error ? (error.stack ?? error.message) : String(error)}
      </pre>
      <Button look="primary" icon="again" onClick={() => location.reload()}>
        {t("crash.reload")}
      </Button>
    </section>
  );
}
