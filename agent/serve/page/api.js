// The routes under /api (docs/serving.md).

export class Refused extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

async function ask(method, path, body, type) {
  const headers = {};
  if (type) headers["Content-Type"] = type;
  else if (body !== undefined) headers["Content-Type"] = "application/json";
  const sent = type || body === undefined ? body : JSON.stringify(body);
  let answer;
  try {
    answer = await fetch(`api/${path}`, { method, headers, body: sent });
  } catch {
    throw new Refused("The server cannot be reached.", 0, "offline");
  }
  if (!answer.ok) {
    const fault = await answer.json().catch(() => null);
    throw new Refused(fault?.error?.message ?? `The server answered ${answer.status}.`, answer.status, fault?.error?.code);
  }
  return answer.status === 204 ? null : answer.json();
}

const at = (id, rest = "") => `conversations/${encodeURIComponent(id)}${rest}`;

export const api = {
  me: () => ask("GET", "me"),
  login: (token) => ask("POST", "login", { token }),
  logout: () => ask("POST", "logout"),
  conversations: async () => (await ask("GET", "conversations")).conversations,
  create: (body) => ask("POST", "conversations", body),
  view: (id) => ask("GET", at(id)),
  change: (id, body) => ask("PATCH", at(id), body),
  remove: (id) => ask("DELETE", at(id)),
  branch: (id) => ask("POST", at(id, "/branch"), {}),
  say: (id, body) => ask("POST", at(id, "/turns"), body),
  pictures: async (query) => (await ask("GET", `pictures?q=${encodeURIComponent(query)}`)).pictures,
  cancel: (id) => ask("POST", at(id, "/cancel")),
  run: (id) => ask("GET", `runs/${encodeURIComponent(id)}`),
  upload: (blob, mask = false) => ask("POST", `images${mask ? "?mask=true" : ""}`, blob, blob.type || "application/octet-stream"),
  exported: (id) => `api/${at(id, "/export")}`,
  trace: (id) => `api/runs/${encodeURIComponent(id)}/trace`,
  image: (hash, width) => `api/images/${encodeURIComponent(hash)}${width ? `?width=${width}` : ""}`,
};

const EVENTS = [
  "turn_queued", "turn_began", "run_started", "progress", "queue", "checklist", "planned", "rewrite", "image", "attempt",
  "pruned", "decided", "warning", "run_finished", "clarify", "replied", "failed", "deleted",
];

// Follows a conversation's events. The browser reconnects with Last-Event-ID; if it gives up (the server
// answered with an error), we do, behind the last event that we have seen.
export function follow(id, tell, state) {
  let source = null;
  let last = 0;
  let wait = 500;
  let timer = null;
  let over = false;

  function open() {
    source = new EventSource(`api/${at(id, `/events?after=${last}`)}`);
    source.onopen = () => {
      wait = 500;
      state("open");
    };
    source.onerror = () => {
      if (over) return;
      state("lost");
      if (source.readyState !== EventSource.CLOSED) return;
      timer = setTimeout(open, wait);
      wait = Math.min(2 * wait, 8000);
    };
    for (const name of EVENTS) {
      source.addEventListener(name, (event) => {
        const number = Number(event.lastEventId);
        const kept = name !== "progress" && name !== "queue" && name !== "deleted";
        if (kept) {
          if (number <= last) return;
          last = number;
        }
        if (name === "deleted") close();
        tell(name, JSON.parse(event.data), kept ? number : null);
      });
    }
  }

  function close() {
    over = true;
    clearTimeout(timer);
    source?.close();
  }

  open();
  return close;
}
