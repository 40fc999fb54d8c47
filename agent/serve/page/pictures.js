// Pictures with the regions that verdicts point to, and two pictures under a slider.

import { api } from "./api.js";
import { h, percent } from "./dom.js";

export function picture(hash, alt, verdicts = []) {
  const boxes = verdicts.filter((one) => one.region).map((one) => {
    const [left, top, right, bottom] = one.region;
    return h("span", { class: one.passed ? "box passed" : "box", "data-question": one.question, "aria-hidden": "true",
      style: { left: percent(left), top: percent(top), width: percent(right - left), height: percent(bottom - top) } });
  });
  return h("div", { class: "picture" }, h("img", { src: api.image(hash), alt, decoding: "async" }), boxes);
}

export function slider(before, after, words = ["before", "after"]) {
  const top = h("img", { src: api.image(before), alt: `Picture ${words[0]}`, class: "over" });
  const line = h("span", { class: "line", "aria-hidden": "true" });
  const range = h("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": `How much of the picture ${words[0]} is shown` });
  const move = () => {
    top.style.clipPath = `inset(0 ${100 - range.value}% 0 0)`;
    line.style.left = `${range.value}%`;
    range.setAttribute("aria-valuetext", `${range.value}% ${words[0]}`);
  };
  range.addEventListener("input", move);
  move();
  return h("div", { class: "picture compare" }, h("img", { src: api.image(after), alt: `Picture ${words[1]}` }), top, line,
    h("span", { class: "tag left", "aria-hidden": "true" }, words[0]), h("span", { class: "tag right", "aria-hidden": "true" }, words[1]), range);
}
