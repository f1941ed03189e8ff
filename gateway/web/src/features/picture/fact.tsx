import type { ReactNode } from "react";

/** A line of what is known: its name, what it is, and a small word beside it. */
export function Fact({ name, note, children }: { name: string; note?: string | undefined; children: ReactNode }) {
  return (
    <div className="flex items-baseline gap-3 border-b border-rule py-1.5">
      <dt className="w-20 shrink-0 text-soft">{name}</dt>
      <dd className="min-w-0 flex-1 break-words">
        {children}
        {note && <span className="ml-2 text-[0.8rem] text-soft">{note}</span>}
      </dd>
    </div>
  );
}
