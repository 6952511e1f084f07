// Light or dark as the system is set. Bootstrap's styles follow an attribute, not the system.
"use strict";

const darkMode = matchMedia("(prefers-color-scheme: dark)");

function applyTheme() {
  document.documentElement.setAttribute("data-bs-theme", darkMode.matches ? "dark" : "light");
}

darkMode.addEventListener("change", applyTheme);
applyTheme();
