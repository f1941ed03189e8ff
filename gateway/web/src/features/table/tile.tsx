// One picture on the contact sheet: the original at once, the cut-out over it when it is there, and where it stands.
import { Link } from "@tanstack/react-router";
import { memo, useState } from "react";
import { downloadPath, imagePath } from "../../api/client";
import { type LiveImage, progressOf } from "../../api/live";
import { pictureKey } from "../../api/selection";
import type { ImageAnswer } from "../../api/types";
import { useI18n } from "../../i18n";
import { Failure, useStageName } from "../../ui/failure";
import { Icon } from "../../ui/icons";
import { carriedSearch } from "../../ui/shell";
import { StageTicks } from "../../ui/stage-ticks";
import { PencilFrame } from "./pencil-frame";
import { usePreview } from "./previews";

interface Props {
  taskId: string;
  image: ImageAnswer;
  live: LiveImage | undefined;
  stages: string[];
  isSelected: boolean;
  onToggle: (key: string) => void;
}

export function pictureName(image: Pick<ImageAnswer, "name" | "index">, unnamed: string): string {
  return image.name || unnamed;
}

export const Tile = memo(function Tile({ taskId, image, live, stages, isSelected, onToggle }: Props) {
  const { t } = useI18n();
  const key = pictureKey(taskId, image.index);
  const name = pictureName(image, t("tile.unnamed", { number: image.index + 1 }));
  const isDone = image.status === "completed";
  const isFailed = image.status === "failed" || image.status === "cancelled";
  return (
    <li className="tile relative" data-selected={isSelected} data-testid="tile" data-status={image.status}>
      <div className="relative">
        <Link
          to="/pictures/$taskId/$index"
          params={{ taskId, index: String(image.index) }}
          search={carriedSearch}
          data-tile={key}
          // The sheet lets one tile at a time into the tab order (use-sheet-keys.ts); from it keys do the rest.
          tabIndex={-1}
          aria-label={t("tile.open", { name })}
          className="tile-picture block overflow-hidden rounded-[3px] bg-paper p-[5px] shadow-(--shadow) focus-visible:outline-offset-4"
        >
          <span className="relative block aspect-square overflow-hidden bg-well">
            <Original
              pictureKey={key}
              taskId={taskId}
              index={image.index}
              name={name}
              isDimmed={isFailed}
              isDone={isDone}
            />
            {isDone && <CutOut taskId={taskId} image={image} />}
          </span>
        </Link>
        {isSelected && <PencilFrame seed={image.index} />}
        <span className="tile-tools absolute top-2 left-2">
          <label className="grid size-7 place-items-center rounded-[4px] bg-paper/90 shadow-(--shadow)">
            <input
              type="checkbox"
              tabIndex={-1}
              checked={isSelected}
              onChange={() => onToggle(key)}
              aria-label={t("tile.select", { name })}
              className="size-4 accent-(--pencil)"
            />
          </label>
        </span>
        {isDone && (
          <span className="tile-tools absolute top-2 right-2">
            <a
              href={downloadPath(taskId, image.index)}
              download
              tabIndex={-1}
              aria-label={t("tile.download", { name })}
              title={t("tile.download", { name })}
              className="grid size-7 place-items-center rounded-[4px] bg-paper/90 text-ink shadow-(--shadow)"
            >
              <Icon name="download" size={14} />
            </a>
          </span>
        )}
      </div>
      <p className="mt-1.5 truncate text-[0.82rem] leading-snug" title={name}>
        {name}
      </p>
      <Standing image={image} live={live} stages={stages} />
    </li>
  );
});

function Standing({ image, live, stages }: Pick<Props, "image" | "live" | "stages">) {
  const { t } = useI18n();
  const stageName = useStageName();
  if (image.status === "completed") {
    return image.metadata ? (
      <p className="edge-print truncate">
        {t(`kind.${image.metadata.type}`)} · {image.metadata.dimensions.width} × {image.metadata.dimensions.height}
      </p>
    ) : null;
  }
  if (image.error) return <Failure error={image.error} compact />;
  if (image.status === "failed" || image.status === "cancelled")
    return <p className="edge-print text-fail">{t(`status.${image.status}`)}</p>;
  const { step, stepCount, stage } = progressOf(live, stages);
  const words = stage
    ? t("progress.at", { stage: stageName(stage), step, total: stepCount })
    : t(image.status === "pending" ? "status.pending" : "progress.unknown");
  return (
    <div className="mt-1" data-testid="progress">
      <StageTicks done={step - 1} count={stepCount} />
      <p className="edge-print mt-0.5 truncate">{words}</p>
    </div>
  );
}

interface OriginalProps {
  pictureKey: string;
  taskId: string;
  index: number;
  name: string;
  isDimmed: boolean;
  isDone: boolean;
}

function Original({ pictureKey: key, taskId, index, name, isDimmed, isDone }: OriginalProps) {
  const preview = usePreview(key);
  const [isBroken, setIsBroken] = useState(false);
  // Once there is a cut-out its thumbnail is enough: the originals of a whole sheet at full size would weigh gigabytes.
  const src = preview ?? (isDone || isBroken ? undefined : imagePath(taskId, index, "original"));
  if (!src) {
    return isDone ? null : (
      <span className="absolute inset-0 grid place-items-center p-3 text-center text-[0.75rem] break-all text-faint">
        {name}
      </span>
    );
  }
  return (
    <img
      src={src}
      alt=""
      loading="lazy"
      decoding="async"
      onError={() => setIsBroken(true)}
      className={`absolute inset-0 size-full object-contain ${isDimmed ? "opacity-45 grayscale" : ""}`}
    />
  );
}

function CutOut({ taskId, image }: { taskId: string; image: ImageAnswer }) {
  const hasPreview = usePreview(pictureKey(taskId, image.index)) !== undefined;
  return (
    <span className="cutout checker absolute inset-0" data-peek={hasPreview}>
      <img
        src={image.thumbnailUrl ?? imagePath(taskId, image.index, "thumbnail")}
        alt=""
        loading="lazy"
        decoding="async"
        className="absolute inset-0 size-full object-contain"
      />
    </span>
  );
}
