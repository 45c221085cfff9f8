// Light or dark: as the system says, or as the button was set.
import {at} from "./dom.js";

export function addTheme() {
  const set = theme => { document.documentElement.dataset.theme = theme; };
  set(localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark"));
  at("theme").onclick = () => {
    const theme = document.documentElement.dataset.theme === "light" ? "dark" : "light";
    set(theme);
    localStorage.setItem("theme", theme);
  };
}
