// What lies in a drop or a paste: files, whole folders, addresses. Nothing is read here but names and types.

const PICTURE_NAME = /\.(jpe?g|jfif|png|webp|gif|bmp|tiff?|ico|avif|heic|heif)$/i;

/** Whether a file is worth sending. A wrong guess only costs an answer that says why. */
export function looksLikePicture(file: Pick<File, "name" | "type">): boolean {
  return file.type.startsWith("image/") || PICTURE_NAME.test(file.name);
}

export interface Batch<F> {
  files: F[];
  bytes: number;
}

/** Enough pictures to be worth a request, few enough that a failed one costs little to repeat. */
const BATCH_FILES = 24;
export const BATCH_BYTES = 48_000_000;

/** Splits files into tasks of moderate size, in order; `tooLarge` are those that the gateway takes in no request. */
export function splitIntoBatches<F extends { size: number }>(
  files: F[],
  maxFileBytes: number,
  maxFiles = BATCH_FILES,
): { batches: Batch<F>[]; tooLarge: F[] } {
  const batches: Batch<F>[] = [];
  const tooLarge: F[] = [];
  for (const file of files) {
    if (file.size > maxFileBytes) {
      tooLarge.push(file);
      continue;
    }
    const last = batches.at(-1);
    if (last && last.files.length < maxFiles && last.bytes + file.size <= BATCH_BYTES) {
      last.files.push(file);
      last.bytes += file.size;
    } else {
      batches.push({ files: [file], bytes: file.size });
    }
  }
  return { batches, tooLarge };
}

/** The http(s) addresses in a text, each once. `undefined` where something in it is none. */
export function parseAddresses(text: string): string[] | undefined {
  const words = text.split(/[\s]+/).filter((word) => word !== "" && !word.startsWith("#"));
  if (words.length === 0) return undefined;
  const addresses = new Set<string>();
  for (const word of words) {
    if (!/^https?:\/\//i.test(word) || !URL.canParse(word)) return undefined;
    addresses.add(new URL(word).href);
  }
  return [...addresses];
}

async function readEntry(entry: FileSystemEntry): Promise<File[]> {
  if (entry.isFile) {
    return new Promise((resolve) => {
      // A file that vanished between drop and read is left out, its neighbours are not.
      (entry as FileSystemFileEntry).file(
        (file) => resolve([file]),
        () => resolve([]),
      );
    });
  }
  if (!entry.isDirectory) return [];
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const files: File[] = [];
  // A reader hands out a hundred entries at a time, and an empty list at the end.
  for (;;) {
    const entries = await new Promise<FileSystemEntry[]>((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (entries.length === 0) return files;
    for (const child of entries) files.push(...(await readEntry(child)));
  }
}

/** Everything that was dropped or pasted. Must be called within the event: its data is gone afterwards. */
export async function readTransfer(transfer: DataTransfer): Promise<{ files: File[]; addresses: string[] }> {
  const entries: FileSystemEntry[] = [];
  const plain: File[] = [];
  for (const item of transfer.items) {
    if (item.kind !== "file") continue;
    const entry = item.webkitGetAsEntry?.();
    if (entry) entries.push(entry);
    else {
      const file = item.getAsFile();
      if (file) plain.push(file);
    }
  }
  const text = transfer.getData("text/uri-list") || transfer.getData("text/plain");
  const nested = await Promise.all(entries.map(readEntry));
  const files = [...plain, ...nested.flat()];
  // A picture dragged out of another page brings its file and its address: the file is enough.
  return { files, addresses: files.length > 0 ? [] : (parseAddresses(text) ?? []) };
}
