// The side bar: the list of conversations.

import { api } from "./api.js";
import { $, h, shown } from "./dom.js";
import { tried } from "./notices.js";
import { page } from "./state.js";

const shortly = (title) => shown(title || "New conversation");

export const showConversations = tried(async () => {
  const rows = await api.conversations();
  const had = $("conversations").contains(document.activeElement) ? document.activeElement : null;
  const [place, kind] = [had && [...$("conversations").children].indexOf(had.closest("li")), had?.tagName];
  $("conversations").replaceChildren(...rows.map((row) => h("li", { class: row.id === page.id ? "here" : "" },
    h("a", { href: `#${row.id}`, "aria-current": row.id === page.id ? "page" : null, title: row.title },
      row.thumb ? h("img", { src: api.image(row.thumb, 64), alt: "" }) : h("span", { class: "blank" }),
      h("span", { class: "name" }, shortly(row.title), row.working ? h("span", { class: "dim" }, " · at work") : null)),
    h("button", { type: "button", class: "icon", "aria-label": `Delete: ${shortly(row.title)}`, onclick: () => remove(row) }, "✕"))));
  if (had) ($("conversations").children[Math.min(place, rows.length - 1)]?.querySelector(kind) ?? $("new")).focus();
  const here = rows.find((row) => row.id === page.id);
  if (here) {
    $("title").textContent = shortly(here.title);
    document.title = `${shortly(here.title)} · redraft`;
  }
});

const remove = tried(async (row) => {
  $("sure-text").textContent = `Delete “${shortly(row.title)}” and its pictures?`;
  $("sure").returnValue = "no";
  $("sure").showModal();
  await new Promise((done) => $("sure").addEventListener("close", done, { once: true }));
  if ($("sure").returnValue !== "yes") return;
  await api.remove(row.id);
  if (row.id === page.id) location.hash = "";
  await showConversations();
});

const rename = tried(async () => {
  const id = page.id;
  $("name").value = $("title").textContent;
  $("naming").returnValue = "";
  $("naming").showModal();
  $("name").select();
  await new Promise((done) => $("naming").addEventListener("close", done, { once: true }));
  const title = $("name").value.trim();
  if ($("naming").returnValue !== "named" || !title) return;
  await api.change(id, { title });
  await showConversations();
});

export function side(open) {
  $("side").classList.toggle("open", open);
  $("side-open").setAttribute("aria-expanded", String(open));
  if (open) $("side-close").focus();
}

export function listenToSidebar() {
  $("rename").addEventListener("click", rename);
  $("naming-cancel").addEventListener("click", () => $("naming").close());
  $("side-open").addEventListener("click", () => side(true));
  $("main").addEventListener("pointerdown", () => side(false));
  $("side-close").addEventListener("click", () => {
    side(false);
    $("side-open").focus();
  });
}
