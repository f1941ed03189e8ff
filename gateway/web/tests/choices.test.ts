import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import {
  type Choice,
  choiceFromOptions,
  choiceFromSearch,
  choiceToSearch,
  curlLine,
  DEFAULT_CHOICE,
  kcatFollowLine,
  kcatPublishLine,
  parseChoiceSearch,
  toTaskOptions,
} from "../src/api/request-options";
import { formatSelection, parseSelection, pictureKey, splitKey } from "../src/api/selection";

const all: Choice = {
  kind: "product",
  quality: "low",
  subject: "main",
  format: "webp",
  background: "#ff8800",
  encodingQuality: 75,
  crop: "subject",
  cropMarginPx: 12,
};

describe("options in the address", () => {
  it("come back as they went", () => {
    expect(choiceFromSearch(parseChoiceSearch({ ...choiceToSearch(all) }))).toEqual(all);
    expect(Object.values(choiceToSearch(DEFAULT_CHOICE)).every((value) => value === undefined)).toBe(true);
  });

  it("leave out what makes no sense", () => {
    const search = {
      kind: "cat",
      quality: 7,
      subject: "nobody",
      format: "gif",
      background: "javascript:alert(1)",
      encoding: 101,
      margin: -1,
      crop: "all",
    };
    expect(parseChoiceSearch(search)).toEqual({});
  });
});

describe("options as a request", () => {
  it("say only what differs from the defaults", () => {
    expect(toTaskOptions(DEFAULT_CHOICE)).toEqual({});
    expect(toTaskOptions({ ...DEFAULT_CHOICE, encodingQuality: 50 })).toEqual({});
    expect(toTaskOptions(all)).toEqual({
      type: "product",
      quality: "low",
      subject: "main",
      output: { format: "webp", background: "#ff8800", encodingQuality: 75, crop: "subject", cropMarginPx: 12 },
    });
  });

  it("are read back from a finished task", () => {
    expect(choiceFromOptions(toTaskOptions(all))).toEqual(all);
    expect(choiceFromOptions({ subject: "0% 0% 50% 100%" }).subject).toBe("all");
    expect(choiceFromOptions({ output: { background: { blob: {} as never } } }).background).toBe("transparent");
  });
});

describe("lines for the shell", () => {
  /** What the shell makes of a line, with a stand-in for the program that prints its arguments or its input. */
  const inShell = (line: string, program: string, body: string) =>
    execFileSync(
      "sh",
      ["-c", `uuidgen() { echo 11111111-2222-3333-4444-555555555555; }\n${program}() { ${body}; }\n${line}`],
      {
        encoding: "utf8",
      },
    );
  const awkward: Choice = { ...all, background: "https://example.org/it's $(id) `id`.png?a=1&b=2" };

  it("curl: the options arrive as JSON, whatever they hold", () => {
    const output = inShell(curlLine(awkward, "http://127.0.0.1:8080"), "curl", 'printf "%s\\n" "$@"');
    const line = output.split("\n").find((word) => word.startsWith("options=")) ?? "";
    expect(JSON.parse(line.slice("options=".length))).toEqual(toTaskOptions(awkward));
  });

  it("kcat: the event arrives as JSON with the id that the shell made", () => {
    const output = inShell(kcatPublishLine(awkward, "127.0.0.1:9092"), "kcat", "cat");
    expect(JSON.parse(output)).toEqual({
      taskId: "11111111-2222-3333-4444-555555555555",
      images: [{ url: "https://example.org/photo.jpg" }],
      options: toTaskOptions(awkward),
    });
  });

  it("kcat: reads only what is committed", () => {
    expect(kcatFollowLine("t-1", "host:1")).toMatch(/-t task-events .*isolation\.level=read_committed[\s\S]*grep t-1/);
  });
});

describe("the selection in the address", () => {
  const task = "0b5cc0f2-9b0a-4c3b-8a3c-0d8f5b8f0a11";
  const other = "1b5cc0f2-9b0a-4c3b-8a3c-0d8f5b8f0a11";

  it("writes neighbours as ranges and reads them back", () => {
    const keys = new Set([3, 0, 1, 2, 7].map((index) => pictureKey(task, index)).concat(pictureKey(other, 4)));
    const text = formatSelection(keys);
    expect(text).toBe(`${task}:0-3,7;${other}:4`);
    expect(parseSelection(text)).toEqual(keys);
    expect(splitKey(pictureKey(task, 7))).toEqual({ taskId: task, index: 7 });
  });

  it("survives nonsense", () => {
    expect(parseSelection(`${task}:0-99999999;x:1;;${task}:a,-2`).size).toBe(0);
    expect(parseSelection(`${task}:0-9999`).size).toBe(1000);
    expect(formatSelection(new Set())).toBeUndefined();
  });
});
