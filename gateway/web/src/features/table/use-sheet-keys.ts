// Keys on the contact sheet. Arrows go by where tiles lie on the screen, so they are right at every width.
import { type FocusEvent, type KeyboardEvent, type RefObject, useCallback, useEffect } from "react";
import type { SelectionTools } from "./use-selection";

const TILE = "[data-tile]";

/** The nearest tile above or below, the one least far to the side. */
function inDirection(tiles: HTMLElement[], from: HTMLElement, isDown: boolean): HTMLElement | undefined {
  const here = from.getBoundingClientRect();
  let best: { tile: HTMLElement; distance: number } | undefined;
  for (const tile of tiles) {
    const there = tile.getBoundingClientRect();
    const rowsApart = isDown ? there.top - here.bottom : here.top - there.bottom;
    if (rowsApart < -here.height / 2 || tile === from) continue;
    const distance = Math.max(0, rowsApart) * 4 + Math.abs(there.left - here.left);
    if (!best || distance < best.distance) best = { tile, distance };
  }
  return best?.tile;
}

function focusTile(tile: HTMLElement | undefined): void {
  tile?.focus();
  tile?.scrollIntoView({ block: "nearest" });
}

export function useSheetKeys(selection: SelectionTools, sheet: RefObject<HTMLElement | null>) {
  // Tiles come and go; whatever happens, one of them can be reached by Tab.
  useEffect(() => {
    if (sheet.current?.querySelector(`${TILE}[tabindex="0"]`)) return;
    const first = sheet.current?.querySelector<HTMLElement>(TILE);
    if (first) first.tabIndex = 0;
  });

  const onFocus = useCallback((event: FocusEvent<HTMLElement>) => {
    // One tile at a time is in the tab order: hundreds of stops would lock keyboard users in.
    const tile = (event.target as HTMLElement).closest<HTMLElement>(TILE);
    if (!tile) return;
    for (const other of event.currentTarget.querySelectorAll<HTMLElement>(`${TILE}[tabindex="0"]`)) other.tabIndex = -1;
    tile.tabIndex = 0;
  }, []);

  const onKeyDown = useCallback(
    (event: KeyboardEvent<HTMLElement>) => {
      if (event.key === "Escape" && selection.keys.size > 0) return selection.clear();
      const tile = (event.target as HTMLElement).closest<HTMLElement>(TILE);
      if (!tile || event.target !== tile || event.altKey || event.shiftKey) return;
      const tiles = [...event.currentTarget.querySelectorAll<HTMLElement>(TILE)];
      if ((event.ctrlKey || event.metaKey) && event.key === "a") {
        selection.setMany(
          tiles.flatMap(({ dataset }) => dataset.tile || []),
          true,
        );
        return event.preventDefault();
      }
      if (event.ctrlKey || event.metaKey) return;
      const place = tiles.indexOf(tile);
      const moves: Record<string, () => HTMLElement | undefined> = {
        ArrowRight: () => tiles[place + 1],
        ArrowLeft: () => tiles[place - 1],
        ArrowDown: () => inDirection(tiles.slice(place + 1), tile, true),
        ArrowUp: () => inDirection(tiles.slice(0, place).reverse(), tile, false),
        Home: () => tiles[0],
        End: () => tiles.at(-1),
      };
      const move = moves[event.key];
      if (move) focusTile(move());
      else if (event.key === " " && tile.dataset.tile) selection.toggle(tile.dataset.tile);
      else if (event.key === "d" || event.key === "D") {
        tile.closest("li")?.querySelector<HTMLAnchorElement>("a[download]")?.click();
      } else return;
      event.preventDefault();
    },
    [selection],
  );
  return { onKeyDown, onFocus };
}
