// The gallery: the pictures of all conversations, with a search.

import { api } from "./api.js";
import { $, h, score, shown } from "./dom.js";
import { failed, tried } from "./notices.js";
import { side } from "./sidebar.js";

let latest = 0;

const find = tried(async () => {
  const mine = (latest += 1);
  const words = $("gallery-search").value.trim();
  const pictures = await api.pictures(words);
  if (mine !== latest) return; // another search was begun meanwhile
  const count = pictures.length === 1 ? "1 picture" : `${pictures.length === 200 ? "The latest 200" : pictures.length} pictures`;
  $("gallery-count").textContent = pictures.length ? count : words ? `No picture has “${shown(words)}”.` : "Nothing was drawn yet.";
  $("gallery-pictures").replaceChildren(...pictures.map((one) => h("li", {},
    h("a", { href: `#${one.conversation}`, title: one.made_from, onclick: () => $("gallery").close() },
      h("img", { src: api.image(one.image, 256), alt: one.made_from, loading: "lazy" }),
      h("span", { class: "name" }, one.title), h("span", { class: "dim" }, `Picture ${one.number} · ${score(one.score)}${one.accepted ? " · accepted" : ""}`)))));
});

export function listenToGallery() {
  let due = null;
  $("gallery-open").addEventListener("click", () => {
    side(false);
    failed("");
    $("gallery").showModal();
    $("gallery-search").focus();
    find();
  });
  $("gallery-close").addEventListener("click", () => $("gallery").close());
  $("gallery-search").addEventListener("input", () => {
    clearTimeout(due);
    due = setTimeout(find, 200);
  });
}
