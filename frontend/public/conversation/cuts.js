// The notes below answers that were stopped or broke off.

import { element } from "../element.js";

const NOTES = { stopped: "Stopped.", "broke off": "The answer broke off here." };

/** `cuts`: for the id of each user's message, whether its answer was "stopped" or "broke off". */
export function showCuts(log, cuts) {
  for (const old of log.querySelectorAll(".cut")) old.remove();
  for (const question of log.querySelectorAll(".user_message")) {
    const kind = cuts[question.dataset.id];
    if (!kind) continue;
    let end = question;
    while (end.nextElementSibling && !end.nextElementSibling.matches(".user_message")) end = end.nextElementSibling;
    if (end !== question || kind === "stopped") end.after(element("p", { class: "note cut" }, NOTES[kind]));
  }
}
