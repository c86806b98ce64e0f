// The form fields of a widget.

import { element } from "../element.js";

let fieldCount = 0; // for the ids that connect labels with their fields

export const fields = {
  Input: ({ inputType = "text", ...rest }, tools) => field("input", { type: inputType }, rest, tools),
  Textarea: ({ rows = 3, ...rest }, tools) => field("textarea", { rows: String(rows) }, rest, tools),
  DatePicker: ({ defaultValue, ...rest }, tools) =>
    field("input", { type: "date" }, { ...rest, defaultValue: defaultValue?.slice(0, 10) }, tools),
  Select: select,
  Checkbox: checkbox,
  RadioGroup: radioGroup,
  Label: ({ value, fieldName }) => element("label", { "data-for": fieldName }, value),
};

/** Connects each label of a form with its field. The names of fields are unique only within a form. */
export function connectLabels(root) {
  for (const label of root.querySelectorAll("label[data-for]")) {
    const named = [...root.querySelectorAll("input, textarea, select")].find(({ name }) => name === label.dataset.for);
    if (!named) continue;
    named.id ||= `field-${(fieldCount += 1)}`;
    named.removeAttribute("aria-label");
    label.htmlFor = named.id;
  }
}

function field(kind, attributes, component, tools) {
  const created = element(kind, attributes);
  describe(created, component, tools);
  created.value = component.defaultValue ?? "";
  return created;
}

// The aria-label names a field for which the widget has no Label.
function describe(created, { name, placeholder, required, disabled, pattern, onChangeAction: action }, tools) {
  created.name = name;
  created.setAttribute("aria-label", placeholder || name);
  if (placeholder && "placeholder" in created) created.placeholder = placeholder;
  if (pattern && "pattern" in created) created.pattern = pattern;
  created.required = Boolean(required);
  created.disabled = Boolean(disabled);
  if (action) created.addEventListener("change", () => tools.run(withValue(action, created), created));
}

// Outside of a form, the action gets the value of its own field.
function withValue(action, created) {
  if (created.form) return action;
  const value = created.type === "checkbox" ? created.checked : created.value;
  return { ...action, payload: { ...action.payload, [created.name]: value } };
}

function select({ options, placeholder, defaultValue, ...rest }, tools) {
  const created = element("select");
  if (placeholder) created.append(element("option", { value: "" }, placeholder));
  for (const { value, label, disabled } of options) {
    created.append(element("option", { value, ...(disabled && { disabled: "" }) }, label));
  }
  describe(created, { ...rest, placeholder }, tools);
  created.value = defaultValue ?? created.options[0]?.value ?? "";
  return created;
}

function checkbox({ label, defaultChecked, ...rest }, tools) {
  const box = element("input", { type: "checkbox" });
  describe(box, rest, tools);
  box.checked = Boolean(defaultChecked);
  if (!label) return box;
  box.removeAttribute("aria-label");
  const created = element("label", { class: "w-choice" });
  created.append(box, label);
  return created;
}

function radioGroup({ options = [], name, ariaLabel, defaultValue, disabled, required, direction, ...rest }, tools) {
  const group = element("div", { class: `w-${direction ?? "col"}`, role: "radiogroup", "aria-label": ariaLabel || name });
  for (const option of options) {
    const radio = element("input", { type: "radio", value: option.value });
    describe(radio, { ...rest, name, required, disabled: disabled || option.disabled }, tools);
    radio.removeAttribute("aria-label");
    radio.checked = option.value === defaultValue;
    const label = element("label", { class: "w-choice" });
    label.append(radio, option.label);
    group.append(label);
  }
  return group;
}
