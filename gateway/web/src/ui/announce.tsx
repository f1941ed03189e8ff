// One polite live region for the whole page: what happens elsewhere than where the reader is, is said here.
import { useSyncExternalStore } from "react";

let text = "";
let flip = false;
const listeners = new Set<() => void>();

export function announce(next: string): void {
  // The same words twice would not be read again without a change.
  flip = !flip;
  text = flip ? next : `${next}\u00a0`;
  for (const listener of listeners) listener();
}

export function Announcer() {
  const words = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => text,
  );
  return (
    <div role="status" aria-live="polite" className="sr-only" data-testid="announcer">
      {words}
    </div>
  );
}
