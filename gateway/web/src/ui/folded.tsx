// What is seldom wanted, behind its title: the browser's own way to fold, which keys and screen readers know.
import type { ReactNode } from "react";
import { Icon } from "./icons";

interface Props {
  title: string;
  /** What is chosen within, to be read without unfolding. */
  note?: string | undefined;
  className?: string;
  children: ReactNode;
}

export function Folded({ title, note, className = "", children }: Props) {
  return (
    <details className={`group ${className}`}>
      <summary className="flex min-h-[2.2rem] list-none items-center gap-1.5 text-soft hover:text-ink [&::-webkit-details-marker]:hidden">
        <span className="transition-transform group-open:rotate-90">
          <Icon name="right" size={12} />
        </span>
        <span>{title}</span>
        {note && <span className="ml-auto truncate pl-3 text-[0.8rem] text-faint">{note}</span>}
      </summary>
      {children}
    </details>
  );
}
