import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ERROR_CODES, FORMATS, KIND_CHOICES, QUALITIES } from "../src/api/types";
import en from "../src/i18n/en.json";
import { chooseLanguage, type MessageKey, translate } from "../src/i18n/translate";
import zhCN from "../src/i18n/zh-CN.json";

const catalogues: Record<string, Record<string, string>> = { en, "zh-CN": zhCN };
const rust = (file: string) => readFileSync(new URL(`../../../schemas/src/${file}`, import.meta.url), "utf8");

/** The wire names of a Rust enum whose variants are renamed to camelCase. */
function variantsOf(source: string, name: string): string[] {
  const body = new RegExp(`pub enum ${name} \\{([^}]*)\\}`).exec(source)?.[1] ?? "";
  return [...body.matchAll(/^\s+([A-Z]\w*),/gm)].map(
    ([, variant = ""]) => variant[0]?.toLowerCase() + variant.slice(1),
  );
}

describe("catalogues", () => {
  it("have the same keys in the same order", () => {
    expect(Object.keys(zhCN)).toEqual(Object.keys(en));
  });

  it("have the same places for values, and no empty words", () => {
    const places = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map(([, place]) => place).sort();
    for (const key of Object.keys(en)) {
      expect(places(zhCN[key as keyof typeof zhCN]), key).toEqual(places(en[key as keyof typeof en]));
      for (const catalogue of Object.values(catalogues)) expect(catalogue[key]?.trim(), key).not.toBe("");
    }
  });

  it("have words for every error code of the schemas", () => {
    const codes = [...rust("error.rs").matchAll(/^\s+[A-Z]\w+ => "(\w+)",/gm)].map(([, code]) => code);
    expect(codes.length).toBeGreaterThan(10);
    expect([...ERROR_CODES].sort()).toEqual([...codes].sort());
    for (const code of codes) {
      for (const [language, catalogue] of Object.entries(catalogues)) {
        for (const part of ["what", "why", "do"]) {
          expect(catalogue[`error.${code}.${part}`], `${language} error.${code}.${part}`).toBeTruthy();
        }
      }
    }
  });

  it("have words for every choice, and the choices are those of the schemas", () => {
    const request = rust("request.rs");
    expect([...KIND_CHOICES]).toEqual(variantsOf(request, "KindChoice"));
    expect([...QUALITIES]).toEqual(variantsOf(request, "Quality"));
    expect([...FORMATS]).toEqual(variantsOf(rust("output.rs"), "ImageFormat"));
    for (const key of [
      ...KIND_CHOICES.map((kind) => `kind.${kind}`),
      ...QUALITIES.map((quality) => `quality.${quality}`),
      ...FORMATS.map((format) => `format.${format}`),
    ]) {
      expect(en).toHaveProperty([key]);
    }
  });

  it("name every stage of the topic table", () => {
    const table = readFileSync(new URL("../../../infra/kafka/topics.toml", import.meta.url), "utf8");
    const names = [...(/^names = \[([^\]]*)\]/m.exec(table)?.[1] ?? "").matchAll(/"(\w+)"/g)].map(([, name]) => name);
    expect(names.length).toBeGreaterThan(0);
    for (const name of names) expect(en).toHaveProperty([`stage.${name}`]);
  });
});

describe("translate", () => {
  it("fills in values and chooses the plural", () => {
    expect(translate("en", "count.pictures", { count: 1 })).toBe("1 picture");
    expect(translate("en", "count.pictures", { count: 1200 })).toBe("1,200 pictures");
    expect(translate("zh-CN", "count.pictures", { count: 3 })).toBe("3 张图片");
  });

  it("leaves a place without a value as it is", () => {
    expect(translate("en", "tile.open")).toBe("Open {name}");
    expect(translate("en", "no.such.key" as MessageKey)).toBe("no.such.key");
  });

  it("chooses the first language that there is", () => {
    expect(chooseLanguage(["de-DE", "zh-TW", "en"])).toBe("zh-CN");
    expect(chooseLanguage(["fr"])).toBe("en");
  });
});
