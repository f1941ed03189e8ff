import { useEffect, useState } from "react";
import { useI18n } from "../i18n";
import { announce } from "./announce";
import { Icon } from "./icons";

type CopyState = "idle" | "copied" | "failed";

function useCopy(text: string) {
  const { t } = useI18n();
  const [state, setState] = useState<CopyState>("idle");
  useEffect(() => {
    if (state === "idle") return;
    const timer = setTimeout(() => setState("idle"), 2_000);
    return () => clearTimeout(timer);
  }, [state]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setState("copied");
      announce(t("common.copied"));
    } catch {
      // Without leave to write, or on a page that is not served safely.
      setState("failed");
      announce(t("common.copyFailed"));
    }
  };
  const word = state === "idle" ? t("common.copy") : t(state === "copied" ? "common.copied" : "common.copyFailed");
  return { copy, word, state };
}

/** Text for a shell under its title, with a button that copies it. */
export function CopyBlock({ text, title }: { text: string; title: string }) {
  const { copy, word, state } = useCopy(text);
  return (
    <figure>
      <figcaption className="mb-1 flex items-center justify-between gap-3">
        <span className="edge-print">{title}</span>
        <button
          type="button"
          onClick={copy}
          aria-label={`${word}: ${title}`}
          className="inline-flex items-center gap-1 rounded-[4px] px-1.5 py-0.5 text-[0.78rem] text-soft hover:bg-well hover:text-ink"
        >
          <Icon name={state === "copied" ? "check" : "copy"} size={12} />
          {word}
        </button>
      </figcaption>
      <pre
        tabIndex={0}
        className="overflow-x-auto rounded-[5px] border border-rule bg-well p-3 font-mono text-[0.75rem] leading-relaxed"
      >
        {text}
      </pre>
    </figure>
  );
}

/** An id, shortened for the eye, copied whole. */
export function CopyId({ label, id }: { label: string; id: string }) {
  const { copy, word, state } = useCopy(id);
  return (
    <button
      type="button"
      onClick={copy}
      title={id}
      aria-label={`${word}: ${label} ${id}`}
      className="group flex w-full items-center justify-between gap-3 rounded-[3px] py-0.5 text-left hover:text-ink"
    >
      <span className="text-soft">{label}</span>
      <span className="inline-flex items-center gap-1.5 font-mono text-[0.75rem]">
        {id.slice(0, 8)}…{id.slice(-4)}
        <Icon name={state === "copied" ? "check" : "copy"} size={12} />
      </span>
    </button>
  );
}
