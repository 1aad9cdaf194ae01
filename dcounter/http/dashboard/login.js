import { token } from "./api.js";
import { $ } from "./dom.js";

/**
 * Ask for a token.
 *
 * @param {string} why it is needed
 * @returns {Promise<boolean>} whether there is another one now
 */
export function login(why) {
  const dialog = $("login");
  const input = $("login-token");
  if (dialog.open) return Promise.resolve(false);
  $("login-why").textContent = why;
  $("login-forget").hidden = !token.get();
  input.value = "";
  dialog.showModal();
  input.focus();
  return new Promise((done) => {
    const end = (changed) => {
      dialog.close();
      done(changed);
    };
    dialog.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      token.set(input.value.trim());
      input.value = "";
      end(true);
    };
    $("login-forget").onclick = () => {
      token.set("");
      end(true);
    };
    $("login-cancel").onclick = () => end(false);
    dialog.oncancel = () => done(false);
  });
}
