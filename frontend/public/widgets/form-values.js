// The values of a widget's form, which the payload of its action gets.

/** The values by name. A dot in a name, such as "address.city", makes an object. */
export function valuesOf(form) {
  const values = Object.create(null);
  for (const field of form.elements) {
    if (!field.name || field.disabled || (field.type === "radio" && !field.checked)) continue;
    put(values, field.name.split("."), field.type === "checkbox" ? field.checked : field.value);
  }
  return values;
}

function put(values, [name, ...rest], value) {
  if (!rest.length) return (values[name] = value);
  if (typeof values[name] !== "object") values[name] = Object.create(null);
  put(values[name], rest, value);
}

/** The payload together with the values. */
export function withValues(payload, values) {
  const isObject = payload !== null && typeof payload === "object" && !Array.isArray(payload);
  return Object.keys(values).length ? { ...(isObject ? payload : {}), ...values } : payload;
}
