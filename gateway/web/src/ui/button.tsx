import type { ButtonHTMLAttributes, ComponentProps } from "react";
import { Icon, type IconName } from "./icons";

type Look = "primary" | "plain" | "quiet";

const LOOKS: Record<Look, string> = {
  primary: "bg-ink text-table hover:bg-soft border-transparent",
  plain: "bg-paper text-ink border-edge hover:border-ink",
  quiet: "bg-transparent text-soft hover:text-ink hover:bg-well border-transparent",
};

const BASE =
  "inline-flex items-center justify-center gap-2 rounded-[5px] border font-medium whitespace-nowrap transition-colors " +
  "disabled:opacity-45 aria-disabled:opacity-45 min-h-[2.35rem] px-3 select-none";

export function buttonClass(look: Look = "plain", extra = ""): string {
  return `${BASE} ${LOOKS[look]} ${extra}`;
}

interface Props extends ButtonHTMLAttributes<HTMLButtonElement> {
  look?: Look;
  icon?: IconName;
}

export function Button({ look = "plain", icon, className = "", children, type = "button", ...rest }: Props) {
  return (
    <button type={type} className={buttonClass(look, className)} {...rest}>
      {icon && <Icon name={icon} />}
      {children}
    </button>
  );
}

/** A button of which only the picture is seen: its label is read out and shown as a tip. */
export function IconButton({
  label,
  icon,
  className = "",
  ...rest
}: Omit<Props, "look"> & { label: string; icon: IconName }) {
  return (
    <button
      type="button"
      aria-label={label}
      title={label}
      className={`inline-grid size-9 place-items-center rounded-[5px] text-soft transition-colors hover:bg-well hover:text-ink disabled:opacity-40 ${className}`}
      {...rest}
    >
      <Icon name={icon} />
    </button>
  );
}

export function LinkButton({
  look = "plain",
  icon,
  className = "",
  children,
  ...rest
}: ComponentProps<"a"> & { look?: Look; icon?: IconName }) {
  return (
    <a className={buttonClass(look, className)} {...rest}>
      {icon && <Icon name={icon} />}
      {children}
    </a>
  );
}
