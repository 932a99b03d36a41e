// Light or dark: as the system has it until the button says otherwise, which this browser remembers.

const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");

// Storage throws where the browser forbids it; the page works without.
function remembered() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null;
  }
}

function remember(theme) {
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // it holds until the page is left
  }
}

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
}

function show() {
  document.querySelector("#theme")?.setAttribute("aria-pressed", String(isDark()));
}

const theme = remembered();
if (theme === "light" || theme === "dark") root.dataset.theme = theme;

system.addEventListener("change", show);
document.addEventListener("DOMContentLoaded", () => {
  show();
  document.querySelector("#theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember(root.dataset.theme);
    show();
  });
});
