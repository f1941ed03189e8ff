// Figures as people read them, in the reader's language.
import type { Language } from "./translate";

export function formatMs(language: Language, ms: number): string {
  if (ms < 1) return `${ms.toLocaleString(language, { maximumFractionDigits: 1 })} ms`;
  if (ms < 1000) return `${Math.round(ms).toLocaleString(language)} ms`;
  return `${(ms / 1000).toLocaleString(language, { maximumFractionDigits: ms < 10_000 ? 2 : 1 })} s`;
}

export function formatBytes(language: Language, bytes: number): string {
  if (bytes < 1000) return `${bytes.toLocaleString(language)} B`;
  const units = ["kB", "MB", "GB", "TB"];
  const power = Math.min(units.length, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** power;
  return `${value.toLocaleString(language, { maximumFractionDigits: value < 10 ? 1 : 0 })} ${units[power - 1]}`;
}

/** `share` from 0 to 1. */
export function formatPercent(language: Language, share: number, digits = 0): string {
  return share.toLocaleString(language, { style: "percent", maximumFractionDigits: digits });
}

export function formatTime(language: Language, iso: string, now = new Date()): string {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return iso;
  const isToday = date.toDateString() === now.toDateString();
  return date.toLocaleString(language, {
    ...(isToday ? {} : { year: "numeric", month: "short", day: "numeric" }),
    hour: "2-digit",
    minute: "2-digit",
    hour12: false,
  });
}

export function formatClock(language: Language, iso: string): string {
  const date = new Date(iso);
  return Number.isNaN(date.getTime()) ? iso : date.toLocaleTimeString(language, { hour12: false });
}
