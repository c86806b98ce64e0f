/** Creates an element with attributes and text. The text is never parsed as HTML. */
export function element(name, attributes = {}, text = "") {
  const created = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) created.setAttribute(attribute, value);
  if (text) created.textContent = text;
  return created;
}

/** A button with text, or with an icon of index.html. An icon's label is its tooltip too. */
export function button(label, onClick, { icon, ...attributes } = {}) {
  const created = element("button", { type: "button", ...attributes }, icon ? "" : label);
  if (icon) {
    created.classList.add("icon");
    created.title = label;
    created.setAttribute("aria-label", label);
    created.append(iconElement(icon));
  }
  created.addEventListener("click", onClick);
  return created;
}

function iconElement(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}
