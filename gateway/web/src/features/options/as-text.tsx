// The same choice for those who work without the page: a curl line and an event, ready to copy.
import { useQuery } from "@tanstack/react-query";
import type { Choice } from "../../api/choice";
import { capabilitiesQuery } from "../../api/queries";
import { curlLine, kcatPublishLine } from "../../api/shell-lines";
import { useI18n } from "../../i18n";
import { CopyBlock } from "../../ui/copy";

export function AsText({ choice }: { choice: Choice }) {
  const { t } = useI18n();
  const { data: capabilities } = useQuery(capabilitiesQuery);
  const brokers = capabilities?.kafka?.bootstrapServers;
  return (
    <section className="flex flex-col gap-3">
      <h3 className="font-medium">{t("options.asText")}</h3>
      <CopyBlock title={t("options.asCurl")} text={curlLine(choice, location.origin)} />
      {brokers && (
        <div>
          <CopyBlock title={t("options.asEvent")} text={kcatPublishLine(choice, brokers)} />
          <p className="mt-1.5 text-[0.8rem] text-soft">{t("options.asEvent.help")}</p>
        </div>
      )}
      <p className="text-[0.85rem]">
        <a href="/api/docs" className="underline decoration-edge underline-offset-4 hover:decoration-ink">
          {t("options.docs")}
        </a>
      </p>
    </section>
  );
}
