// Fields of the options: a slider with its value, a number, a line of text, a colour.
import { useId, useState } from "react";
import { isColor } from "../api/background";

/**
 * What stands in a field while it is being written: the address follows only what is valid, and a moment later. Whoever
 * leaves the field finds what is chosen.
 */
function useDraft(value: string, onText: (text: string) => void) {
  const [draft, setDraft] = useState<string>();
  return {
    value: draft ?? value,
    onChange: (event: { target: { value: string } }) => {
      setDraft(event.target.value);
      onText(event.target.value);
    },
    onBlur: () => setDraft(undefined),
  };
}

interface RangeProps {
  label: string;
  value: number;
  /** The value as it is read. */
  text: string;
  min: number;
  max: number;
  step?: number;
  onChange: (value: number) => void;
}

export function RangeField({ label, value, text, min, max, step = 1, onChange }: RangeProps) {
  return (
    <label className="block">
      <span className="edge-print flex justify-between">
        {label}
        {/* Not an <output>: a label names the first thing within it that can be named, and that is to be the slider. */}
        <span aria-hidden="true" className="text-ink">
          {text}
        </span>
      </span>
      <input
        type="range"
        min={min}
        max={max}
        step={step}
        value={value}
        aria-valuetext={text}
        onChange={(event) => onChange(event.target.valueAsNumber)}
        className="mt-1 w-full"
      />
    </label>
  );
}

interface NumberProps {
  label: string;
  value: number;
  min: number;
  max: number;
  unit: string;
  /** Whether the number that stands there, though within its bounds, fits the rest. */
  isRight?: (value: number) => boolean;
  /** What is said of a number that does not fit. */
  fault: string;
  onChange: (value: number) => void;
}

export function NumberField({ label, value, min, max, unit, isRight = () => true, fault, onChange }: NumberProps) {
  const help = useId();
  const isFitting = (text: string) => {
    const number = Number(text);
    return text.trim() !== "" && Number.isInteger(number) && number >= min && number <= max && isRight(number);
  };
  const field = useDraft(String(value), (text) => {
    if (isFitting(text)) onChange(Number(text));
  });
  const isWrong = !isFitting(field.value);
  return (
    <div>
      <label className="flex items-center gap-2 text-soft">
        {label}
        <input
          type="number"
          inputMode="numeric"
          min={min}
          max={max}
          {...field}
          aria-invalid={isWrong}
          aria-describedby={isWrong ? help : undefined}
          className="field ml-auto w-24 text-right"
        />
        <span className="min-w-6">{unit}</span>
      </label>
      {isWrong && (
        <p id={help} className="mt-1 text-[0.8rem] text-fail">
          {fault}
        </p>
      )}
    </div>
  );
}

interface TextProps {
  label: string;
  value: string;
  maxLength: number;
  placeholder?: string;
  onChange: (text: string) => void;
}

export function TextField({ label, value, maxLength, placeholder, onChange }: TextProps) {
  const field = useDraft(value, onChange);
  return (
    <label className="block">
      <span className="text-[0.8rem] text-soft">{label}</span>
      <input type="text" {...field} maxLength={maxLength} placeholder={placeholder} className="field mt-1 w-full" />
    </label>
  );
}

/** The browser's picker knows six digits and no alpha. */
export function sixDigits(color: string): string {
  if (!isColor(color)) return "#000000";
  return color.length === 4 ? color.replace(/[^#]/g, (digit) => digit + digit) : color.slice(0, 7);
}

interface ColorProps {
  label: string;
  value: string;
  onChange: (color: string) => void;
}

export function ColorField({ label, value, onChange }: ColorProps) {
  return (
    <label className="flex items-center gap-2">
      <input
        type="color"
        value={sixDigits(value)}
        onChange={(event) => onChange(event.target.value)}
        className="h-9 w-14 cursor-pointer rounded-[5px] border border-edge bg-paper p-1"
      />
      <span className="text-soft">{label}</span>
      <span aria-hidden="true" className="ml-auto font-mono text-[0.8rem]">
        {value}
      </span>
    </label>
  );
}
