// What the page knows: who is asked, the conversation that is open, and what is attached to the next message.

export const page = { me: null, id: null, view: null, turns: new Map(), pictures: new Map(), current: 0, image: null, mask: null, stop: null,
  changed: new Set(), sending: false };

export const list = () => [...page.turns.values()];
export const busy = () => list().some((part) => part.turn.working);
export const waiting = () => list().at(-1)?.turn.waiting ?? null;

// The picture that a mask would be painted on.
export const looked = () => page.image ?? page.pictures.get(page.current)?.image ?? null;
