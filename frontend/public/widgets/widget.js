// A widget of ChatKit: a tree of components from the server. Actions of its buttons and forms go to the server.

import { element } from "../element.js";
import { MarkdownText } from "../conversation/markdown.js";
import { childrenOf, componentElement } from "./components.js";
import { connectLabels } from "./fields.js";
import { valuesOf, withValues } from "./form-values.js";

export class Widget {
  #root;
  #act;
  #busy = false;

  /** `act(action)`: a promise that the action, `{ type, payload, handler, streaming }`, was handled. */
  constructor({ id, widget }, act) {
    this.#root = widget;
    this.#act = act;
    this.element = element("article", { class: "message widget", "data-id": id });
    this.element.append(element("p", { class: "speaker" }, "Assistant"), element("div", { class: "widget-root" }));
    this.#render();
  }

  update(update) {
    switch (update.type) {
      case "widget.root.updated":
        this.#root = update.widget;
        return this.#render();
      case "widget.component.updated":
        this.#root = replaced(this.#root, update.component_id, update.component);
        return this.#render();
      case "widget.streaming_text.value_delta":
        return this.#grow(update.component_id, update.delta);
    }
  }

  // A growing text keeps its element.
  #grow(id, delta) {
    const component = found(this.#root, id);
    if (!component) return;
    component.value = (component.value ?? "") + delta;
    const shown = this.element.querySelector(`[data-component="${CSS.escape(id)}"]`);
    if (shown?.growing instanceof MarkdownText) shown.growing.append(delta);
    else if (shown) shown.append(delta);
  }

  #render() {
    const run = (action, source) => this.#run(action, source);
    const root = this.element.querySelector(".widget-root");
    root.replaceChildren(componentElement(this.#root, { run }));
    connectLabels(root);
  }

  async #run(action, source) {
    if (!action?.type || this.#busy) return;
    const form = source.closest("form");
    if (form && !form.reportValidity()) return;
    const { handler = "server", streaming = true, payload } = action;
    this.#setBusy(true, source);
    try {
      await this.#act({ type: action.type, payload: withValues(payload, form ? valuesOf(form) : {}), handler, streaming });
    } finally {
      this.#setBusy(false, source);
    }
  }

  #setBusy(busy, source) {
    this.#busy = busy;
    this.element.setAttribute("aria-busy", String(busy));
    source.classList.toggle("busy", busy);
  }
}

function found(component, id) {
  if (component?.id === id) return component;
  return childrenOf(component).map((child) => found(child, id)).find(Boolean) ?? null;
}

function replaced(component, id, other) {
  if (component?.id === id) return other;
  const children = childrenOf(component);
  return children.length ? { ...component, children: children.map((child) => replaced(child, id, other)) } : component;
}
