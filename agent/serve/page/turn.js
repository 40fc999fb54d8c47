// One turn on the page.

import { api } from "./api.js";
import { h, score } from "./dom.js";
import { live, tried } from "./notices.js";
import { copyPicture, picture, showFull, slider } from "./pictures.js";
import { fold, frames, fromRecord, rewriteOf, runOf } from "./fold.js";
import { marks, traceOf } from "./trace.js";

const STEPS = { checklist: "Reading your request", plan: "Planning", rewrite: "Thinking about the prompt", render: "Drawing",
  judge: "Judging" };

// What buttons say, in words.
const COMMANDS = [[/^\/compare (\d+) (\d+)$/, "Compare picture $1 with picture $2"], [/^\/back (\d+)$/, "Back to picture $1"],
  [/^\/undo$/, "Undo"], [/^\/redo$/, "Redo"],
  [/^\/again$/, "Go on with it"], [/^\/again \d+$/, "Again"]];
const inWords = (request) => COMMANDS.reduce((text, [pattern, words]) => text.replace(pattern, words), request);

export function doing(turn) {
  if (turn.ahead > 0) return `Waiting: ${turn.ahead === 1 ? "1 picture is" : `${turn.ahead} pictures are`} drawn first`;
  const at = turn.progress;
  if (!at) return "Reading your message";
  return `${STEPS[at.step] ?? at.step}${at.round > 1 ? `, round ${at.round}` : ""}`;
}

function counted(run) {
  const all = frames(run);
  const rounds = new Set(all.map((one) => one.round)).size;
  const edits = all.filter((one) => one.kind !== "generate").length;
  const made = [all.length > edits && `${all.length - edits} drawn`, edits && `${edits} edited`].filter(Boolean).join(", ");
  return made && `${made} in ${rounds === 1 ? "1 round" : `${rounds} rounds`}`;
}

const SEEDS = 2 ** 31;
const copied = (what, work) => tried(async () => {
  await work();
  live(`${what} is on the clipboard`);
});

// `act`: what the page does for a turn: say(request), reuse(request, seed), failed(error).
export class TurnPart {
  constructor(turn, act) {
    this.turn = turn;
    this.act = act;
    this.chosen = null;
    this.picked = null; // number of the picture that is shown, of several
    this.open = null;
    this.loading = null;
    this.request = h("div", { class: "request" });
    this.answer = h("div", { class: "answer" });
    this.bar = h("progress", { max: 1, "aria-label": "Progress of this step" });
    this.element = h("article", { class: "turn", "aria-label": `Turn ${turn.number}` }, h("h3", { class: "sr" }, `Turn ${turn.number}`),
      this.request, this.answer);
    this.parts = { variants: h("div"), figure: h("div"), reply: h("div"), trace: h("div"), tools: h("div") };
    this.step = h("p", { class: "step" });
    this.progress = h("div", { class: "progress", hidden: true }, this.step, this.bar);
    this.answer.append(this.progress, this.parts.variants, this.parts.figure, this.parts.reply, this.parts.tools, this.parts.trace);
    this.shown = {};
  }

  see(name, data) {
    fold(this.turn, name, data);
  }

  // Replaces a part only if what it shows has changed, so that focus, sliders and scrolling stay as they are.
  put(name, key, make) {
    const text = JSON.stringify(key);
    if (this.shown[name] === text) return;
    this.shown[name] = text;
    this.parts[name].replaceChildren(...[make()].flat().filter(Boolean));
  }

  draw(facts) {
    this.facts = facts;
    const { turn } = this;
    const request = JSON.stringify([turn.request, turn.image, turn.mask, turn.asked]);
    if (this.shown.request !== request) {
      this.shown.request = request;
      this.request.replaceChildren(...[
        turn.image ? h("img", { src: api.image(turn.image, 320), alt: "Your picture" }) : null,
        turn.mask ? h("img", { src: api.image(turn.mask, 160), alt: "Your mask", class: "mask" }) : null,
        h("p", {}, h("span", { class: "sr" }, "You: "), inWords(turn.request)),
        ...turn.asked.flatMap((one) => [h("p", { class: "question" }, one.question),
          h("p", {}, h("span", { class: "sr" }, "You: "), one.answer)])].filter(Boolean));
    }
    this.progress.hidden = !turn.working;
    if (turn.working) {
      this.step.textContent = doing(turn);
      const at = turn.progress;
      if (at?.total > 0) this.bar.value = at.done / at.total;
      else this.bar.removeAttribute("value");
    }
    const [first, second] = turn.pictures;
    const several = turn.pictures.length > 1 && turn.kind !== "compare";
    const chosen = several ? this.picked ?? turn.entry?.current : null;
    const shown = turn.entry && turn.pictures.length ? turn.pictures.find((one) => one.number === chosen) ?? turn.pictures.at(-1) : null;
    const run = runOf(turn, shown);
    this.put("variants", [several && turn.entry ? turn.pictures : null, shown?.number], () => (several && turn.entry ? this.variants(shown) : null));
    const best = run?.attempts.find((one) => one.number === run.best && one.image === shown?.image);
    const before = shown?.made === "edited" ? (run?.source ?? facts.imageOf(shown.parent)) : null;
    this.put("figure", [shown?.image, second?.image, turn.kind, before, best?.number], () => {
      if (!shown) return null;
      if (turn.kind === "compare" && second) return slider(first.image, second.image,
        [`picture ${first.number}`, `picture ${second.number}`], [first, second].map((one) => `Picture ${one.number}: ${one.made_from}`));
      const description = `Picture ${shown.number}: ${shown.made_from}`;
      if (before && before !== shown.image) return slider(before, shown.image, ["before", "after"], [`Before: ${description}`, description], 0);
      return picture(shown.image, description, marks(best?.verdicts ?? []).filter((one) => one.kind === "missed"));
    });
    const rewrite = best && rewriteOf(run, best);
    this.put("reply", [run?.best, shown, turn.entry?.reply, turn.failed, turn.waiting, facts.last, run?.warnings, rewrite], () => this.reply(shown, facts, run, rewrite));
    this.put("tools", [shown, facts.last, facts.busy, facts.current, turn.working, run?.seed, best?.prompt], () => this.tools(shown, facts, run, best));
    this.drawn = shown;
    this.drawTrace();
  }

  // The pictures of one message, to look at one after the other.
  variants(shown) {
    return h("div", { class: "strip", role: "group", "aria-label": "Pictures of this message" }, this.turn.pictures.map((one) =>
      h("button", { type: "button", "aria-pressed": String(one.number === shown.number), onclick: () => {
        this.picked = one.number;
        this.chosen = null;
        this.draw(this.facts);
        this.parts.variants.querySelector("[aria-pressed=true]").focus({ preventScroll: true });
      }, "aria-label": `Picture ${one.number}, ${score(one.score)}` },
      h("img", { src: api.image(one.image, 160), alt: "" }), h("span", {}, `${one.number}: ${score(one.score)}`))));
  }

  reply(shown, facts, run, rewrite) {
    const { turn } = this;
    if (turn.failed) return h("p", { class: "warning" }, turn.failed);
    const again = turn.entry?.error && turn.entry.run && facts.last;
    if (turn.waiting) {
      return h("div", { class: "waiting", role: "group", "aria-label": "A question" }, h("p", {}, turn.waiting.question),
        h("div", { class: "choices" }, turn.waiting.choices.map((choice) =>
          h("button", { type: "button", onclick: () => this.act.say(choice), disabled: !facts.last }, choice))));
    }
    if (!turn.entry) return null;
    const failed = run?.attempts.find((one) => one.number === run.best)?.failed ?? 0;
    const judged = shown && ["draw", "edit", "again"].includes(turn.kind) && shown.score !== null;
    const unchecked = shown && turn.kind !== "compare" ? (shown.unchecked ?? []) : [];
    const accepted = shown?.accepted && !unchecked.length;
    // What nothing checks is said once, in a line of its own.
    const warnings = [...new Set(run?.warnings)].filter((text) => !unchecked.length || !text.endsWith(unchecked.join(", ")));
    const words = unchecked.length ? turn.entry.reply.replace(/, but nothing checks: [^;)]*| \(nothing checks: [^)]*\)/g, "") : turn.entry.reply;
    return [judged ? h("p", { class: "result" }, h("span", { class: accepted ? "badge good" : "badge" }, accepted ? "accepted" : "not accepted"),
      h("span", { class: "number" }, score(shown.score)),
      failed ? h("span", { class: "dim" }, failed === 1 ? "1 check could not be judged" : `${failed} checks could not be judged`) : null) : null,
      unchecked.length ? h("p", { class: "warning" }, `Nothing checks: ${unchecked.join(", ")}`) : null,
      rewrite?.fallback ? h("p", { class: "warning" }, "The rewrite was given up: this is drawn from your own words.") : null,
      ...warnings.map((text) => h("p", { class: "warning" }, text)),
      h("p", { class: turn.entry.error ? "warning" : "words" }, words),
      again ? h("button", { type: "button", onclick: () => this.act.say("/again") }, "Go on with it") : null];
  }

  tools(shown, facts, run, best) {
    const { turn } = this;
    if (!shown || turn.working) return null;
    const button = (name, act) => h("button", { type: "button", class: "quiet", onclick: act, disabled: facts.busy }, name);
    const free = (name, act) => h("button", { type: "button", class: "quiet", onclick: act }, name);
    const drawn = ["draw", "edit"].includes(turn.kind);
    const seed = drawn && Number.isSafeInteger(run?.seed) ? run.seed : null; // larger ones cannot be held here
    const before = shown.number > 1 && turn.kind !== "compare";
    return h("div", { class: "tools", role: "group", "aria-label": `Picture ${shown.number}` },
      facts.current !== shown.number ? button(`Back to picture ${shown.number}`, () => this.act.say(`/back ${shown.number}`)) : null,
      before ? button(`Compare with picture ${shown.parent ?? shown.number - 1}`, () =>
        this.act.say(`/compare ${shown.parent ?? shown.number - 1} ${shown.number}`)) : null,
      drawn && facts.current === shown.number ? button("Again", () => this.act.say(`/again ${Math.floor(Math.random() * SEEDS)}`)) : null,
      seed === null ? null : free("Reuse seed", () => this.act.reuse(shown.made_from, seed)),
      best ? free("Copy prompt", copied("The prompt", () => navigator.clipboard.writeText(best.prompt))) : null,
      free("Copy picture", copied("The picture", () => copyPicture(shown.image))),
      free("Full size", () => showFull(shown.image, `Picture ${shown.number}: ${shown.made_from}`, `redraft-${shown.number}.png`)),
      h("a", { class: "quiet", href: api.image(shown.image), download: `redraft-${shown.number}.png` }, "Download"));
  }

  drawTrace() {
    const { turn } = this;
    const run = runOf(turn, this.drawn);
    const id = run?.id ?? (turn.entry?.run && (this.drawn?.run ?? turn.entry.run));
    if (!id) return;
    const open = this.open ?? turn.working;
    const counts = run ? counted(run) : "";
    const replied = Boolean(turn.entry && !turn.failed && !turn.waiting);
    this.put("trace", [id, replied, run && frames(run), run?.best, run?.stop, run?.checks.length, [...(run?.rounds ?? [])], run?.warnings, this.chosen, open], () => {
      const focused = this.parts.trace.querySelector(".strip")?.contains(document.activeElement);
      const toggled = (event) => {
        event.preventDefault();
        this.open = !(this.open ?? turn.working);
        this.refresh();
      };
      const details = h("details", { open }, h("summary", { onclick: toggled }, "Trace", h("span", { class: "dim" }, counts ? ` · ${counts}` : "")));
      if (open && run) details.append(traceOf(run, this.chosen, (index) => {
        this.chosen = index;
        this.focus = true;
        this.drawTrace();
      }, replied));
      if (open && !run) this.load(id);
      const focus = focused || this.focus;
      this.focus = false;
      queueMicrotask(() => {
        const strip = this.parts.trace.querySelector(".strip");
        const pressed = strip?.querySelector("[aria-pressed=true]");
        if (!pressed) return;
        strip.scrollLeft = Math.max(pressed.offsetLeft + pressed.offsetWidth + 8 - strip.clientWidth, Math.min(strip.scrollLeft, pressed.offsetLeft - 8));
        if (focus) pressed.focus({ preventScroll: true });
      });
      return details;
    });
  }

  refresh() {
    const had = this.parts.trace.contains(document.activeElement);
    this.drawTrace();
    if (had) this.parts.trace.querySelector("summary")?.focus({ preventScroll: true });
  }

  // The trace of a run that was made before this conversation was branched, from its record.
  async load(id) {
    if (this.loading === id) return;
    this.loading = id;
    try {
      this.turn.run = fromRecord(id, await api.run(id));
      this.turn.runs.set(id, this.turn.run);
      this.draw(this.facts); // its warnings and its seed stand with the reply
    } catch (error) {
      this.act.failed(error);
      this.loading = null;
    }
  }
}
