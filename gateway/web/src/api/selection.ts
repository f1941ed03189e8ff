// The selected pictures as the address holds them: `<task>:0-3,5;<task>:1`, so that a whole strip costs a few characters.

export type Selection = ReadonlySet<string>;

export const pictureKey = (taskId: string, index: number) => `${taskId}:${index}`;

export function splitKey(key: string): { taskId: string; index: number } {
  const colon = key.lastIndexOf(":");
  return { taskId: key.slice(0, colon), index: Number(key.slice(colon + 1)) };
}

/** No task has more pictures; a longer range in an address is nonsense and would only cost memory. */
const MOST_PICTURES = 1_000;

export function parseSelection(text: string | undefined): Selection {
  const keys = new Set<string>();
  for (const part of (text ?? "").split(";")) {
    const [taskId, ranges] = part.split(":");
    if (!taskId || !ranges || !/^[0-9a-f-]{36}$/i.test(taskId)) continue;
    for (const range of ranges.split(",")) {
      const match = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(range);
      if (!match) continue;
      const first = Number(match[1]);
      const last = Math.min(match[2] === undefined ? first : Number(match[2]), MOST_PICTURES - 1);
      for (let index = first; index <= last; index += 1) keys.add(pictureKey(taskId, index));
    }
  }
  return keys;
}

export function formatSelection(selection: Selection): string | undefined {
  const byTask = new Map<string, number[]>();
  for (const key of selection) {
    const { taskId, index } = splitKey(key);
    const indices = byTask.get(taskId) ?? [];
    indices.push(index);
    byTask.set(taskId, indices);
  }
  const parts = [...byTask].map(([taskId, indices]) => `${taskId}:${formatRanges(indices)}`);
  return parts.length > 0 ? parts.join(";") : undefined;
}

function formatRanges(indices: number[]): string {
  const sorted = [...indices].sort((a, b) => a - b);
  const ranges: { first: number; last: number }[] = [];
  for (const index of sorted) {
    const previous = ranges.at(-1);
    if (previous && index === previous.last + 1) previous.last = index;
    else ranges.push({ first: index, last: index });
  }
  return ranges.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`)).join(",");
}
