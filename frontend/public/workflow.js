// The steps before an answer, such as the assistant's thoughts. The box is closed until the user opens it.

import { element } from "./element.js";

export function workflowElement({ type, tasks, summary }) {
  const box = element("details", { class: "workflow" });
  box.append(element("summary", {}, titleOf(type, summary)));
  tasks.forEach((task, index) => writeTask(box, index, task));
  return box;
}

export function updateWorkflow(box, update) {
  switch (update.type) {
    case "workflow.task.added":
    case "workflow.task.updated":
      writeTask(box, update.task_index, update.task);
      break;
  }
}

function titleOf(type, summary) {
  if (summary?.title) return summary.title;
  if (type !== "reasoning") return "Steps";
  if (!summary?.duration) return "Thoughts"; // the thoughts are not complete, or took less than a second
  return summary.duration === 1 ? "Thought for a second" : `Thought for ${summary.duration} seconds`;
}

function writeTask(box, index, task) {
  while (box.children.length <= index + 1) box.append(element("p", { class: "text" })); // the first child is the summary
  box.children[index + 1].textContent = [task.title, task.content].filter(Boolean).join("\n");
}
