// The chosen options for those who work without the page: as a curl line, and as an event for the topics.
import type { Choice } from "./choice";
import { toTaskOptions } from "./request-options";

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
