// What is known of a conversation, folded from its events; and of a run that was made elsewhere, from its record.

const newRun = () => ({ id: null, request: "", seed: null, source: null, acceptAt: null, checks: [], rounds: new Map(), drawn: [], attempts: [],
  warnings: [], best: null, stop: null, why: "", error: null });

export const newTurn = (number) => ({ number, request: "", image: null, mask: null, kind: "", reason: "", by: "", run: null, runs: new Map(), entry: null,
  pictures: [], file: null, waiting: null, asked: [], failed: null, working: false, progress: null, ahead: 0 });

export function round(run, number) {
  if (!run.rounds.has(number)) run.rounds.set(number, { rewrites: [], planned: null, decided: null, pruned: [] });
  return run.rounds.get(number);
}

// The rewrite that an attempt was drawn from; null for an edit.
export const rewriteOf = (run, attempt) =>
  run.rounds.get(attempt.round)?.rewrites.find((one) => one.prompt === attempt.prompt) ?? null;

// The run that made a picture of a turn; while it is worked on, the latest. Null: none is known.
export const runOf = (turn, picture) => (picture && turn.entry?.run ? turn.runs.get(picture.run) ?? null : turn.run);

// Changes a turn by one event.
export function fold(turn, name, data) {
  const run = turn.run ?? newRun();
  switch (name) {
    case "turn_queued":
      if (turn.waiting) {
        turn.asked.push({ question: turn.waiting.question, answer: data.request });
        turn.waiting = null;
      } else {
        turn.request = data.request;
        turn.image = data.image;
        turn.mask = data.mask;
      }
      turn.working = true;
      break;
    case "turn_began":
      turn.kind = data.kind;
      turn.reason = data.reason;
      turn.by = data.by;
      break;
    case "run_started":
      turn.run = { ...newRun(), id: data.run, request: data.request, seed: data.seed, source: data.source, acceptAt: data.limits.accept_at };
      turn.runs.set(data.run, turn.run); // one for each picture that was wanted
      break;
    case "progress":
      turn.progress = data;
      // A drawing in line is asked now and then whether it is still wanted: progress of nothing, of a total of 0.
      if (data.step !== "render" || data.total > 0) turn.ahead = 0;
      break;
    case "queue":
      turn.ahead = data.ahead;
      break;
    case "checklist":
      run.checks = data.checks;
      break;
    case "planned":
      round(run, data.round).planned = data;
      break;
    case "rewrite":
      round(run, data.round).rewrites.push(data);
      break;
    case "image":
      run.drawn.push(data);
      break;
    case "attempt":
      run.attempts.push(data);
      break;
    case "pruned":
      round(run, data.round).pruned = data.branches;
      break;
    case "decided":
      round(run, data.round).decided = data;
      run.best = data.best ?? run.best;
      break;
    case "warning":
      (turn.run ? run.warnings : []).push(data.text);
      break;
    case "run_finished":
      Object.assign(run, { best: data.best, stop: data.stop, why: data.why, error: data.error });
      break;
    case "clarify":
      turn.waiting = { question: data.question, choices: data.choices };
      turn.working = false;
      break;
    case "replied":
      turn.entry = data.entry;
      turn.kind = data.entry.kind; // what "again" made is a drawing or an edit
      turn.request ||= data.entry.request;
      turn.pictures = data.pictures;
      turn.file = data.file;
      turn.working = false;
      break;
    case "failed":
      turn.failed = data.error;
      turn.working = false;
      break;
  }
}

// The turns of a view, which has replies and no traces.
export function fromView(view) {
  const turns = new Map();
  for (const entry of view.turns) {
    const turn = newTurn(entry.turn);
    turn.request = entry.request;
    turn.kind = entry.kind;
    turn.entry = entry;
    turn.pictures = entry.pictures.map((number) => view.pictures.find((one) => one.number === number)).filter(Boolean);
    if (entry.question) turn.asked.push({ question: entry.question, answer: entry.answer });
    turns.set(entry.turn, turn);
  }
  return turns;
}

// A run from its run.json, as its events would have made it.
export function fromRecord(id, record) {
  const run = { ...newRun(), id, request: record.request, seed: record.seed, source: record.source ?? null, acceptAt: record.limits.accept_at, checks: record.checklist ?? [],
    warnings: record.warnings ?? [] };
  for (const one of record.rounds) {
    const kept = round(run, one.round);
    kept.rewrites = one.rewrites ?? [];
    kept.planned = one.plan ?? null;
    kept.pruned = one.branches ?? [];
    if (one.decision) kept.decided = { ...one.decision, best: one.decision.best === null ? null : one.decision.best + 1 };
  }
  const passAt = record.limits.pass_at;
  run.attempts = record.attempts.map((one) => ({ ...one, image: one.sha256, readings: one.report.readings,
    verdicts: one.report.verdicts.map((v) => ({ ...v, ...v.check, passed: v.outcome === "scored" && v.probability >= passAt })) }));
  return Object.assign(run, { best: record.best, stop: record.stop, why: record.why ?? "", error: record.error });
}

// Frames of the filmstrip: attempts, then pictures that are not judged yet.
export function frames(run) {
  const judged = [...run.attempts].sort((a, b) => a.number - b.number);
  const left = [...judged];
  const waiting = run.drawn.filter((drawn) => {
    const found = left.findIndex((one) => one.image === drawn.image && one.seed === drawn.seed);
    if (found >= 0) left.splice(found, 1);
    return found < 0;
  });
  return [...judged, ...waiting.map((drawn) => ({ ...drawn, number: null, score: null, verdicts: [], kind: run.source === null ? "generate" : "edit" }))];
}
