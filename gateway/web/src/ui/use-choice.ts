// The chosen options, read from the address and written to it.
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useCallback, useMemo } from "react";
import { type Choice, choiceFromSearch, choiceToSearch } from "../api/choice";

export function useChoice(): [Choice, (change: Partial<Choice>) => void] {
  const search = useSearch({ strict: false });
  const navigate = useNavigate();
  const choice = useMemo(() => choiceFromSearch(search), [search]);
  const setChoice = useCallback(
    (change: Partial<Choice>) => {
      void navigate({
        to: ".",
        search: (previous) => ({ ...previous, ...choiceToSearch({ ...choiceFromSearch(previous), ...change }) }),
        // Every turn of a knob as a step back would bury the page one came from.
        replace: true,
        resetScroll: false,
      });
    },
    [navigate],
  );
  return [choice, setChoice];
}
