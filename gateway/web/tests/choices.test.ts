import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import {
  type BackgroundKind,
  backgroundText,
  gradientText,
  kindOfBackground,
  parseGradient,
} from "../src/api/background";
import {
  CHOICE_KEYS,
  type Choice,
  choiceFromSearch,
  choiceToSearch,
  DEFAULT_CHOICE,
  parseChoiceSearch,
} from "../src/api/choice";
import { choiceFromOptions, toTaskOptions } from "../src/api/request-options";
import { formatSelection, parseSelection, pictureKey, splitKey } from "../src/api/selection";
import { curlLine, kcatFollowLine, kcatPublishLine } from "../src/api/shell-lines";
import { carriedSearch } from "../src/ui/shell";

const all: Choice = {
  kind: "product",
  quality: "low",
  subject: "main",
  format: "webp",
  background: "#ff8800",
  encoding: 75,
  crop: "subject",
  margin: 12,
  shadow: "drop",
  strength: 70,
  size: "1200x800",
  scale: "80%",
  position: "bottom",
  mark: "© Atelier",
  markAt: "topLeft",
  markOpacity: 40,
  markSize: 30,
  markColor: "#102030",
  markTile: -30,
};

describe("options in the address", () => {
  it("come back as they went", () => {
    expect(CHOICE_KEYS.filter((key) => all[key] === DEFAULT_CHOICE[key])).toEqual([]);
    expect(choiceFromSearch(parseChoiceSearch({ ...choiceToSearch(all) }))).toEqual(all);
    expect(Object.values(choiceToSearch(DEFAULT_CHOICE)).every((value) => value === undefined)).toBe(true);
    // What is default again has to leave an address that had something else.
    expect(Object.keys(choiceToSearch(DEFAULT_CHOICE))).toEqual(CHOICE_KEYS);
  });

  it("go along from view to view", () => {
    expect(carriedSearch({ ...choiceToSearch(all), selected: "x", zoom: 3 })).toEqual({
      ...choiceToSearch(all),
      selected: "x",
    });
  });

  it("may have a text of digits alone", () => {
    expect(parseChoiceSearch({ mark: 2026 })).toEqual({ mark: "2026" });
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
      shadow: "deep",
      strength: 101,
      size: "16000x16000",
      scale: "120%",
      position: "top-top",
      mark: "two\nlines",
      markAt: "middle",
      markColor: "red",
      markTile: 200,
    };
    expect(parseChoiceSearch(search)).toEqual({});
    for (const size of ["0x5", "1200", "x", "1e3x5", "16001x5"]) expect(parseChoiceSearch({ size })).toEqual({});
    for (const position of ["30%", "30% 101%", "left-top", ""]) expect(parseChoiceSearch({ position })).toEqual({});
  });
});

describe("options as a request", () => {
  it("say only what differs from the defaults", () => {
    expect(toTaskOptions(DEFAULT_CHOICE)).toEqual({});
    expect(toTaskOptions({ ...DEFAULT_CHOICE, encoding: 50 })).toEqual({});
    // A strength without a shadow, a margin without a crop and a place of no text say nothing.
    expect(toTaskOptions({ ...DEFAULT_CHOICE, strength: 50, margin: 9, mark: " ", markAt: "top" })).toEqual({});
    expect(toTaskOptions(all)).toEqual({
      type: "product",
      quality: "low",
      subject: "main",
      watermark: { text: "© Atelier", opacity: 0.4, scale: 0.3, textColor: "#102030", tile: { angleDegrees: -30 } },
      output: {
        format: "webp",
        background: "#ff8800",
        encodingQuality: 75,
        crop: "subject",
        cropMarginPx: 12,
        shadow: { type: "drop", opacity: 0.7 },
        size: { width: 1200, height: 800 },
        scale: "80%",
        position: "bottom",
      },
    });
    expect(toTaskOptions({ ...DEFAULT_CHOICE, shadow: "keep", mark: "©", markAt: "top" })).toEqual({
      watermark: { text: "©", position: "top" },
      output: { shadow: "keep" },
    });
  });

  it("are read back from a finished task", () => {
    // A text that is repeated has no place of its own.
    expect(choiceFromOptions(toTaskOptions(all))).toEqual({ ...all, markAt: "bottomRight" });
    const once: Choice = { ...all, markTile: undefined };
    expect(choiceFromOptions(toTaskOptions(once))).toEqual(once);
    expect(choiceFromOptions({ subject: "0% 0% 50% 100%" }).subject).toBe("all");
    expect(choiceFromOptions({ output: { background: { blob: {} as never } } }).background).toBe("transparent");
  });
});

describe("options as the gateway answers with them", () => {
  it("are the same choice", () => {
    const read = choiceFromOptions({
      type: "auto",
      quality: "high",
      subject: "all",
      watermark: { text: "©", position: "bottomRight", tile: { spacing: 0.5, angleDegrees: 0 } },
      output: {
        format: "png",
        background: {
          gradient: {
            stops: [
              { color: "#ffffff", at: 0 },
              { color: "#888888", at: 1 },
            ],
          },
        },
        crop: "none",
        size: { width: 900, height: 600 },
        position: "0% 100%",
        shadow: { type: "contact", opacity: 0.4 },
        channels: "rgba",
      },
    });
    expect(read).toEqual({
      ...DEFAULT_CHOICE,
      background: "linear-gradient(180deg, #ffffff, #888888)",
      size: "900x600",
      position: "bottom-left",
      shadow: "contact",
      strength: 40,
      mark: "©",
      markTile: 0,
    });
    expect(choiceFromOptions({ output: { position: "30% 100%" } }).position).toBe("30% 100%");
    expect(choiceFromOptions({ output: { position: "100% 50%" } }).position).toBe("right");
  });
});

describe("backgrounds", () => {
  it("are known by their text", () => {
    const kinds: [text: string, kind: BackgroundKind | undefined][] = [
      ["transparent", "transparent"],
      ["#fff", "color"],
      ["#ff880080", "color"],
      ["linear-gradient(90deg, #fff, #888 30%, #000)", "gradient"],
      ["linear-gradient(#fff,#000)", "gradient"],
      ["radial-gradient(#fff, #00000080)", "gradient"],
      ["blur(12.5px)", "blur"],
      ["https://a.example/b.png", "url"],
      ["#ffff", undefined],
      ["linear-gradient(#fff)", undefined],
      ["linear-gradient(400deg, #fff, #000)", undefined],
      ["linear-gradient(#fff, url(x))", undefined],
      ["conic-gradient(#fff, #000)", undefined],
      ["blur(0px)", undefined],
      ["blur(501px)", undefined],
      ["javascript:alert(1)", undefined],
    ];
    for (const [text, kind] of kinds) expect(kindOfBackground(text), text).toBe(kind);
  });

  it("have one text for the objects that the gateway answers with", () => {
    expect(backgroundText({ blur: 12 })).toBe("blur(12px)");
    const stops = [
      { color: "#ffffff", at: 0 },
      { color: "#888888", at: 0.3 },
      { color: "#000000", at: 1 },
    ];
    const text = "linear-gradient(90deg, #ffffff, #888888 30%, #000000)";
    expect(backgroundText({ gradient: { type: "linear", angleDegrees: 90, stops } })).toBe(text);
    expect(backgroundText({ gradient: { type: "radial", stops } })).toBe(
      "radial-gradient(#ffffff, #888888 30%, #000000)",
    );
    expect(backgroundText({ blob: {} as never })).toBeUndefined();
    const parts = parseGradient(text);
    expect(parts && gradientText(parts)).toBe(text);
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
