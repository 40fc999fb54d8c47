// The dialog that asks for a token.

import { api } from "./api.js";
import { $, shown } from "./dom.js";

export function login() {
  $("app").hidden = true;
  if (!$("login").open) $("login").showModal();
}

// `start`: what follows once the token is taken.
export function listenToLogin(start) {
  $("login").addEventListener("cancel", (event) => event.preventDefault());
  $("login-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await api.login($("token").value);
      $("token").value = "";
      $("login").close();
      await start();
    } catch (error) {
      $("login-error").textContent = shown(error.message);
      $("login-error").hidden = false;
    }
  });
}
