// The options as the address of the page holds them, and the three forms they are sent in: a request, a curl line, an event.
import {
  FORMATS,
  type ImageFormat,
  KIND_CHOICES,
  type KindChoice,
  QUALITIES,
  type Quality,
  SUBJECTS,
  type Subject,
  type TaskOptions,
} from "./types";

export interface Choice {
  kind: KindChoice;
  quality: Quality;
  subject: Subject;
  format: ImageFormat;
  /** `transparent`, a colour `#rrggbb`, or the address of a picture. */
  background: string;
  encodingQuality: number;
  crop: "none" | "subject";
  cropMarginPx: number;
}

export const DEFAULT_CHOICE: Choice = {
  kind: "auto",
  quality: "high",
  subject: "all",
  format: "png",
  background: "transparent",
  encodingQuality: 90,
  crop: "none",
  cropMarginPx: 0,
};

/** The address keeps only what differs from the defaults, under these names. */
export interface ChoiceSearch {
  kind?: KindChoice | undefined;
  quality?: Quality | undefined;
  subject?: Subject | undefined;
  format?: ImageFormat | undefined;
  background?: string | undefined;
  encoding?: number | undefined;
  crop?: "subject" | undefined;
  margin?: number | undefined;
}

const oneOf = <T extends string>(list: readonly T[], value: unknown): T | undefined =>
  list.find((item) => item === value);

const wholeNumber = (value: unknown, least: number, most: number): number | undefined => {
  const number = typeof value === "string" ? Number(value) : value;
  return typeof number === "number" && Number.isInteger(number) && number >= least && number <= most
    ? number
    : undefined;
};

export function isBackground(text: unknown): text is string {
  return (
    typeof text === "string" &&
    (/^#([0-9a-f]{3}|[0-9a-f]{6}|[0-9a-f]{8})$/i.test(text) || /^https?:\/\/\S+$/.test(text))
  );
}

const withoutUndefined = <T extends object>(object: { [K in keyof T]: T[K] | undefined }): Partial<T> =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as Partial<T>;

/** Reads what an address says; what makes no sense there is left out, for anybody may have written it. */
export function parseChoiceSearch(search: Record<string, unknown>): ChoiceSearch {
  return withoutUndefined<ChoiceSearch>({
    kind: oneOf(KIND_CHOICES, search.kind),
    quality: oneOf(QUALITIES, search.quality),
    subject: oneOf(SUBJECTS, search.subject),
    format: oneOf(FORMATS, search.format),
    background: isBackground(search.background) ? search.background : undefined,
    encoding: wholeNumber(search.encoding, 1, 100),
    crop: search.crop === "subject" ? "subject" : undefined,
    margin: wholeNumber(search.margin, 0, 10_000),
  });
}

export function choiceFromSearch(search: ChoiceSearch): Choice {
  return {
    kind: search.kind ?? DEFAULT_CHOICE.kind,
    quality: search.quality ?? DEFAULT_CHOICE.quality,
    subject: search.subject ?? DEFAULT_CHOICE.subject,
    format: search.format ?? DEFAULT_CHOICE.format,
    background: search.background ?? DEFAULT_CHOICE.background,
    encodingQuality: search.encoding ?? DEFAULT_CHOICE.encodingQuality,
    crop: search.crop ?? DEFAULT_CHOICE.crop,
    cropMarginPx: search.margin ?? DEFAULT_CHOICE.cropMarginPx,
  };
}

export function choiceToSearch(choice: Choice): Record<keyof ChoiceSearch, unknown> & ChoiceSearch {
  return {
    kind: choice.kind === DEFAULT_CHOICE.kind ? undefined : choice.kind,
    quality: choice.quality === DEFAULT_CHOICE.quality ? undefined : choice.quality,
    subject: choice.subject === DEFAULT_CHOICE.subject ? undefined : choice.subject,
    format: choice.format === DEFAULT_CHOICE.format ? undefined : choice.format,
    background: choice.background === DEFAULT_CHOICE.background ? undefined : choice.background,
    encoding: choice.encodingQuality === DEFAULT_CHOICE.encodingQuality ? undefined : choice.encodingQuality,
    crop: choice.crop === "subject" ? "subject" : undefined,
    margin: choice.cropMarginPx === DEFAULT_CHOICE.cropMarginPx ? undefined : choice.cropMarginPx,
  };
}

/** The request's options, defaults left out. */
export function toTaskOptions(choice: Choice): TaskOptions {
  const output = withoutUndefined({
    format: choice.format === DEFAULT_CHOICE.format ? undefined : choice.format,
    background: choice.background === DEFAULT_CHOICE.background ? undefined : choice.background,
    // PNG is lossless: an encoder quality would say nothing.
    encodingQuality:
      choice.format === "png" || choice.encodingQuality === DEFAULT_CHOICE.encodingQuality
        ? undefined
        : choice.encodingQuality,
    crop: choice.crop === "none" ? undefined : choice.crop,
    cropMarginPx: choice.crop === "none" || choice.cropMarginPx === 0 ? undefined : choice.cropMarginPx,
  });
  return withoutUndefined<TaskOptions>({
    type: choice.kind === DEFAULT_CHOICE.kind ? undefined : choice.kind,
    quality: choice.quality === DEFAULT_CHOICE.quality ? undefined : choice.quality,
    subject: choice.subject === DEFAULT_CHOICE.subject ? undefined : choice.subject,
    output: Object.keys(output).length > 0 ? (output as NonNullable<TaskOptions["output"]>) : undefined,
  });
}

/** What a finished task was asked for, as a choice to start from. */
export function choiceFromOptions(options: TaskOptions): Choice {
  const output = options.output ?? {};
  return {
    kind: options.type ?? DEFAULT_CHOICE.kind,
    quality: options.quality ?? DEFAULT_CHOICE.quality,
    subject: oneOf(SUBJECTS, options.subject) ?? DEFAULT_CHOICE.subject,
    format: output.format ?? DEFAULT_CHOICE.format,
    background: isBackground(output.background) ? output.background : DEFAULT_CHOICE.background,
    encodingQuality: output.encodingQuality ?? DEFAULT_CHOICE.encodingQuality,
    crop: output.crop ?? DEFAULT_CHOICE.crop,
    cropMarginPx: output.cropMarginPx ?? DEFAULT_CHOICE.cropMarginPx,
  };
}

/** Quotes a word for a POSIX shell. */
export function shellQuote(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

export function curlLine(choice: Choice, origin: string): string {
  const options = toTaskOptions(choice);
  const lines = [`curl ${origin}/api/v1/tasks`, "-F images=@photo.jpg"];
  if (Object.keys(options).length > 0) lines.push(`-F ${shellQuote(`options=${JSON.stringify(options)}`)}`);
  return lines.join(" \\\n  ");
}

/** Stands in the body for the id that the shell makes, until the body is quoted. */
const ID_PLACEHOLDER = "__ID__";

/** The line that writes a task as an event; the shell makes its ids, so that it can be run more than once. */
export function kcatPublishLine(choice: Choice, bootstrapServers: string): string {
  const options = toTaskOptions(choice);
  const body = {
    taskId: ID_PLACEHOLDER,
    images: [{ url: "https://example.org/photo.jpg" }],
    ...(Object.keys(options).length > 0 ? { options } : {}),
  };
  const value = JSON.stringify(body).replaceAll("'", "'\\''").replace(ID_PLACEHOLDER, `'"$ID"'`);
  return [
    "ID=$(uuidgen)",
    `echo '${value}' |`,
    `kcat -P -b ${bootstrapServers} -t image-tasks -k $ID \\`,
    "  -H content-type=application/json -H ce_specversion=1.0 \\",
    "  -H ce_type=atelier.task.submitted.v1 -H ce_source=/shell \\",
    "  -H ce_id=$(uuidgen) -H ce_time=$(date -u +%FT%TZ) \\",
    "  -H ce_correlationid=$ID",
  ].join("\n");
}

/** The line that reads all events of one task, from the first on. */
export function kcatFollowLine(taskId: string, bootstrapServers: string): string {
  return `kcat -C -b ${bootstrapServers} -t task-events -o beginning -X isolation.level=read_committed \\\n  -f '%k %h %s\\n' | grep ${taskId}`;
}
