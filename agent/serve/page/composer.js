// The message field: words, what is attached to them, the budget, and which buttons can be pressed now.

import { api } from "./api.js";
import { $, h } from "./dom.js";
import { paintMask } from "./mask.js";
import { failed, live, tried } from "./notices.js";
import { busy, looked, page, waiting } from "./state.js";

const EXAMPLES = ["two little red stars over a big blue circle, on mint paper", "a large yellow moon to the right of a green heart, no stars please",
  "three small pink circles under a purple square"];

export function restFocus() {
  // Buttons go when they have done their work. On a touch screen the field would bring up the keyboard.
  if (!matchMedia("(pointer: coarse)").matches) $("words").focus({ preventScroll: true });
}

export function controls() {
  const now = busy();
  $("cancel").hidden = !now;
  $("send").hidden = now;
  $("branch").hidden = $("export").hidden = !page.id || now;
  $("undo").disabled = now || page.current === 0;
  $("paint").disabled = !looked();
  $("words").placeholder = waiting() ? "Your answer" : page.current ? "What to change, or what to draw next" : "What to draw";
}

export function attached() {
  const box = $("attached");
  const one = (hash, name, drop) => h("span", { class: "chip" }, h("img", { src: api.image(hash, 160), alt: name }),
    h("button", { type: "button", class: "icon", "aria-label": `Remove: ${name}`, onclick: drop }, "✕"));
  box.replaceChildren(...[
    page.image && one(page.image, "your picture", () => ((page.image = page.mask = null), attached())),
    page.mask && one(page.mask, "your mask", () => ((page.mask = null), attached()))].filter(Boolean));
  box.hidden = !box.childElementCount;
  controls();
}

export function limits() {
  const chosen = {};
  for (const [id, name] of [["accept", "accept_at"], ["rounds", "max_rounds"], ["images", "max_images"]]) {
    if (page.changed.has(id)) chosen[name] = Number($(id).value);
  }
  return chosen;
}

export function budget(values) {
  page.changed.clear();
  $("accept").value = values.accept_at;
  $("rounds").value = values.max_rounds;
  $("images").value = values.max_images;
  $("rounds").max = page.me.limits.max_rounds;
  $("images").max = page.me.limits.max_images;
  $("accept-out").textContent = Number($("accept").value).toFixed(2);
}

const take = tried(async (file) => {
  if (!file) return;
  failed("");
  if (file.size > page.me.limits.max_image_bytes) throw new Error("That file is larger than this server takes.");
  live("Uploading the picture");
  page.image = (await api.upload(file)).image;
  page.mask = null;
  live("The picture is attached");
  attached();
  $("words").focus();
});

export function grow() {
  const field = $("words");
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight, 220)}px`;
}

function send(say) {
  const text = $("words").value.trim();
  if (text) return say(text);
  if (page.image) failed(new Error("Say what to do with the picture."));
}

// `say`, `cancel`: what the conversation does with a message, and with a turn under way.
export function listenToComposer({ say, cancel }) {
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send(say);
  });
  $("words").addEventListener("input", grow);
  $("words").addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      send(say);
    }
  });
  document.addEventListener("paste", (event) => {
    if (document.querySelector("dialog[open]")) return;
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (file) {
      event.preventDefault();
      take(file);
    }
  });
  const files = (event) => event.dataTransfer?.types.includes("Files");
  const free = () => document.querySelector("dialog[open]") === null;
  let over = null;
  const dragged = (here) => {
    clearTimeout(over);
    $("drop").hidden = !here;
    if (here) over = setTimeout(dragged, 700, false); // a drag that is cancelled is not reported by all browsers
  };
  document.addEventListener("dragover", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    dragged(free());
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && dragged(false));
  document.addEventListener("drop", (event) => {
    dragged(false);
    if (!files(event)) return;
    event.preventDefault();
    if (free()) take(event.dataTransfer.files[0]);
  });
  $("attach").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    take($("file").files[0]);
    $("file").value = "";
  });
  $("paint").addEventListener("click", tried(async () => {
    const painted = await paintMask(api.image(looked()));
    if (!painted) return $("paint").focus();
    page.mask = (await api.upload(painted, true)).image;
    live("The mask is attached");
    attached();
    $("words").focus();
  }));
  $("undo").addEventListener("click", () => say("/undo"));
  $("cancel").addEventListener("click", cancel);
  $("options").addEventListener("click", () => {
    $("budget").hidden = !$("budget").hidden;
    $("options").setAttribute("aria-expanded", String(!$("budget").hidden));
  });
  for (const id of ["accept", "rounds", "images"]) {
    $(id).addEventListener("input", () => {
      page.changed.add(id);
      $("accept-out").textContent = Number($("accept").value).toFixed(2);
    });
  }
  $("may-ask").addEventListener("change", tried(() => page.id && api.change(page.id, { may_ask: $("may-ask").checked })));
  for (const text of EXAMPLES) $("examples").append(h("button", { type: "button", onclick: () => (($("words").value = text), grow(), $("words").focus()) }, text));
}
