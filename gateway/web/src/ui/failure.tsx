// What failed, why, and what to do, in the reader's words; the program's own words stand small below.
import type { ErrorBody } from "../api/types";
import { useI18n } from "../i18n";
import { hasMessage, type MessageKey } from "../i18n/translate";
import { Icon } from "./icons";

export interface FailureWords {
  what: string;
  why: string;
  remedy: string;
}

export function useFailureWords(): (code: string) => FailureWords {
  const { t } = useI18n();
  return (code) => {
    // A newer gateway may give codes that this page has no words for yet.
    const known = hasMessage(`error.${code}.what`) ? code : "internal";
    const words = (part: string) => t(`error.${known}.${part}` as MessageKey);
    return { what: words("what"), why: words("why"), remedy: words("do") };
  };
}

export function useStageName(): (stage: string) => string {
  const { t } = useI18n();
  return (stage) => (hasMessage(`stage.${stage}`) ? t(`stage.${stage}` as MessageKey) : stage);
}

export function Failure({
  error,
  compact = false,
  children,
}: {
  error: ErrorBody;
  compact?: boolean;
  children?: React.ReactNode;
}) {
  const { t } = useI18n();
  const { what, why, remedy } = useFailureWords()(error.code);
  const stageName = useStageName();
  const stage = error.details?.stage;
  const pointer = error.details?.pointer;
  return (
    <div className={`rounded-[5px] bg-fail-wash text-ink ${compact ? "p-2 text-[0.8rem] leading-snug" : "p-4"}`}>
      <p className="flex items-start gap-1.5 font-semibold text-fail">
        <span className="mt-[0.15em]">
          <Icon name="alert" size={compact ? 13 : 16} />
        </span>
        <span>
          {what}
          {stage && stage !== "gateway" && !compact ? ` ${t("failure.where", { stage: stageName(stage) })}` : ""}
        </span>
      </p>
      <p className="mt-1">
        {why} {remedy}
      </p>
      {!compact && (
        <p className="mt-2 font-mono text-[0.75rem] break-words text-soft">
          {t("failure.details")}: {error.message}
          {pointer ? ` (${pointer})` : ""}
        </p>
      )}
      {children && <div className="mt-2 flex flex-wrap gap-2">{children}</div>}
    </div>
  );
}
