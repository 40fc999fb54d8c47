// Pictures with the regions that are pointed to, and two pictures under a slider.

import { api } from "./api.js";
import { $, h, percent, shown } from "./dom.js";

// `marks`: [{key, region, kind}], `region` as fractions of width and height, `kind` one of missed, met and place. What
// is missed is always shown, the others while they are pointed to.
export function picture(hash, alt, marks = []) {
  const boxes = marks.filter((one) => one.region).map(({ key, region: [left, top, right, bottom], kind }) =>
    h("span", { class: `box ${kind}`, "data-key": key, "aria-hidden": "true",
      style: { left: percent(left), top: percent(top), width: percent(right - left), height: percent(bottom - top) } }));
  return h("div", { class: "picture" }, h("img", { src: api.image(hash), alt, decoding: "async" }), boxes);
}

// A picture in its full size, in a dialog.
export function showFull(hash, about, name) {
  $("full-picture").src = api.image(hash);
  $("full-picture").alt = about;
  $("full-about").textContent = shown(about);
  $("full-save").href = api.image(hash);
  $("full-save").download = name;
  $("full").showModal();
}

export function listenToFull() {
  $("full-close").addEventListener("click", () => $("full").close());
  $("full").addEventListener("click", (event) => event.target === $("full") && $("full").close());
}

export async function copyPicture(hash) {
  const blob = fetch(api.image(hash)).then((answer) => answer.blob());
  await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
}

// The same for screen readers.
export function where([left, top, right, bottom]) {
  const third = (low, high, names) => names[Math.min(2, Math.floor(1.5 * (low + high)))];
  const down = third(top, bottom, ["top", "middle", "bottom"]);
  const across = third(left, right, ["left", "centre", "right"]);
  return `at the ${down} ${across} of the picture`;
}

// What points to a region: a button that lights it up while it is looked at, and keeps it lit once it is pressed.
export function pointer(key, region, ...content) {
  const button = h("button", { type: "button", class: "pointer", "data-key": key, "aria-pressed": "false" }, ...content,
    h("span", { class: "sr" }, ` Show the place, ${where(region)}.`));
  const near = { pointed: false, focused: false };
  const light = () => {
    const lit = near.pointed || near.focused || button.getAttribute("aria-pressed") === "true";
    button.closest(".frame")?.querySelectorAll(".box").forEach((box) => box.dataset.key === key && box.classList.toggle("lit", lit));
  };
  const on = (name, change) => button.addEventListener(name, () => (change(), light()));
  on("pointerenter", () => (near.pointed = true));
  on("pointerleave", () => (near.pointed = false));
  on("focus", () => (near.focused = true));
  on("blur", () => (near.focused = false));
  on("click", () => button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true")));
  return button;
}

// `names`: what the pictures are called, on them; `descriptions`: the same for screen readers. `at`: where the slider stands at first,
// in percent of what is seen of the first.
export function slider(before, after, names = ["before", "after"], descriptions = names, at = 50) {
  const top = h("img", { src: api.image(before), alt: descriptions[0], class: "over" });
  const knob = h("span", { class: "knob" }, "⇔");
  const line = h("span", { class: "line", "aria-hidden": "true" }, knob);
  const range = h("input", { type: "range", min: 0, max: 100, value: at,
    "aria-label": `Slider between ${names[0]} and ${names[1]}` });
  const move = () => {
    top.style.clipPath = `inset(0 ${100 - range.value}% 0 0)`;
    line.style.left = `${range.value}%`;
    knob.style.translate = `${-range.value}% -50%`; // it stays within the picture at both ends
    range.setAttribute("aria-valuetext", `${range.value}% ${names[0]}, ${100 - range.value}% ${names[1]}`);
  };
  range.addEventListener("input", move);
  move();
  return h("div", { class: "picture compare" }, h("img", { src: api.image(after), alt: descriptions[1] }), top, line,
    h("span", { class: "tag left", "aria-hidden": "true" }, names[0]), h("span", { class: "tag right", "aria-hidden": "true" }, names[1]), range);
}
