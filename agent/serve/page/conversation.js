// The conversation that is open: its turns as their events come in, and sending requests.

import { api, follow } from "./api.js";
import { attached, budget, chosenProfile, controls, grow, options, restFocus, reuse, showProfiles, showQueue, variants } from "./composer.js";
import { $, shown } from "./dom.js";
import { failed, live, tried } from "./notices.js";
import { showConversations, side } from "./sidebar.js";
import { busy, list, page, queue, waiting } from "./state.js";
import { fromView, newTurn } from "./fold.js";
import { TurnPart, doing } from "./turn.js";

// Drawing

let due = false;
function draw() {
  if (due) return;
  due = true;
  setTimeout(() => {
    due = false;
    const parts = list();
    const facts = { busy: busy(), current: page.current, imageOf: (number) => page.pictures.get(number)?.image ?? null };
    parts.forEach((part, i) => part.draw({ ...facts, last: i === parts.length - 1 }));
    $("welcome").hidden = parts.length > 0;
    controls();
    showQueue(sendNext);
    keepUp();
  }, 20);
}

// The latest turn is kept in view while it grows, from its beginning on, until the user scrolls or goes elsewhere in it.
let following = true;
const latest = () => {
  const box = $("scroll");
  const low = box.scrollHeight - box.clientHeight;
  return Math.max(0, Math.min(low, $("turns").lastElementChild?.offsetTop ?? low));
};
const keepUp = () => following && ($("scroll").scrollTop = latest());

// Turns

function clear() {
  page.stop?.();
  Object.assign(page, { id: null, view: null, turns: new Map(), pictures: new Map(), current: 0, image: null, mask: null, stop: null });
  $("turns").replaceChildren();
  $("title").textContent = "New conversation";
  $("of").textContent = "";
  document.title = "redraft";
  link("none");
  failed("");
}

function part(number) {
  if (!page.turns.has(number)) add(newTurn(number));
  return page.turns.get(number);
}

function add(turn) {
  const made = new TurnPart(turn, { say: order, failed, reuse });
  page.turns.set(turn.number, made);
  page.turns = new Map([...page.turns].sort(([a], [b]) => a - b));
  $("turns").append(...list().map((one) => one.element));
}

export const open = tried(async (id) => {
  clear();
  side(false);
  if (!id) {
    showProfiles();
    if (chosenProfile()) budget(chosenProfile().limits);
    $("may-ask").checked = true;
    draw();
    await showConversations();
    return;
  }
  page.id = id;
  let view;
  try {
    view = await api.view(id);
  } catch (error) {
    if (error.status !== 404) throw error;
    page.id = null;
    history.replaceState(null, "", "#");
    await showConversations();
    return failed(new Error("That conversation is not there any more."));
  }
  if (page.id !== id) return;
  page.view = view;
  page.current = view.current;
  for (const one of view.pictures) page.pictures.set(one.number, one);
  for (const turn of fromView(view).values()) add(turn);
  if (view.working) Object.assign(part(view.working.turn).turn, { request: view.working.request, working: true });
  if (view.waiting) part(view.waiting.turn).turn.waiting = { question: view.waiting.question, choices: view.waiting.choices };
  const profile = page.me.profiles.find((one) => one.name === view.profile) ?? page.me.profiles[0];
  budget({ ...profile.limits, accept_at: view.accept_at });
  $("of").textContent = page.me.profiles.length > 1 ? shown(view.profile) : "";
  $("may-ask").checked = view.may_ask;
  $("export").href = api.exported(id);
  // The events come again from the first on, with what the view holds already.
  for (const one of list()) Object.assign(one.turn, { before: true });
  page.stop = follow(id, heard, link);
  following = true;
  draw();
  await showConversations();
});

function heard(name, data, number) {
  if (name === "deleted") {
    location.hash = "";
    return;
  }
  const one = part(data.turn);
  if (one.turn.before && name === "turn_queued") {
    // The whole of this turn comes in order, and replaces what the view held of it.
    one.turn = Object.assign(newTurn(data.turn), { pictures: one.turn.pictures, entry: one.turn.entry });
  }
  one.see(name, data);
  if (name === "replied") {
    for (const made of data.pictures) page.pictures.set(made.number, made);
    page.current = data.current;
  }
  const fresh = number === null || number > page.view.last_event;
  if (fresh) announce(name, data, one.turn);
  // Of what was over when the page was opened, the view is shown until all of its events have come.
  if (number === null || number >= page.view.last_event) draw();
}

function announce(name, data, turn) {
  if ((name === "progress" || name === "queue") && turn.announced !== doing(turn)) live((turn.announced = doing(turn)));
  if (name === "attempt") live(`Attempt ${data.number}: ${data.score === null ? "no score" : `score ${data.score.toFixed(2)}`}`);
  if (name === "clarify") live(`A question: ${data.question}`);
  if (name === "failed") live(`It failed: ${data.error}`);
  if (name === "replied") {
    live(data.entry.reply);
    page.mask = null;
    if (data.branch) location.hash = data.branch;
  }
  if (["turn_queued", "replied", "clarify", "failed"].includes(name)) showConversations();
  // After a failure, or if something is asked, what waits is held: it was thought of before.
  if (name === "replied" && !data.entry.error && !data.branch) setTimeout(sendNext);
}

function link(state) {
  $("link").dataset.state = state;
  $("link").textContent = { open: "Connected", lost: "Connection lost, trying again", none: "" }[state];
}

// Requests

// What is in the message field. While a turn is under way it waits in line.
export const say = tried(async (request) => {
  const one = { request, image: page.image, mask: page.mask, options: options(), n: variants(), typed: true };
  if (page.sending) return;
  if (busy()) {
    page.queues.set(page.id, [...queue(), one]);
    live("Your message waits for the turn under way");
    emptied();
    return draw();
  }
  await send(one);
});

// What a button says.
export const order = tried((request) => send({ request, image: page.image, mask: page.mask, options: { ...options(), seed: undefined }, n: variants() }));

const sendNext = tried(async () => {
  if (busy() || page.sending || queue().length === 0) return;
  if (waiting()) return failed(new Error("Answer the question first."));
  const [one, ...others] = queue();
  page.queues.set(page.id, others);
  await send({ ...one, typed: false });
});

function emptied() {
  page.image = page.mask = null;
  attached();
  $("words").value = $("seed").value = $("search").value = ""; // the others stay
  grow();
}

async function send(one) {
  if (page.sending || busy()) return;
  page.sending = following = true;
  failed("");
  try {
    if (!page.id) {
      const made = await api.create({ may_ask: $("may-ask").checked, profile: chosenProfile()?.name });
      history.replaceState(null, "", `#${made.id}`);
      await open(made.id);
    }
    await post(one);
    if (one.typed) emptied();
    else if (one.image === page.image) {
      page.image = page.mask = null;
      attached();
    }
    restFocus();
  } finally {
    page.sending = false;
  }
}

async function post({ request, image, mask, options, n }) {
  const body = { request, options, ...(n && { n }), ...(image && { image }), ...(mask && { mask }) };
  const accepted = await api.say(page.id, body);
  const turn = part(accepted.turn).turn;
  if (!turn.entry && !turn.failed && !turn.waiting) Object.assign(turn, { working: true, request: turn.request || request });
  draw();
}

export const cancel = tried(() => (page.id && busy() ? api.cancel(page.id) : null));

export function listenToConversation() {
  // What the user looks at stays where it is.
  for (const name of ["pointerdown", "keydown", "wheel", "touchmove"]) {
    $("scroll").addEventListener(name, () => (following = false), { passive: true });
  }
  $("scroll").addEventListener("scrollend", () => (following ||= Math.abs($("scroll").scrollTop - latest()) < 8));
  new ResizeObserver(keepUp).observe($("turns"));
  $("branch").addEventListener("click", tried(async () => {
    location.hash = (await api.branch(page.id)).id;
    live("You are in a branch of the conversation");
  }));
}
