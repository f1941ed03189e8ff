// A dialog at the edge of the window: from the right where there is room, from below on a phone. React Aria keeps the
// focus inside and gives it back.
import { type ReactNode, useEffect, useLayoutEffect, useRef } from "react";
import { Dialog, Heading, Modal, ModalOverlay } from "react-aria-components";
import { useI18n } from "../i18n";
import { IconButton } from "./button";

interface Props {
  title: string;
  isOpen: boolean;
  onClose: () => void;
  children: ReactNode;
}

export function EdgeSheet({ title, isOpen, onClose, children }: Props) {
  const { t } = useI18n();
  // React Aria hears Escape only from within the dialog, and moves the focus there a moment after it is seen.
  useEffect(() => {
    if (!isOpen) return;
    const onKeyDown = (event: KeyboardEvent) => {
      if (event.key === "Escape" && !event.defaultPrevented) onClose();
    };
    window.addEventListener("keydown", onKeyDown);
    return () => window.removeEventListener("keydown", onKeyDown);
  }, [isOpen, onClose]);
  // React Aria gives the focus back only if it had come in by then: a dialog closed at once would leave it on nothing.
  const opener = useRef<Element | null>(null);
  useLayoutEffect(() => {
    if (isOpen) opener.current = document.activeElement;
  }, [isOpen]);
  useEffect(() => {
    if (!isOpen) return;
    return () => {
      // A frame later the dialog is gone, and what lay under it can be focused again.
      requestAnimationFrame(() => {
        if (document.activeElement === document.body && opener.current instanceof HTMLElement) opener.current.focus();
      });
    };
  }, [isOpen]);
  return (
    <ModalOverlay
      isOpen={isOpen}
      onOpenChange={(open) => !open && onClose()}
      isDismissable
      className="fixed inset-0 z-40 flex items-end bg-black/40 sm:items-stretch sm:justify-end"
    >
      <Modal className="max-h-[92dvh] w-full overflow-y-auto overscroll-contain rounded-t-xl bg-glow shadow-(--lift) sm:max-h-none sm:w-[min(34rem,92vw)] sm:rounded-none">
        <Dialog className="p-5 outline-none sm:p-7">
          <div className="mb-4 flex items-start justify-between gap-4">
            <Heading slot="title" className="text-xl font-semibold tracking-tight">
              {title}
            </Heading>
            <IconButton label={t("common.close")} icon="close" onClick={onClose} className="-mt-1" />
          </div>
          {children}
        </Dialog>
      </Modal>
    </ModalOverlay>
  );
}
