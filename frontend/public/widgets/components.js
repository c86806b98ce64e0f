// The elements of a widget's components. `tools.run(action, source)` runs an action of a component.

import { isOwnImage, linkTo, MarkdownText } from "../conversation/markdown.js";
import { button, element } from "../element.js";
import { fields } from "./fields.js";

const UNIT_PX = 4; // one unit of ChatKit's spacing

const containers = {
  Card: card,
  ListView: listView,
  ListViewItem: listViewItem,
  Basic: (component, tools) => box(component, tools, "col"),
  Box: (component, tools) => box(component, tools, component.direction ?? "col"),
  Row: (component, tools) => box(component, tools, "row"),
  Col: (component, tools) => box(component, tools, "col"),
  Form: form,
  Transition: (component, tools) => box(component, tools, "col"),
};
const contents = {
  Text: (component) => text("p", component),
  Title: (component) => text("p", component),
  Caption: (component) => text("p", component),
  Markdown: markdown,
  Badge: ({ label, color = "secondary" }) => element("span", { class: "w-badge", "data-color": color }, label),
  Button: actionButton,
  Image: image,
  Icon: () => null, // an icon is decoration: the page has no set of icons
  Divider: () => element("hr"),
  Spacer: () => element("span", { class: "w-spacer" }),
};
const COMPONENTS = { ...containers, ...contents, ...fields };

/** The element of the component, or null for a decoration. */
export function componentElement(component, tools) {
  if (!Object.hasOwn(COMPONENTS, component.type)) {
    return element("p", { class: "hint" }, `This page cannot show: ${component.type}`);
  }
  const created = COMPONENTS[component.type](component, tools);
  if (created && component.id) created.dataset.component = component.id;
  return created;
}

export function childrenOf(component) {
  return [component?.children ?? []].flat().filter(Boolean);
}

function appendChildren(parent, component, tools) {
  parent.append(...childrenOf(component).map((child) => componentElement(child, tools)).filter(Boolean));
}

function card(component, tools) {
  const isForm = component.asForm;
  const created = isForm ? form({ ...component, children: [] }, tools) : element("div");
  created.className = "w-card";
  if (component.size) created.dataset.size = component.size;
  addStatus(created, component);
  const body = element("div", { class: "w-col" });
  appendChildren(body, component, tools);
  created.append(body);
  const { confirm, cancel } = component;
  if (confirm || cancel) {
    const foot = element("div", { class: "w-row w-foot" });
    for (const [choice, style] of [[cancel, ""], [confirm, "primary"]]) {
      if (choice) foot.append(buttonOf(choice.label, choice.action, { class: style }, tools));
    }
    created.append(foot);
  }
  return created;
}

function listView(component, tools) {
  const created = element("div", { class: "w-card" });
  addStatus(created, component);
  const list = element("ul", { class: "w-list" });
  appendChildren(list, component, tools);
  const limit = Number(component.limit) || Infinity;
  const rest = [...list.children].slice(limit);
  for (const each of rest) each.hidden = true;
  created.append(list);
  if (rest.length) {
    const more = button("Show more", () => {
      for (const each of rest) each.hidden = false;
      more.remove();
    });
    created.append(more);
  }
  return created;
}

function listViewItem(component, tools) {
  const entry = element("li");
  const { onClickAction: action } = component;
  const row = element("div", { class: "w-row" });
  appendChildren(row, component, tools);
  if (!action) entry.append(row);
  else if (row.querySelector("button, input, select, textarea")) {
    row.append(buttonOf("Open", action, {}, tools)); // a button must not contain other buttons, so the row is no button
    entry.append(row);
  } else {
    const whole = button("", () => tools.run(action, whole), { class: "w-row" });
    for (const link of row.querySelectorAll("a")) link.replaceWith(link.textContent); // no link inside of a button
    whole.append(...row.childNodes);
    entry.append(whole);
  }
  return entry;
}

function box(component, tools, direction) {
  const created = element("div", { class: `w-${direction}` });
  layOut(created, component);
  appendChildren(created, component, tools);
  return created;
}

function form(component, tools) {
  const created = element("form", { class: `w-${component.direction ?? "col"}`, novalidate: "" });
  layOut(created, component);
  appendChildren(created, component, tools);
  created.addEventListener("submit", (event) => {
    event.preventDefault();
    tools.run(component.onSubmitAction ?? component.confirm?.action, created);
  });
  return created;
}

// Set by script: the page's Content-Security-Policy forbids style attributes.
function layOut(created, { gap, align, justify, wrap, flex }) {
  const words = { start: "flex-start", end: "flex-end", between: "space-between", around: "space-around", evenly: "space-evenly" };
  if (Number(gap)) created.style.gap = `${Number(gap) * UNIT_PX}px`;
  if (align) created.style.alignItems = words[align] ?? align;
  if (justify) created.style.justifyContent = words[justify] ?? justify;
  if (wrap) created.style.flexWrap = wrap;
  if (Number(flex)) created.style.flex = String(Number(flex));
}

function addStatus(created, { status }) {
  if (status?.text) created.append(element("p", { class: "hint" }, status.text));
}

function text(name, { type, value, color, size, weight, italic, lineThrough, truncate, textAlign, editable }) {
  if (editable) return fields.Input({ ...editable, defaultValue: value });
  const created = element(name, { class: `w-${type.toLowerCase()}` }, String(value ?? ""));
  const data = { color: typeof color === "string" ? color : null, size, weight, align: textAlign };
  for (const [key, token] of Object.entries(data)) if (token) created.dataset[key] = token;
  created.classList.toggle("w-italic", Boolean(italic));
  created.classList.toggle("w-struck", Boolean(lineThrough));
  created.classList.toggle("w-truncated", Boolean(truncate));
  return created;
}

function markdown({ value = "" }) {
  const growing = new MarkdownText(value);
  growing.element.growing = growing;
  return growing.element;
}

function actionButton({ label, onClickAction: action, submit, style, color, disabled }, tools) {
  const attributes = { class: style === "primary" || color === "primary" ? "primary" : "" };
  if (["danger", "success"].includes(color)) attributes["data-color"] = color;
  if (disabled) attributes.disabled = "";
  if (submit) return element("button", attributes, label ?? "Send");
  return buttonOf(label ?? "Open", action, attributes, tools);
}

function buttonOf(label, action, attributes, tools) {
  const created = button(label, () => tools.run(action, created), attributes);
  return created;
}

function image({ src, alt = "", width, height, size }) {
  if (!isOwnImage(src)) return linkTo(src, alt || "Image");
  const created = element("img", { src, alt, class: "w-image", loading: "lazy" });
  if (Number(width ?? size)) created.style.width = `${Number(width ?? size)}px`;
  if (Number(height ?? size)) created.style.height = `${Number(height ?? size)}px`;
  return created;
}
