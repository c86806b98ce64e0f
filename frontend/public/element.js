/** Creates an element with attributes and text. The text is never parsed as HTML. */
export function element(name, attributes = {}, text = "") {
  const created = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) created.setAttribute(attribute, value);
  if (text) created.textContent = text;
  return created;
}
