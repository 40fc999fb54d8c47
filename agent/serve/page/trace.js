// The trace of a run: thoughts, attempts as a filmstrip, verdicts, scores.

import { api } from "./api.js";
import { h, s, score } from "./dom.js";
import { picture, pointer } from "./pictures.js";
import { frames, rewriteOf } from "./fold.js";

const words = (text) => text.replaceAll("_", " ");
// Questions about the whole quote the user between tags that are meant for the judge.
const readable = (question) => question.replace(/\s*<(user_prompt\w*)>\s*([^]*?)\s*<\/\1>\s*/g, " “$2” ").trim();
const outcome = (one) => (one.outcome === "not_applicable" ? "left out" : one.outcome !== "scored" ? "no answer" : one.passed ? "met" : "missed");

export const marks = (verdicts) => verdicts.map((one) => ({ key: one.question, region: one.region, kind: outcome(one) === "missed" ? "missed" : "met" }));

export function plot(run) {
  const dots = run.attempts.filter((one) => one.score !== null).sort((a, b) => a.number - b.number);
  if (dots.length === 0) return null;
  const [width, height, pad] = [360, 120, 24];
  // Over the denoiser steps that were spent, if the generator counts them, else over the attempts.
  const counts = run.attempts.every((one) => one.denoiser_steps > 0);
  let spent = 0;
  const at = new Map([...run.attempts].sort((a, b) => a.number - b.number)
    .map((one) => [one.number, (spent += counts ? one.denoiser_steps : 1)]));
  const [first, last] = [Math.min(...at.values()), Math.max(...at.values())];
  const x = (number) => pad + 8 + ((at.get(number) - first) / Math.max(1, last - first)) * (width - 2 * pad - 8);
  const y = (value) => height - pad - value * (height - 1.5 * pad);
  let high = 0;
  const steps = dots.map((one) => {
    if (!one.draft) high = Math.max(high, one.score);
    return `${x(one.number).toFixed(1)},${y(high).toFixed(1)}`;
  });
  const firsts = dots.filter((one, i) => i === 0 || dots[i - 1].round !== one.round);
  const summary = dots.map((one) => `attempt ${one.number} of round ${one.round}: ${score(one.score)}`).join("; ");
  return h("figure", { class: "plot" },
    s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Scores. ${summary}` },
      s("path", { class: "axis", d: `M${pad},${y(1)}V${y(0)}H${width - pad / 2}` }),
      [0, 1].map((value) => s("text", { x: pad - 6, y: y(value) + 4, "text-anchor": "end" }, String(value))),
      firsts.map((one) => s("g", {}, s("path", { class: "round", d: `M${x(one.number) - 8},${y(0)}V${y(1)}` }),
        s("text", { x: x(one.number) - 4, y: height - 6 }, `round ${one.round}`))),
      run.acceptAt === null ? null : s("path", { class: "accept", d: `M${pad},${y(run.acceptAt)}H${width - pad / 2}` }),
      s("polyline", { points: steps.join(" ") }),
      dots.map((one) => s("circle", { cx: x(one.number), cy: y(one.score), r: one.draft ? 2 : one.number === run.best ? 5 : 3.5,
        class: one.number === run.best ? "best" : "" }))),
    h("figcaption", {}, `Score of each attempt${counts ? ` over ${spent} denoiser steps` : ""}; the line is the best so far, ` +
      "dashes are the score that is needed."));
}

function verdict(one) {
  const came = outcome(one);
  const sign = { met: "✓", missed: "✕", "no answer": "?", "left out": "–" }[came];
  const sure = one.outcome === "scored" ? one.probability : null;
  const question = readable(one.question);
  return h("li", { class: came.replace(" ", "-") },
    h("span", { class: "sign", "aria-hidden": "true" }, sign),
    h("span", { class: "question" }, one.region ? pointer(one.question, one.region, question) : question, h("span", { class: "sr" }, ` ${came}.`),
      one.reason ? h("span", { class: "dim reason" }, one.reason) : null),
    h("span", { class: "point" }, words(one.key_point)),
    sure === null ? h("span", {}) : h("span", { class: "sure", title: `P(yes) ${sure.toFixed(3)}` }, sure.toFixed(2)));
}

// What the criteria say, if there are others than the checks.
function readings(one) {
  const rows = Object.entries(one.readings ?? {});
  if (!rows.some(([name]) => name !== "checks")) return null;
  const said = rows.map(([name, row]) => `${words(name)} ${row.value === null ? words(row.outcome) : row.value.toFixed(2)}`);
  return h("p", { class: "dim" }, said.join(" · "));
}

// The pictures that an edit was thought out with: where it is to change something, and what is to come.
function areas(step) {
  const shown = [["Where, in white", step.area], [`To come: ${step.draft}`, step.drafted]].filter(([, image]) => image);
  if (shown.length === 0) return null;
  return h("div", { class: "areas" }, shown.map(([what, image]) => h("figure", {},
    h("img", { src: api.image(image, 160), alt: what }), h("figcaption", { class: "dim" }, what))));
}

// The draft whose noise a picture comes from.
function lineage(run, one) {
  const from = one.kind === "generate" && one.parent ? run.attempts.find((each) => each.image === one.parent) : null;
  return from ? h("span", { class: "dim" }, ` · ${one.draft ? "child of" : "finished from"} attempt ${from.number}`) : null;
}

function frame(run, one) {
  const round = run.rounds.get(one.round);
  const rewrite = rewriteOf(run, one);
  const plan = round?.planned ?? null;
  const decided = round?.decided ?? null;
  const fate = round?.pruned.find((each) => each.number === one.number);
  const step = one.kind === "generate" ? null : plan?.steps[plan.at] ?? null;
  const name = one.number === null ? "An attempt, not judged yet" : `Attempt ${one.number}`;
  const own = one.kind === "generate" && one.prompt === run.request;
  const place = step?.region ? { key: "the plan's place", region: step.region, kind: "place" } : null;
  return h("div", { class: "frame", role: "group", "aria-label": name },
    picture(one.image, `${name}: ${one.prompt}`, [...marks(one.verdicts), ...(place ? [place] : [])]),
    h("div", { class: "about" },
      h("p", { class: "facts" }, h("strong", {}, name), ` · round ${one.round}${one.seed === undefined ? "" : ` · seed ${one.seed}`} · `,
        one.number === null ? (run.stop ? "not judged" : "being judged") : one.unchanged ? "came back unchanged" : score(one.score),
        one.draft ? h("span", { class: "mark draft" }, "draft") : null, lineage(run, one),
        one.number !== null && one.number === run.best ? h("span", { class: "mark" }, "best") : null),
      plan && step ? h("p", {}, h("span", { class: "label" }, "Plan"), place ? pointer(place.key, place.region, plan.reason) : plan.reason) : null,
      step ? areas(step) : null,
      rewrite?.thought ? h("p", { class: "thought" }, h("span", { class: "label" }, "Thought"), rewrite.thought) : null,
      h("p", { class: "prompt" }, h("span", { class: "label" }, one.kind !== "generate" ? "Instruction" : own ? "Prompt, in your own words" : "Prompt"), one.prompt),
      rewrite?.negative_prompt ? h("p", { class: "prompt" }, h("span", { class: "label" }, "Negative prompt"), rewrite.negative_prompt) : null,
      rewrite?.fallback ? h("p", { class: "warning" }, "The rewrite was given up: this is drawn from your own words.") : null,
      rewrite?.findings?.length ? h("div", {}, h("p", { class: "label" }, "Guard"),
        h("ul", { class: "findings", "aria-label": "What the guard found" }, rewrite.findings.map((text) => h("li", {}, text)))) : null,
      fate ? h("p", { class: "dim" }, `Candidate: ${words(fate.fate)}, confidence ${score(fate.confidence)}`) : null,
      readings(one),
      one.verdicts.length ? h("ul", { class: "verdicts", "aria-label": "Verdicts" }, one.verdicts.map(verdict)) : null,
      decided && !decided.stop ? h("p", { class: "dim" }, `After round ${one.round} it went on: ${decided.why}.`) : null));
}

// `chosen`: index of the frame that is looked at, null for the best or latest. `said`: whether the warnings stand with the reply. Gives
// the element.
export function traceOf(run, chosen, choose, said) {
  const all = frames(run);
  const best = all.findIndex((one) => one.number !== null && one.number === run.best);
  const index = chosen !== null && chosen < all.length ? chosen : best >= 0 ? best : all.length - 1;
  const thought = [...run.rounds.values()].flatMap((round) => round.rewrites).at(-1);
  const strip = h("div", { class: "strip", role: "group", "aria-label": "Attempts. The arrow keys go from one to the next." },
    all.map((one, i) => h("button", { type: "button", tabindex: i === index ? 0 : -1, "aria-pressed": String(i === index), "data-index": i, class: one.draft ? "draft" : "",
      onclick: () => choose(i, true), "aria-label": one.number === null ? "An attempt, not judged yet" : `${one.draft ? "Draft" : "Attempt"} ${one.number}, ${score(one.score)}` },
      h("img", { src: api.image(one.image, 160), alt: "" }),
      h("span", {}, one.number === null ? "…" : score(one.score), one.number !== null && one.number === run.best ? " ★" : ""))));
  strip.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const to = step ? index + step : event.key === "Home" ? 0 : event.key === "End" ? all.length - 1 : null;
    if (to === null) return;
    event.preventDefault();
    if (to >= 0 && to < all.length) choose(to, true);
  });
  const checks = h("ul", { class: "checks" }, run.checks.map((one) => h("li", {}, readable(one.question))));
  return h("div", { class: "trace" },
    all.length === 0 && thought?.thought ? h("p", { class: "thought" }, h("span", { class: "label" }, "Thought"), thought.thought) : null,
    all.length === 0 && run.checks.length ? h("div", {}, h("p", { class: "label" }, "What will be judged"), checks) : null,
    all.length ? strip : null,
    all.length ? frame(run, all[index]) : null,
    plot(run),
    said ? null : run.warnings.map((text) => h("p", { class: "warning" }, text)),
    run.why && !said ? h("p", { class: "dim" }, `Stopped: ${run.stop} — ${run.why}.`) : null,
    run.error && !said ? h("p", { class: "warning" }, run.error) : null,
    run.id && run.stop ? h("p", { class: "row" }, h("a", { href: api.trace(run.id), target: "_blank", rel: "noopener" }, "The whole trace as a page"),
      h("a", { href: api.trace(run.id), download: `redraft-${run.id}.html` }, "Save it as one file")) : null);
}
