// The buttons below an answer: copy, thumbs, and another answer.

import { copy } from "../clipboard.js";
import { button, element } from "../element.js";

const THUMBS = { positive: "Good answer", negative: "Bad answer" };

/**
 * `text()`: the text to copy. `thumb`: the user's earlier thumb. `rate(kind)`: a promise that the server has stored
 * the thumb. `again()` asks for another answer.
 */
export function answerActions({ text, thumb, rate, again }) {
  const box = element("div", { class: "actions", role: "group", "aria-label": "About this answer" });
  box.append(button("Copy", ({ currentTarget }) => copy(text(), currentTarget), { icon: "copy" }));
  const thumbs = Object.entries(THUMBS).map(([kind, label]) => {
    const press = async () => {
      if (await rate(kind)) thumbs.forEach((each) => setPressed(each, each === pressed));
    };
    const pressed = button(label, press, { icon: kind });
    setPressed(pressed, thumb === kind);
    return pressed;
  });
  const another = () => {
    box.closest("#scroll")?.focus({ preventScroll: true }); // the focused button disappears
    again();
  };
  box.append(...thumbs, button("Another answer", another, { icon: "again", class: "another" }));
  return box;
}

function setPressed(thumb, isPressed) {
  thumb.setAttribute("aria-pressed", String(isPressed));
}
