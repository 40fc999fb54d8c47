// Painting of a mask: white on black in the size of the picture; what is white may change.

import { $ } from "./dom.js";

// Gives a PNG, or null where it was given up or nothing was painted.
export function paintMask(url) {
  const [dialog, image, canvas] = [$("masking"), $("mask-picture"), $("mask-canvas")];
  const [size, erase] = [$("mask-size"), $("mask-erase")];
  const pen = canvas.getContext("2d");
  let [down, last, painted] = [false, null, false];
  const at = { x: 0.5, y: 0.5 };
  const ends = new AbortController();
  const on = (target, name, hear) => target.addEventListener(name, hear, { signal: ends.signal });

  function stroke(x, y) {
    pen.globalCompositeOperation = erase.getAttribute("aria-pressed") === "true" ? "destination-out" : "source-over";
    pen.strokeStyle = "#fff";
    pen.lineCap = pen.lineJoin = "round";
    pen.lineWidth = (size.value / 100) * Math.max(canvas.width, canvas.height);
    pen.beginPath();
    pen.moveTo(...(last ?? [x, y]));
    pen.lineTo(x, y + 0.01);
    pen.stroke();
    last = [x, y];
    painted = true;
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
  }

  on(canvas, "pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    down = true;
    last = null;
    stroke(...place(event));
  });
  on(canvas, "pointermove", (event) => down && stroke(...place(event)));
  on(canvas, "pointerup", () => (down = false));
  on(canvas, "pointercancel", () => (down = false));
  on(canvas, "keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) {
      at.x = Math.min(1, Math.max(0, at.x + 0.04 * step[0]));
      at.y = Math.min(1, Math.max(0, at.y + 0.04 * step[1]));
    } else if (event.key !== " ") return;
    event.preventDefault();
    if (event.key === " " || event.shiftKey) {
      if (!event.shiftKey) last = null;
      stroke(at.x * canvas.width, at.y * canvas.height);
    } else last = null;
  });
  on(erase, "click", () => erase.setAttribute("aria-pressed", String(erase.getAttribute("aria-pressed") !== "true")));
  on($("mask-clear"), "click", () => {
    pen.clearRect(0, 0, canvas.width, canvas.height);
    painted = false;
  });

  return new Promise((done) => {
    const finish = (blob) => {
      ends.abort();
      if (dialog.open) dialog.close();
      done(blob);
    };
    on(image, "load", () => {
      canvas.width = image.naturalWidth;
      canvas.height = image.naturalHeight;
    });
    on($("mask-cancel"), "click", () => finish(null));
    on(dialog, "cancel", () => finish(null));
    on($("mask-done"), "click", () => {
      if (!painted) return finish(null);
      const whole = document.createElement("canvas");
      [whole.width, whole.height] = [canvas.width, canvas.height];
      const under = whole.getContext("2d");
      under.fillRect(0, 0, whole.width, whole.height);
      under.drawImage(canvas, 0, 0);
      whole.toBlob(finish, "image/png");
    });
    erase.setAttribute("aria-pressed", "false");
    image.src = "";
    image.src = url;
    dialog.showModal();
  });
}
