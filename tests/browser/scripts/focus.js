// The ring around what has the focus, on it or on what holds it: {name, width, ratio}; null where nothing has it.
() => {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  const channel = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const read = (text) => text.match(/[\d.]+/g).map(Number);
  const chain = (one) => (one ? [one, ...chain(one.parentElement)] : []);
  const ringed = chain(element).slice(0, 3).find((one) => getComputedStyle(one).outlineStyle !== "none") ?? element;
  const style = getComputedStyle(ringed);
  const ground = chain(ringed.parentElement).map((one) => read(getComputedStyle(one).backgroundColor)).find(([, , , a = 1]) => a === 1);
  const [a, b] = [light(read(style.outlineColor)), light(ground)];
  return {
    name: element.outerHTML.slice(0, 120), width: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
    ratio: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05),
  };
}
