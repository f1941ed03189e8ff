import type { ReactNode } from "react";

interface Props {
  name: string;
  /** A small word beside it. */
  note?: string | undefined;
  /** What there is to be said to it, on lines of its own. */
  below?: ReactNode;
  children: ReactNode;
}

/** What is known, under its name. */
export function Fact({ name, note, below, children }: Props) {
  return (
    <div className="flex items-baseline gap-3 border-b border-rule py-1.5">
      <dt className="w-20 shrink-0 text-soft">{name}</dt>
      <dd className="min-w-0 flex-1 break-words">
        {children}
        {note && <span className="ml-2 text-[0.8rem] text-soft">{note}</span>}
        {below && <div className="text-[0.8rem] text-soft">{below}</div>}
      </dd>
    </div>
  );
}
