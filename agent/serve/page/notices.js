// What the page itself announces: errors, and words for screen readers.

import { $, shown } from "./dom.js";
import { login } from "./login.js";

export const live = (text) => ($("live").textContent = text);

export function failed(error) {
  if (error.status === 401) return login();
  $("error").textContent = shown(error?.message ?? "");
  $("error").hidden = !error;
}

// Work whose mistakes are shown.
export const tried = (work) => async (...given) => {
  try {
    return await work(...given);
  } catch (error) {
    failed(error);
  }
};
