import { button, element } from "../element.js";

/** The content of an empty chat: a question, and suggestions that `send(text)` sends. */
export function greeting(suggestions, send) {
  const box = element("div", { class: "greeting" });
  box.append(element("p", {}, "How can we help?"));
  const list = element("ul", { "aria-label": "Suggestions" });
  for (const text of suggestions) {
    const entry = element("li");
    entry.append(button(text, () => send(text)));
    list.append(entry);
  }
  if (suggestions.length) box.append(list);
  return box;
}
