/** Calls `add(files)` for files that the user drags from another program onto the element. */
export function acceptDroppedFiles(target, add) {
  let depth = 0; // for a child of the target, the browser sends dragenter, and then dragleave
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
  // On the whole window: if the user drops a file beside the target, the browser would open it in place of the page.
  for (const type of ["dragover", "drop"]) {
    window.addEventListener(type, (event) => hasFiles(event) && event.preventDefault());
  }
}
