/** Calls `add(files)` for files that the user drags from another program onto the element. */
export function acceptDroppedFiles(target, add) {
  let depth = 0; // entering a child of the target leaves the target too
  const hasFiles = ({ dataTransfer }) => dataTransfer?.types.includes("Files");
  const show = () => target.classList.toggle("dropping", depth > 0);

  target.addEventListener("dragenter", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth += 1;
    show();
  });
  target.addEventListener("dragleave", (event) => {
    if (!hasFiles(event)) return;
    depth -= 1;
    show();
  });
  target.addEventListener("drop", (event) => {
    depth = 0;
    show();
    if (hasFiles(event)) add(event.dataTransfer.files);
  });
  // Everywhere in the window: a file that misses the target would replace the page.
  for (const type of ["dragover", "drop"]) {
    window.addEventListener(type, (event) => hasFiles(event) && event.preventDefault());
  }
}
