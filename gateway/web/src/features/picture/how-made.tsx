// How the cut-out came about: who made it and how sure, what was handed on and why, what became of the shadow.
import type { ImageMetadata } from "../../api/types";
import { useI18n } from "../../i18n";
import { formatPercent } from "../../i18n/format";
import { Fact } from "./fact";
import { reasonWords } from "./matting-words";

export function HowMade({ metadata }: { metadata: ImageMetadata }) {
  const { t, language } = useI18n();
  const { matting, model, shadow } = metadata;
  const percent = (share: number) => formatPercent(language, share);
  return (
    <>
      <Fact name={t("picture.kind")} note={t("picture.confidence", { percent: percent(metadata.confidence) })}>
        {t(`kind.${metadata.type}`)}
      </Fact>
      {matting && (
        <Fact
          name={t("picture.processor")}
          note={matting.noSubject ? undefined : t("picture.confidence", { percent: percent(matting.confidence) })}
          below={
            matting.fellBack && (
              <Reason
                words={t("picture.fellBack", { from: t(`kind.${matting.fellBack.from}`) })}
                reason={matting.fellBack.reason}
              />
            )
          }
        >
          {t(`kind.${matting.processor}`)}
        </Fact>
      )}
      {matting?.noSubject && (
        <Fact
          name={t("picture.noSubject")}
          below={<Reason words={t("picture.noSubject.why")} reason={matting.noSubject} />}
        >
          {t("picture.noSubject.help")}
        </Fact>
      )}
      <Fact
        name={t("picture.model")}
        note={t("picture.provider", { provider: model.provider })}
        below={model.reused && t("picture.reused")}
      >
        {model.name}
      </Fact>
      {matting?.trimap && (
        <Fact
          name={t("picture.trimap")}
          note={t("picture.trimap.unknown", { percent: percent(matting.trimap.unknownShare) })}
        >
          {t(`picture.trimap.${matting.trimap.origin}`)}
        </Fact>
      )}
      {shadow && <Fact name={t("picture.shadow")}>{t(`picture.shadow.${shadow}`)}</Fact>}
    </>
  );
}

function Reason({ words, reason }: { words: string; reason: string }) {
  const { t } = useI18n();
  const known = reasonWords(t, reason);
  return (
    <>
      {words}
      <span lang={known ? undefined : "en"}>{known ?? reason}</span>
    </>
  );
}
