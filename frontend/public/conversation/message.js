// The element of one message of the user or the assistant: its text, files and sources.

import { element } from "../element.js";
import { dayAndTimeOf, timeOf } from "../dates.js";
import { linkTo, MarkdownText } from "./markdown.js";

const SPEAKERS = { user_message: "You", assistant_message: "Assistant" };

export class Message {
  #body = element("div");
  #parts = []; // of an answer: MarkdownText; of a user's message: text nodes, because users do not write Markdown

  constructor({ type, id, content = [], created_at: createdAt, quoted_text: quote }) {
    this.type = type;
    this.id = id;
    this.element = element("article", { class: `message ${type}` });
    if (id) this.element.dataset.id = id;
    // The time is in attributes. A screen reader would read a text before each message.
    const times = createdAt ? { "data-time": timeOf(createdAt), title: dayAndTimeOf(createdAt) } : {};
    this.element.append(element("p", { class: "speaker", ...times }, SPEAKERS[type]));
    if (quote) this.element.append(element("blockquote", { class: "quote" }, quote));
    this.element.append(this.#body); // a growing text stays above the files and buttons that follow it
    content.forEach((part, index) => this.setPart(index, part));
  }

  /** The text as it was sent, in Markdown. */
  get text() {
    return this.#parts.map((part) => part.text ?? part.data).join("\n\n");
  }

  setPart(index, { text, annotations = [] }) {
    const part = this.#partAt(index);
    if (part instanceof Text) part.data = text;
    else part.set(text);
    if (annotations.length) this.#showSources(annotations);
  }

  appendTo(index, delta) {
    this.#partAt(index).append(delta);
  }

  /** Shows the end of each text, which append() holds back while it may be half of something. */
  finish() {
    for (const part of this.#parts) part.set?.(part.text);
  }

  addSource(annotation) {
    this.#showSources([annotation]);
  }

  // Parts may arrive out of order.
  #partAt(index) {
    while (this.#parts.length <= index) {
      if (this.type === "assistant_message") {
        const part = new MarkdownText();
        this.#parts.push(part);
        this.#body.append(part.element);
      } else {
        const paragraph = element("p", { class: "text" });
        this.#parts.push(paragraph.appendChild(document.createTextNode("")));
        this.#body.append(paragraph);
      }
    }
    return this.#parts[index];
  }

  #showSources(annotations) {
    let list = this.#body.querySelector(".sources");
    if (!list) this.#body.append((list = element("ul", { class: "sources", "aria-label": "Sources" })));
    for (const { source } of annotations) {
      const name = source.title || source.filename || source.url || "Source";
      if ([...list.children].some(({ textContent }) => textContent === name)) continue;
      const entry = element("li");
      entry.append(linkTo(source.url ?? "", name));
      list.append(entry);
    }
  }
}
