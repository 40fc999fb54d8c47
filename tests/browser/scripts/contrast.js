// The contrast of all text that is seen, by WCAG 2.2: [{text, ratio, least}]. `within`: a selector, or all of the page.
(within) => {
  const channel = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const read = (text) => {
    const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number);
    return text.startsWith("color(") ? [255 * r, 255 * g, 255 * b, a] : [r, g, b, a];
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((v, i) => a * v + (1 - a) * under[i]);
  const chain = (element) => (element ? [...chain(element.parentElement), element] : []);
  const opacity = (element) => chain(element).reduce((all, one) => all * Number(getComputedStyle(one).opacity), 1);

  // Pictures are of any colour: what lies on one is held against white and black.
  function grounds(element) {
    let under = [[255, 255, 255]];
    for (const one of chain(element)) {
      if (one.matches(".picture")) under = [[255, 255, 255], [0, 0, 0]];
      under = under.map((ground) => over(read(getComputedStyle(one).backgroundColor), ground));
    }
    return under;
  }

  function look(element, text, style) {
    const [r, g, b, a] = read(element.ownerSVGElement ? style.fill : style.color);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratios = grounds(element).map((ground) => ratio(over([r, g, b, a * opacity(element)], ground), ground));
    return { text: text.trim().slice(0, 60), ratio: Number(Math.min(...ratios).toFixed(2)), least: large ? 3 : 4.5 };
  }

  const hidden = (element) => chain(element).some((one) => getComputedStyle(one).clipPath.includes("50%") || one.matches(".skip"));
  const seen = [];
  for (const element of document.querySelectorAll(within ? `${within} *` : "body *")) {
    if (!element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) || element.closest(":disabled") || hidden(element)) continue;
    const own = [...element.childNodes].filter((one) => one.nodeType === Node.TEXT_NODE).map((one) => one.textContent).join("");
    if (own.trim()) seen.push(look(element, own, getComputedStyle(element)));
    if (element.matches("input, textarea") && element.placeholder) seen.push(look(element, element.placeholder, getComputedStyle(element, "::placeholder")));
    if (element.matches("input") && element.type !== "range" && element.value) seen.push(look(element, element.value, getComputedStyle(element)));
  }
  return seen;
}
