// The field that renames a chat, and the dialog that confirms its deletion.

import { element } from "./element.js";

const MAX_TITLE = 200; // the server's limit

const dialog = document.getElementById("delete-thread");
const question = document.getElementById("delete-question");

/** A field with the title. It saves on Enter and on a loss of focus. Escape cancels. */
export function titleField(title, { save, cancel }) {
  const field = element("input", { "aria-label": "Title of the chat", maxlength: String(MAX_TITLE) });
  let isDone = false; // removing the field raises blur, which would save again
  const once = (action) => () => {
    if (isDone) return;
    isDone = true;
    action();
  };
  const finish = once(() => save(field.value.trim()));
  field.value = title;
  field.addEventListener("blur", finish);
  field.addEventListener("keydown", (event) => {
    if (event.isComposing || !["Enter", "Escape"].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation(); // Escape on the page stops the answer
    if (event.key === "Enter") finish();
    else once(cancel)();
  });
  return field;
}

let questions = 0; // how many were asked

/** A promise of whether the user confirms. */
export function confirmDeletion(title) {
  const number = (questions += 1);
  question.textContent = `Delete “${title}”?`;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const closed = () => {
      if (dialog.open && number === questions) return; // the event comes late, and is about the question before
      dialog.removeEventListener("close", closed);
      resolve(number === questions && dialog.returnValue === "delete");
    };
    dialog.addEventListener("close", closed);
  });
}
