// Painting of a mask: white on black in the size of the picture; what is white may change.

import { $, percent } from "./dom.js";

// What is painted has to be seen on pictures of any colour: stripes of two that are far from one another.
function hatched(pen) {
  const tile = document.createElement("canvas");
  const side = Math.max(4, 2 * Math.round(Math.max(pen.canvas.width, pen.canvas.height) / 64));
  tile.width = tile.height = side;
  const drawn = tile.getContext("2d");
  drawn.fillStyle = "#fff";
  drawn.fillRect(0, 0, side, side);
  drawn.fillStyle = "#b3126b";
  drawn.beginPath();
  for (const [first, ...others] of [[[0, 0], [0.5, 0], [0, 0.5]], [[1, 0], [1, 0.5], [0.5, 1], [0, 1]]]) {
    drawn.moveTo(side * first[0], side * first[1]);
    for (const [x, y] of others) drawn.lineTo(side * x, side * y);
  }
  drawn.fill();
  return pen.createPattern(tile, "repeat");
}

// Gives a PNG, or null if the user cancelled or painted nothing.
export function paintMask(url) {
  const [dialog, image, canvas] = [$("masking"), $("mask-picture"), $("mask-canvas")];
  const [size, erase] = [$("mask-size"), $("mask-erase")];
  const brush = $("mask-brush");
  const pen = canvas.getContext("2d");
  let [down, last, paint] = [false, null, null];
  const at = { x: 0.5, y: 0.5 };
  const ends = new AbortController();
  const on = (target, name, hear) => target.addEventListener(name, hear, { signal: ends.signal });

  function stroke(x, y) {
    pen.globalCompositeOperation = erase.getAttribute("aria-pressed") === "true" ? "destination-out" : "source-over";
    pen.strokeStyle = paint;
    pen.lineCap = pen.lineJoin = "round";
    pen.lineWidth = (size.value / 100) * Math.max(canvas.width, canvas.height);
    pen.beginPath();
    pen.moveTo(...(last ?? [x, y]));
    pen.lineTo(x, y + 0.01);
    pen.stroke();
    last = [x, y];
  }

  function show(x, y) {
    Object.assign(at, { x, y });
    const wide = (size.value / 100) * Math.max(1, canvas.height / canvas.width);
    Object.assign(brush.style, { left: percent(x), top: percent(y), width: percent(wide) });
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    show((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    return [at.x * canvas.width, at.y * canvas.height];
  }

  on(canvas, "pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    down = true;
    last = null;
    stroke(...place(event));
  });
  on(canvas, "pointermove", (event) => {
    const to = place(event);
    if (down) stroke(...to);
  });
  on(canvas, "pointerup", () => (down = false));
  on(canvas, "pointercancel", () => (down = false));
  on(canvas, "keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) {
      show(Math.min(1, Math.max(0, at.x + 0.04 * step[0])), Math.min(1, Math.max(0, at.y + 0.04 * step[1])));
    } else if (event.key !== " ") return;
    event.preventDefault();
    if (event.key === " " || event.shiftKey) {
      if (!event.shiftKey) last = null;
      stroke(at.x * canvas.width, at.y * canvas.height);
    } else last = null;
  });
  on(size, "input", () => show(at.x, at.y));
  on(erase, "click", () => erase.setAttribute("aria-pressed", String(erase.getAttribute("aria-pressed") !== "true")));
  on($("mask-clear"), "click", () => pen.clearRect(0, 0, canvas.width, canvas.height));

  return new Promise((done) => {
    const finish = (blob) => {
      ends.abort();
      if (dialog.open) dialog.close();
      done(blob);
    };
    on(image, "load", () => {
      canvas.width = image.naturalWidth;
      canvas.height = image.naturalHeight;
      paint = hatched(pen);
      show(0.5, 0.5);
    });
    on($("mask-cancel"), "click", () => finish(null));
    on(dialog, "cancel", () => finish(null));
    on($("mask-done"), "click", () => {
      const painted = pen.getImageData(0, 0, canvas.width, canvas.height).data.some((value, i) => i % 4 === 3 && value > 0);
      if (!painted) return finish(null);
      const whole = document.createElement("canvas");
      [whole.width, whole.height] = [canvas.width, canvas.height];
      const under = whole.getContext("2d");
      pen.globalCompositeOperation = "source-in"; // all that is painted becomes white
      pen.fillStyle = "#fff";
      pen.fillRect(0, 0, canvas.width, canvas.height);
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
