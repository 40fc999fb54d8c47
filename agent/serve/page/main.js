// The page's start: who is there, keys that hold everywhere, the theme, and the address that names a conversation.

import { api } from "./api.js";
import { listenToComposer } from "./composer.js";
import { cancel, listenToConversation, open, order, say } from "./conversation.js";
import { listenToGallery } from "./gallery.js";
import { $ } from "./dom.js";
import { listenToLogin, login } from "./login.js";
import { failed, tried } from "./notices.js";
import { listenToFull } from "./pictures.js";
import { listenToSidebar, side } from "./sidebar.js";
import { page } from "./state.js";

function listen() {
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") {
      if ($("side").classList.contains("open")) {
        side(false);
        $("side-open").focus();
      } else cancel();
    }
    const other = event.target !== $("words") && event.target.matches?.("input, textarea");
    const undoes = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !other && !$("words").value;
    if (undoes && page.id && (page.current || event.shiftKey)) {
      event.preventDefault();
      order(event.shiftKey ? "/redo" : "/undo");
    }
  });
  $("new").addEventListener("click", () => {
    if (location.hash.length > 1) location.hash = "";
    else open("");
    side(false);
    $("words").focus();
  });
  $("theme").addEventListener("click", () => theme(dark() ? "light" : "dark"));
  $("logout").addEventListener("click", tried(async () => {
    await api.logout();
    location.reload();
  }));
  addEventListener("hashchange", () => location.hash.slice(1) !== (page.id ?? "") && open(location.hash.slice(1)));
}

const dark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function theme(chosen) {
  if (chosen) {
    localStorage.setItem("theme", chosen);
    document.documentElement.dataset.theme = chosen;
  }
  $("theme").textContent = dark() ? "Light" : "Dark";
}

async function start() {
  page.me = await api.me();
  if (page.me.client === null) return login();
  $("logout").hidden = !page.me.login_needed;
  $("app").hidden = false;
  await open(location.hash.slice(1));
  $("words").focus();
}

listenToLogin(start);
theme();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme());
listen();
listenToComposer({ say, order, cancel });
listenToConversation();
listenToSidebar();
listenToGallery();
listenToFull();
start().catch((error) => {
  $("app").hidden = false;
  failed(error);
});
