// What the page knows: who is asked, the conversation that is open, and what is attached to the next message.

export const page = { me: null, id: null, view: null, turns: new Map(), pictures: new Map(), current: 0, image: null, mask: null, stop: null,
  changed: new Set(), sending: false, queues: new Map() };

// The messages that wait for the turn under way, of the conversation that is open.
export const queue = () => page.queues.get(page.id) ?? [];

export const list = () => [...page.turns.values()];
export const busy = () => list().some((part) => part.turn.working);
export const waiting = () => list().at(-1)?.turn.waiting ?? null;

// The picture that a mask would be painted on.
export const looked = () => page.image ?? page.pictures.get(page.current)?.image ?? null;
