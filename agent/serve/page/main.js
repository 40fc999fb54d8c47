// The page: sessions, the conversation that is open, the message field.

import { api, follow } from "./api.js";
import { $, h } from "./dom.js";
import { paintMask } from "./mask.js";
import { fromView, newTurn } from "./story.js";
import { TurnPart, doing } from "./turn.js";

const EXAMPLES = ["two little red stars over a big blue circle, on mint paper", "a large yellow moon to the right of a green heart, no stars please",
  "three small pink circles under a purple square"];
const page = { me: null, id: null, view: null, turns: new Map(), pictures: new Map(), current: 0, image: null, mask: null, stop: null,
  changed: new Set(), sending: false };

const list = () => [...page.turns.values()];
const busy = () => list().some((part) => part.turn.working);
const waiting = () => list().at(-1)?.turn.waiting ?? null;
const live = (text) => ($("live").textContent = text);

function failed(error) {
  if (error.status === 401) return login();
  $("error").textContent = error?.message ?? "";
  $("error").hidden = !error;
}
const tried = (work) => async (...given) => {
  try {
    return await work(...given);
  } catch (error) {
    failed(error);
  }
};

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

function restFocus() {
  // Buttons go when they have done their work. On a touch screen the field would bring up the keyboard.
  if (!matchMedia("(pointer: coarse)").matches) $("words").focus({ preventScroll: true });
}

function controls() {
  const now = busy();
  $("cancel").hidden = !now;
  $("send").hidden = now;
  $("branch").hidden = $("export").hidden = !page.id || now;
  $("undo").disabled = now || page.current === 0;
  $("paint").disabled = !looked();
  $("words").placeholder = waiting() ? "Your answer" : page.current ? "What to change, or what to draw next" : "What to draw";
}

const looked = () => page.image ?? page.pictures.get(page.current)?.image ?? null;

function attached() {
  const box = $("attached");
  const one = (hash, name, drop) => h("span", { class: "chip" }, h("img", { src: api.image(hash, 160), alt: name }),
    h("button", { type: "button", class: "icon", "aria-label": `Remove: ${name}`, onclick: drop }, "✕"));
  box.replaceChildren(...[
    page.image && one(page.image, "your picture", () => ((page.image = page.mask = null), attached())),
    page.mask && one(page.mask, "your mask", () => ((page.mask = null), attached()))].filter(Boolean));
  box.hidden = !box.childElementCount;
  controls();
}

// Sessions

const shortly = (title) => title || "New conversation";

const sessions = tried(async () => {
  const rows = await api.sessions();
  const had = $("sessions").contains(document.activeElement) ? document.activeElement : null;
  const [place, kind] = [had && [...$("sessions").children].indexOf(had.closest("li")), had?.tagName];
  $("sessions").replaceChildren(...rows.map((row) => h("li", { class: row.id === page.id ? "here" : "" },
    h("a", { href: `#${row.id}`, "aria-current": row.id === page.id ? "page" : null, title: row.title },
      row.thumb ? h("img", { src: api.image(row.thumb, 64), alt: "" }) : h("span", { class: "blank" }),
      h("span", { class: "name" }, shortly(row.title), row.working ? h("span", { class: "dim" }, " · at work") : null)),
    h("button", { type: "button", class: "icon", "aria-label": `Delete: ${shortly(row.title)}`, onclick: () => remove(row) }, "✕"))));
  if (had) ($("sessions").children[Math.min(place, rows.length - 1)]?.querySelector(kind) ?? $("new")).focus();
  const here = rows.find((row) => row.id === page.id);
  if (here) {
    $("title").textContent = shortly(here.title);
    document.title = `${shortly(here.title)} · redraft`;
  }
});

const remove = tried(async (row) => {
  $("sure-text").textContent = `Delete “${shortly(row.title)}” and its pictures?`;
  $("sure").returnValue = "no";
  $("sure").showModal();
  await new Promise((done) => $("sure").addEventListener("close", done, { once: true }));
  if ($("sure").returnValue !== "yes") return;
  await api.remove(row.id);
  if (row.id === page.id) location.hash = "";
  await sessions();
});

function side(open) {
  $("side").classList.toggle("open", open);
  $("side-open").setAttribute("aria-expanded", String(open));
  if (open) $("side-close").focus();
}

function clear() {
  page.stop?.();
  Object.assign(page, { id: null, view: null, turns: new Map(), pictures: new Map(), current: 0, image: null, mask: null, stop: null });
  $("turns").replaceChildren();
  $("title").textContent = "New conversation";
  document.title = "redraft";
  link("none");
  failed("");
}

function part(number) {
  if (!page.turns.has(number)) add(newTurn(number));
  return page.turns.get(number);
}

function add(turn) {
  const made = new TurnPart(turn, { say, failed });
  page.turns.set(turn.number, made);
  page.turns = new Map([...page.turns].sort(([a], [b]) => a - b));
  $("turns").append(...list().map((one) => one.element));
}

const open = tried(async (id) => {
  clear();
  side(false);
  if (!id) {
    budget(page.me.profiles[0].limits);
    $("may-ask").checked = true;
    draw();
    await sessions();
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
    await sessions();
    return failed(new Error("That conversation is not there any more."));
  }
  if (page.id !== id) return;
  page.view = view;
  page.current = view.current;
  for (const one of view.pictures) page.pictures.set(one.number, one);
  for (const turn of fromView(view).values()) add(turn);
  if (view.working) Object.assign(part(view.working.turn).turn, { said: view.working.said, working: true });
  if (view.waiting) part(view.waiting.turn).turn.waiting = { question: view.waiting.question, choices: view.waiting.choices };
  const profile = page.me.profiles.find((one) => one.name === view.profile) ?? page.me.profiles[0];
  budget({ ...profile.limits, accept_at: view.accept_at });
  $("may-ask").checked = view.may_ask;
  $("export").href = api.exported(id);
  // The events tell all again from the first on: what the view knew already is told by them once more.
  for (const one of list()) Object.assign(one.turn, { asked: one.turn.asked, before: true });
  page.stop = follow(id, heard, link);
  following = true;
  draw();
  await sessions();
});

function heard(name, data, number) {
  if (name === "deleted") {
    location.hash = "";
    return;
  }
  const one = part(data.turn);
  if (one.turn.before && name === "turn_queued") {
    // The whole of this turn comes in order, and replaces what the view said of it.
    one.turn = Object.assign(newTurn(data.turn), { pictures: one.turn.pictures, entry: one.turn.entry });
  }
  one.see(name, data);
  if (name === "replied") {
    for (const made of data.pictures) page.pictures.set(made.number, made);
    page.current = data.current;
  }
  const fresh = number === null || number > page.view.last_event;
  if (fresh) tell(name, data, one.turn);
  // Of what was over when the page was opened, the view is shown until all of it is told.
  if (number === null || number >= page.view.last_event) draw();
}

function tell(name, data, turn) {
  if ((name === "progress" || name === "queue") && turn.told !== doing(turn)) live((turn.told = doing(turn)));
  if (name === "attempt") live(`Attempt ${data.number}: ${data.score === null ? "no score" : `score ${data.score.toFixed(2)}`}`);
  if (name === "clarify") live(`A question: ${data.question}`);
  if (name === "failed") live(`It failed: ${data.error}`);
  if (name === "replied") {
    live(data.entry.reply);
    page.mask = null;
    if (data.branch) location.hash = data.branch;
  }
  if (["turn_queued", "replied", "clarify", "failed"].includes(name)) sessions();
}

function link(state) {
  $("link").dataset.state = state;
  $("link").textContent = { open: "Connected", lost: "Connection lost, trying again", none: "" }[state];
}

// What the user does

const say = tried(async (text) => {
  if (page.sending || busy()) return;
  page.sending = following = true;
  failed("");
  try {
    if (!page.id) {
      const made = await api.create({ may_ask: $("may-ask").checked });
      history.replaceState(null, "", `#${made.id}`);
      const kept = { image: page.image, mask: page.mask, changed: new Set(page.changed), limits: limits() };
      await open(made.id);
      await post(text, kept.image, kept.mask, kept.limits);
    } else await post(text, page.image, page.mask, limits());
    page.image = page.mask = null;
    attached();
    $("words").value = "";
    grow();
    restFocus();
  } finally {
    page.sending = false;
  }
});

function limits() {
  const chosen = {};
  for (const [id, name] of [["accept", "accept_at"], ["rounds", "max_rounds"], ["images", "max_images"]]) {
    if (page.changed.has(id)) chosen[name] = Number($(id).value);
  }
  return chosen;
}

async function post(text, image, mask, chosen) {
  const asked = await api.say(page.id, { text, ...(image && { image }), ...(mask && { mask }), limits: chosen });
  const turn = part(asked.turn).turn;
  if (!turn.entry && !turn.failed && !turn.waiting) Object.assign(turn, { working: true, said: turn.said || text });
  draw();
}

function budget(values) {
  page.changed.clear();
  $("accept").value = values.accept_at;
  $("rounds").value = values.max_rounds;
  $("images").value = values.max_images;
  $("rounds").max = page.me.limits.max_rounds;
  $("images").max = page.me.limits.max_images;
  $("accept-out").textContent = Number($("accept").value).toFixed(2);
}

const take = tried(async (file) => {
  if (!file) return;
  failed("");
  if (file.size > page.me.limits.max_image_bytes) throw new Error("That file is larger than this server takes.");
  live("Uploading the picture");
  page.image = (await api.upload(file)).image;
  page.mask = null;
  live("The picture is attached");
  attached();
  $("words").focus();
});

const cancel = tried(() => (page.id && busy() ? api.cancel(page.id) : null));

function grow() {
  const field = $("words");
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight, 220)}px`;
}

function send() {
  const text = $("words").value.trim();
  if (text) return say(text);
  if (page.image) failed(new Error("Say what to do with the picture."));
}

function listen() {
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  $("words").addEventListener("input", grow);
  $("words").addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      send();
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") {
      if ($("side").classList.contains("open")) {
        side(false);
        $("side-open").focus();
      } else cancel();
    }
    const other = event.target !== $("words") && event.target.matches?.("input, textarea");
    if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z" && !other && !$("words").value && page.current) {
      event.preventDefault();
      say("/undo");
    }
  });
  // What the user looks at stays where it is.
  for (const name of ["pointerdown", "keydown", "wheel", "touchmove"]) {
    $("scroll").addEventListener(name, () => (following = false), { passive: true });
  }
  $("scroll").addEventListener("scrollend", () => (following ||= Math.abs($("scroll").scrollTop - latest()) < 8));
  new ResizeObserver(keepUp).observe($("turns"));
  document.addEventListener("paste", (event) => {
    if (document.querySelector("dialog[open]")) return;
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (file) {
      event.preventDefault();
      take(file);
    }
  });
  const files = (event) => event.dataTransfer?.types.includes("Files");
  const free = () => document.querySelector("dialog[open]") === null;
  let over = null;
  const dragged = (here) => {
    clearTimeout(over);
    $("drop").hidden = !here;
    if (here) over = setTimeout(dragged, 700, false); // a drag that is given up is not told by all browsers
  };
  document.addEventListener("dragover", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    dragged(free());
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && dragged(false));
  document.addEventListener("drop", (event) => {
    dragged(false);
    if (!files(event)) return;
    event.preventDefault();
    if (free()) take(event.dataTransfer.files[0]);
  });
  $("attach").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    take($("file").files[0]);
    $("file").value = "";
  });
  $("paint").addEventListener("click", tried(async () => {
    const painted = await paintMask(api.image(looked()));
    if (!painted) return $("paint").focus();
    page.mask = (await api.upload(painted, true)).image;
    live("The mask is attached");
    attached();
    $("words").focus();
  }));
  $("undo").addEventListener("click", () => say("/undo"));
  $("cancel").addEventListener("click", cancel);
  $("options").addEventListener("click", () => {
    $("budget").hidden = !$("budget").hidden;
    $("options").setAttribute("aria-expanded", String(!$("budget").hidden));
  });
  for (const id of ["accept", "rounds", "images"]) {
    $(id).addEventListener("input", () => {
      page.changed.add(id);
      $("accept-out").textContent = Number($("accept").value).toFixed(2);
    });
  }
  $("may-ask").addEventListener("change", tried(() => page.id && api.change(page.id, { may_ask: $("may-ask").checked })));
  $("branch").addEventListener("click", tried(async () => {
    location.hash = (await api.branch(page.id)).id;
    live("You are in a branch of the conversation");
  }));
  $("new").addEventListener("click", () => {
    if (location.hash.length > 1) location.hash = "";
    else open("");
    side(false);
    $("words").focus();
  });
  $("side-open").addEventListener("click", () => side(true));
  $("main").addEventListener("pointerdown", () => side(false));
  $("side-close").addEventListener("click", () => {
    side(false);
    $("side-open").focus();
  });
  $("theme").addEventListener("click", () => theme(dark() ? "light" : "dark"));
  $("logout").addEventListener("click", tried(async () => {
    await api.logout();
    location.reload();
  }));
  addEventListener("hashchange", () => location.hash.slice(1) !== (page.id ?? "") && open(location.hash.slice(1)));
  for (const text of EXAMPLES) $("examples").append(h("button", { type: "button", onclick: () => (($("words").value = text), grow(), $("words").focus()) }, text));
}

const dark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function theme(chosen) {
  if (chosen) {
    localStorage.setItem("theme", chosen);
    document.documentElement.dataset.theme = chosen;
  }
  $("theme").textContent = dark() ? "Light" : "Dark";
}

function login() {
  $("app").hidden = true;
  if (!$("login").open) $("login").showModal();
}

async function start() {
  page.me = await api.me();
  if (page.me.client === null) return login();
  $("logout").hidden = !page.me.login_needed;
  $("app").hidden = false;
  await open(location.hash.slice(1));
  $("words").focus();
}

$("login").addEventListener("cancel", (event) => event.preventDefault());
$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await api.login($("token").value);
    $("token").value = "";
    $("login").close();
    await start();
  } catch (error) {
    $("login-error").textContent = error.message;
    $("login-error").hidden = false;
  }
});
theme();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme());
listen();
start().catch((error) => {
  $("app").hidden = false;
  failed(error);
});
