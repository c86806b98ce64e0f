const SHOWN_MS = 2000;

/** Copies the text, and says so for a moment: as the button's text, or as the label of a button with an icon. */
export async function copy(text, button) {
  const said = await navigator.clipboard?.writeText(text.replace(/\n$/, "")).then(() => "Copied", () => null);
  const [before, after] = ["Copy", said ?? "Cannot copy"]; // a page without https may not copy
  const say = (label) => {
    if (!button.classList.contains("icon")) return (button.textContent = label);
    button.title = label;
    button.setAttribute("aria-label", label);
    button.classList.toggle("done", label === "Copied");
  };
  say(after);
  setTimeout(() => say(before), SHOWN_MS);
}
