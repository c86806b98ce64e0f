const SHOWN_MS = 2000;

/** Copies the text. For a moment, the button's text says so, or its label if the button has an icon. */
export async function copy(text, button) {
  const said = await navigator.clipboard?.writeText(text.replace(/\n$/, "")).then(() => "Copied", () => null);
  const [before, after] = ["Copy", said ?? "Cannot copy"]; // without https, browsers do not let a page copy
  const say = (label) => {
    if (!button.classList.contains("icon")) return (button.textContent = label);
    button.title = label;
    button.setAttribute("aria-label", label);
    button.classList.toggle("done", label === "Copied");
    button.querySelector("use").setAttribute("href", label === "Copied" ? "#icon-done" : "#icon-copy");
  };
  say(after);
  setTimeout(() => say(before), SHOWN_MS);
}
