// Elements from data. Strings become text nodes, never markup; marks that change the direction of text are shown.

const SVG = "http://www.w3.org/2000/svg";

const DIRECTIONS = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
export const shown = (value) =>
  typeof value === "string" ? value.replace(DIRECTIONS, (mark) => `<U+${mark.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}>`) : value;

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : name === "value" ? String(value) : shown(String(value)));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false).map(shown));
  return element;
}

export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const s = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
export const $ = (id) => document.getElementById(id);
export const percent = (part) => `${(100 * part).toFixed(2)}%`;
export const score = (value) => (value === null || value === undefined ? "no score" : value.toFixed(2));
