import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { startLive } from "./api/live-store";
import { shouldRetry, showTask } from "./api/queries";
import { onAccepted } from "./features/table/uploads";
import { I18nProvider } from "./i18n";
import { router } from "./router";
import "./styles.css";
import { applyTheme, storedTheme } from "./ui/theme";

applyTheme(storedTheme());

const queries = new QueryClient({
  defaultOptions: {
    queries: {
      retry: shouldRetry,
      staleTime: 10_000,
      // The event stream tells when something changed, and a new connection fetches afresh.
      refetchOnWindowFocus: false,
      refetchOnReconnect: false,
      // The gateway is on this machine or near it: whether the browser thinks itself online says nothing.
      networkMode: "always",
    },
    mutations: { networkMode: "always" },
  },
});

startLive(queries);
onAccepted((task) => showTask(queries, task));

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <I18nProvider>
        <QueryClientProvider client={queries}>
          <RouterProvider router={router} />
        </QueryClientProvider>
      </I18nProvider>
    </StrictMode>,
  );
}
