import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Root } from "./app/Root";
import { applyTheme } from "./app/theme";
import { load } from "./lib/storage";
import { ErrorBoundary, PageFailed } from "./ui/ErrorBoundary";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/layout.css";
import "./styles/controls.css";
import "./styles/pages.css";
import "./styles/transcript.css";
import "./styles/tools.css";
import "./styles/composer.css";
import "./styles/images.css";
import "./styles/dialogs.css";
import "./styles/sandbox.css";
import "./styles/trust.css";
import "./styles/workbench.css";

const theme = load("theme");
if (theme === "light" || theme === "dark") applyTheme(theme);

const root = document.getElementById("root");
if (!root) throw new Error("index.html has no #root");
createRoot(root).render(
  <StrictMode>
    <ErrorBoundary fallback={(error) => <PageFailed error={error} />}>
      <Root />
    </ErrorBoundary>
  </StrictMode>,
);
