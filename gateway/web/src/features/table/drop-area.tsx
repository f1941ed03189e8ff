// The whole window takes what is dropped or pasted. While something is held over it, it says so.
import { useNavigate } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { useI18n } from "../../i18n";
import { carriedSearch } from "../../ui/shell";
import { readTransfer } from "./files";
import { useLayDown } from "./lay-down";

const isField = (target: EventTarget | null) =>
  target instanceof HTMLElement && (target.matches("input, textarea, select") || target.isContentEditable);

export function DropArea() {
  const { t } = useI18n();
  const layDown = useLayDown();
  const navigate = useNavigate();
  const [isOver, setIsOver] = useState(false);

  useEffect(() => {
    const take = async (transfer: DataTransfer) => {
      const { files, addresses } = await readTransfer(transfer);
      if (files.length > 0) layDown.files(files);
      if (addresses.length > 0) layDown.addresses(addresses);
      // Wherever they were dropped, they lie on the table.
      if (files.length > 0 || addresses.length > 0) void navigate({ to: "/", search: carriedSearch });
    };
    // A picture that is dragged from the table itself is no new one.
    let isOwn = false;
    const onDragStart = () => {
      isOwn = true;
    };
    const onDragEnd = () => {
      isOwn = false;
    };
    const carriesSomething = (event: DragEvent) =>
      !isOwn && (event.dataTransfer?.types.some((type) => type === "Files" || type === "text/uri-list") ?? false);
    const onDragOver = (event: DragEvent) => {
      if (!carriesSomething(event)) return;
      event.preventDefault();
      setIsOver(true);
    };
    // Leaving an element for its child is no leaving of the window: only there is nothing related.
    const onDragLeave = (event: DragEvent) => {
      if (!event.relatedTarget) setIsOver(false);
    };
    const onDrop = (event: DragEvent) => {
      setIsOver(false);
      if (!event.dataTransfer || !carriesSomething(event)) return;
      event.preventDefault();
      void take(event.dataTransfer);
    };
    const onPaste = (event: ClipboardEvent) => {
      if (!event.clipboardData || isField(event.target)) return;
      void take(event.clipboardData);
    };
    window.addEventListener("dragstart", onDragStart);
    window.addEventListener("dragend", onDragEnd);
    window.addEventListener("dragover", onDragOver);
    window.addEventListener("dragleave", onDragLeave);
    window.addEventListener("drop", onDrop);
    window.addEventListener("paste", onPaste);
    return () => {
      window.removeEventListener("dragstart", onDragStart);
      window.removeEventListener("dragend", onDragEnd);
      window.removeEventListener("dragover", onDragOver);
      window.removeEventListener("dragleave", onDragLeave);
      window.removeEventListener("drop", onDrop);
      window.removeEventListener("paste", onPaste);
    };
  }, [layDown, navigate]);

  if (!isOver) return null;
  return (
    <div className="pointer-events-none fixed inset-3 z-30 grid place-items-center rounded-xl border-2 border-dashed border-pencil bg-glow/85">
      <p className="text-2xl font-semibold tracking-tight">{t("table.drop.here")}</p>
    </div>
  );
}
