// Which view shows an item of ChatKit. A view has an element, and may have update().

import { Widget } from "../widgets/widget.js";
import { element } from "../element.js";
import { isOwnImage, linkTo } from "./markdown.js";
import { Message } from "./message.js";
import { Step } from "./steps.js";

const VIEWS = {
  user_message: (item) => new Message(item),
  assistant_message: (item) => new Message(item),
  workflow: (item) => new Step(item),
  task: (item) => new Step(item),
  client_tool_call: (item) => new Step(item),
  widget: (item, { act }) => new Widget(item, act),
  generated_image: (item) => new GeneratedImage(item),
  structured_input: (item) => new Questions(item),
};

export function isShown({ type }) {
  return Object.hasOwn(VIEWS, type);
}

/** The view of the item, or null if the page does not show items of this type. `act(action)`: a promise. */
export function viewOf(item, { act }) {
  return isShown(item) ? VIEWS[item.type](item, { act }) : null;
}

class GeneratedImage {
  constructor({ id, image }) {
    this.element = element("article", { class: "message assistant_message", "data-id": id });
    this.element.append(element("p", { class: "speaker" }, "Assistant"));
    const address = image?.url ?? "";
    if (isOwnImage(address)) this.element.append(element("img", { src: address, alt: "Generated image" }));
    else this.element.append(linkTo(address, "Generated image"));
  }
}

// The user answers with a message.
class Questions {
  constructor({ id, inputs, status }) {
    this.element = element("article", { class: "message assistant_message", "data-id": id });
    this.element.append(element("p", { class: "speaker" }, "Assistant"));
    for (const { question, options = [], answer } of inputs) {
      const chosen = answer?.values?.length ? `: ${answer.values.join(", ")}` : "";
      this.element.append(element("p", { class: "text" }, question + chosen));
      if (status === "pending" && options.length) {
        const list = element("ul");
        for (const { value } of options) list.append(element("li", {}, value));
        this.element.append(list);
      }
    }
    if (status === "pending") this.element.append(element("p", { class: "hint" }, "Write your answer as a message."));
  }
}
