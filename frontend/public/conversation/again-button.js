// The button "Try again" below a conversation. If the server wants a pause, the button counts down its seconds.

import { button } from "../element.js";

export class AgainButton {
  #action = null;
  #timer = 0;

  /** `pressed()` is called before the action. */
  constructor(pressed) {
    this.element = button("Try again", () => this.#press(pressed), { class: "again", hidden: "" });
  }

  /** `action`: null hides the button. `seconds`: how long the button is disabled. */
  offer(action, label, seconds = 0) {
    clearInterval(this.#timer);
    this.#action = action;
    this.element.hidden = !action;
    const until = Date.now() + seconds * 1000;
    const show = () => {
      const left = Math.ceil((until - Date.now()) / 1000);
      this.element.disabled = left > 0;
      this.element.textContent = left > 0 ? `${label} in ${left} s` : label;
      if (left <= 0) clearInterval(this.#timer);
    };
    if (seconds) this.#timer = setInterval(show, 1000);
    show();
  }

  #press(pressed) {
    const action = this.#action;
    this.element.closest("#scroll")?.focus({ preventScroll: true }); // the focused button disappears
    pressed();
    action?.();
  }
}
