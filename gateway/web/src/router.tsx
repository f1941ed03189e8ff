// The addresses of the page. What is chosen, selected and looked at stands in them, so that reload and back do what one
// expects; whatever in an address makes no sense is left out.
import { createRootRoute, createRoute, createRouter } from "@tanstack/react-router";
import { type ChoiceSearch, parseChoiceSearch } from "./api/choice";
import { LinePage } from "./features/line/line-page";
import { PicturePage } from "./features/picture/picture-page";
import { parsePictureSearch } from "./features/picture/view-state";
import { DropArea } from "./features/table/drop-area";
import { TablePage } from "./features/table/table-page";
import { CrashPage, NotFoundPage, Shell } from "./ui/shell";

export interface RootSearch extends ChoiceSearch {
  /** Selected pictures, see api/selection.ts. */
  selected?: string | undefined;
  /** The options stand open where there is no room for them beside the table. */
  panel?: "options" | undefined;
}

const rootRoute = createRootRoute({
  validateSearch: (search: Record<string, unknown>): RootSearch => ({
    ...parseChoiceSearch(search),
    ...(typeof search.selected === "string" ? { selected: search.selected } : {}),
    ...(search.panel === "options" ? { panel: "options" as const } : {}),
  }),
  component: () => (
    <Shell>
      <DropArea />
    </Shell>
  ),
  notFoundComponent: NotFoundPage,
  errorComponent: CrashPage,
});

export const tableRoute = createRoute({ getParentRoute: () => rootRoute, path: "/", component: TablePage });

export const pictureRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/pictures/$taskId/$index",
  validateSearch: parsePictureSearch,
  component: PicturePage,
});

export const lineRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/line",
  validateSearch: (search: Record<string, unknown>): { letters?: string | undefined } =>
    typeof search.letters === "string" ? { letters: search.letters } : {},
  component: LinePage,
});

export const router = createRouter({
  routeTree: rootRoute.addChildren([tableRoute, pictureRoute, lineRoute]),
  scrollRestoration: true,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
