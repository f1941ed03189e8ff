// Which pictures are marked. The marks stand in the address, so that they outlive a reload and a look at one picture.
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useCallback, useMemo } from "react";
import { formatSelection, parseSelection, type Selection } from "../../api/selection";

export interface SelectionTools {
  keys: Selection;
  toggle: (key: string) => void;
  setMany: (keys: string[], isSelected: boolean) => void;
  clear: () => void;
}

export function useSelection(): SelectionTools {
  const { selected } = useSearch({ strict: false });
  const navigate = useNavigate();
  const keys = useMemo(() => parseSelection(selected), [selected]);
  const change = useCallback(
    (edit: (keys: Set<string>) => void) => {
      void navigate({
        to: ".",
        search: (previous) => {
          const next = new Set(parseSelection(previous.selected));
          edit(next);
          return { ...previous, selected: formatSelection(next) };
        },
        replace: true,
        resetScroll: false,
      });
    },
    [navigate],
  );
  return useMemo(
    () => ({
      keys,
      toggle: (key) =>
        change((next) => {
          if (!next.delete(key)) next.add(key);
        }),
      setMany: (many, isSelected) =>
        change((next) => {
          for (const key of many) {
            if (isSelected) next.add(key);
            else next.delete(key);
          }
        }),
      clear: () => change((next) => next.clear()),
    }),
    [keys, change],
  );
}
