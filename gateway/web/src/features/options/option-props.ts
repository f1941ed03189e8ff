import type { Choice } from "../../api/choice";

/** What every part of the options panel is given. */
export interface OptionProps {
  choice: Choice;
  onChange: (change: Partial<Choice>) => void;
}
