// The message field: words, what is attached to them, the budget, and which buttons can be pressed now.

import { api } from "./api.js";
import { $, h, shown } from "./dom.js";
import { paintMask } from "./mask.js";
import { failed, live, tried } from "./notices.js";
import { busy, looked, page, queue, waiting } from "./state.js";

const OF_ANY = ["a lighthouse on a rock at dusk, painted in watercolour", "a bakery's sign that says FRESH BREAD, photographed in the morning",
  "three cats and two dogs on a red sofa"];
const OF_MINI = ["two little red stars over a big blue circle, on mint paper", "a large yellow moon to the right of a green heart, no stars please",
  "three small pink circles under a purple square"];

export function restFocus() {
  // Buttons go when they have done their work. On a touch screen the field would bring up the keyboard.
  if (!matchMedia("(pointer: coarse)").matches) $("words").focus({ preventScroll: true });
}

export function controls() {
  const now = busy();
  $("cancel").hidden = !now;
  $("send").textContent = now ? "Queue" : "Send";
  $("rename").disabled = !page.id;
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

// What waits for the turn under way. `send`: sends the first of them now.
export function showQueue(send) {
  const held = !busy() && queue().length > 0;
  const had = $("queue").contains(document.activeElement);
  $("queue").replaceChildren(...queue().map((one, i) => h("li", {}, h("span", { class: "dim" }, i === 0 && held ? "Held" : "Next"),
    h("span", { class: "name" }, one.request),
    i === 0 && held ? h("button", { type: "button", class: "quiet", onclick: send }, "Send now") : null,
    h("button", { type: "button", class: "icon", "aria-label": `Remove from the queue: ${one.request}`, onclick: () => {
      queue().splice(i, 1);
      showQueue(send);
      $("words").focus();
    } }, "✕"))));
  $("queue").hidden = queue().length === 0;
  if (had && !$("queue").contains(document.activeElement)) $("words").focus();
}

// How many pictures the messages to come make; undefined as the conversation has it.
export const variants = () => ($("n").value.trim() ? Number($("n").value) : undefined);

// What is set for the messages to come; the seed is for the next one alone.
export function options() {
  const set = limits();
  for (const [id, name] of [["size", "size"], ["negative", "negative_prompt"], ["search", "search"]]) {
    if ($(id).value.trim()) set[name] = $(id).value.trim();
  }
  for (const id of ["steps", "guidance", "seed"]) if ($(id).value.trim()) set[id] = Number($(id).value);
  return set;
}

export function showOptions(open) {
  $("budget").hidden = !open;
  $("options").setAttribute("aria-expanded", String(open));
}

// The same words and seed once more in the message field, to be changed before they are sent.
export function reuse(request, value) {
  $("words").value = request;
  $("seed").value = value;
  showOptions(true);
  grow();
  $("words").focus();
}

// What a new conversation is drawn with.
export const chosenProfile = () => page.me.profiles.find((one) => one.name === $("profile").value) ?? page.me.profiles[0];

export function showProfiles() {
  const before = $("profile").value;
  $("profile").replaceChildren(...page.me.profiles.map((one) => h("option", { value: one.name }, one.name)));
  if (page.me.profiles.some((one) => one.name === before)) $("profile").value = before;
  $("profiles").hidden = page.me.profiles.length < 2;
  showScope();
}

function showScope() {
  const profile = chosenProfile();
  if (!profile) return ($("scope").textContent = "This server only rewrites: its profiles have no generator, so nothing can be drawn here.");
  const edits = profile.can_edit ? "" : "It draws, and changes no pictures.";
  $("scope").textContent = shown([`${profile.name}:`, profile.description, edits].filter((text) => text).join(" "));
  $("scope").hidden = !profile.description && !edits;
  $("examples").replaceChildren(...(profile.name === "mini" ? OF_MINI : OF_ANY).map((text) =>
    h("button", { type: "button", onclick: () => (($("words").value = text), grow(), $("words").focus()) }, text)));
}

function limits() {
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
  const wrong = [...$("budget").querySelectorAll("input")].find((one) => !one.checkValidity());
  if (wrong) {
    showOptions(true);
    return wrong.reportValidity();
  }
  if (text) return say(text);
  if (page.image) failed(new Error("Say what to do with the picture."));
}

// `say`, `order`, `cancel`: what the conversation does with a message, with what a button says, and with a turn under way.
export function listenToComposer({ say, order, cancel }) {
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
  $("undo").addEventListener("click", () => order("/undo"));
  $("cancel").addEventListener("click", cancel);
  $("options").addEventListener("click", () => showOptions($("budget").hidden));
  $("profile").addEventListener("change", () => {
    showScope();
    budget(chosenProfile().limits);
  });
  for (const id of ["accept", "rounds", "images"]) {
    $(id).addEventListener("input", () => {
      page.changed.add(id);
      $("accept-out").textContent = Number($("accept").value).toFixed(2);
    });
  }
  $("may-ask").addEventListener("change", tried(() => page.id && api.change(page.id, { may_ask: $("may-ask").checked })));
}
