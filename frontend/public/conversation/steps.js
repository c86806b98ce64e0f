// The steps of the assistant before an answer: thoughts, tasks, tool calls and progress. All steps between two messages
// are in one box. It shows one line until the user opens it.

import { element } from "../element.js";
import { linkTo } from "./markdown.js";

/** One workflow, task, tool call or progress text. Its element goes into a box with the steps around it. */
export class Step {
  #item;

  constructor(item) {
    this.#item = item;
    this.id = item.id;
    this.element = element("div", { class: "step" });
    if (item.id) this.element.dataset.id = item.id;
    steps.set(this.element, this);
    tasksOf(item).forEach((task, index) => this.#write(index, task));
  }

  update(update) {
    if (!["workflow.task.added", "workflow.task.updated"].includes(update.type)) return;
    this.#item.workflow.tasks[update.task_index] = update.task;
    this.#write(update.task_index, update.task);
    retitle(this.element.parentElement);
  }

  get isThought() {
    return this.#item.workflow?.type === "reasoning" && !this.#item.workflow.summary?.title;
  }

  get seconds() {
    return this.#item.workflow?.summary?.duration ?? 0;
  }

  get title() {
    const { workflow } = this.#item;
    const task = (workflow?.tasks ?? tasksOf(this.#item)).findLast((each) => each?.title);
    return workflow?.summary?.title ?? task?.title ?? "Steps";
  }

  #write(index, task) {
    while (this.element.children.length <= index) this.element.append(element("p", { class: "text" }));
    const line = this.element.children[index];
    line.textContent = [task.title, task.content, ...(task.queries ?? [])].filter(Boolean).join("\n");
    for (const source of task.sources ?? []) line.append("\n", linkTo(source.url ?? "", source.title || source.filename));
  }
}

const steps = new WeakMap(); // the element of a step -> its Step

/** Adds the step's element to the last box of the container, or to a new box if a message came after the last one. */
export function addStep(container, step) {
  const before = step.closest("details");
  let box = container.lastElementChild;
  if (!box?.matches(".steps:not(.replaced)")) {
    box = element("details", { class: "steps" });
    box.append(element("summary"));
    container.append(box);
  }
  if (before?.open) box.open = true; // the user has opened it
  box.append(step);
  if (before && before !== box) removeIfEmpty(before);
  retitle(box);
}

export function removeStep(step) {
  const box = step.parentElement;
  step.remove();
  if (box) removeIfEmpty(box);
}

function removeIfEmpty(box) {
  if (box.children.length > 1) retitle(box);
  else box.remove();
}

function retitle(box) {
  if (!box?.matches(".steps")) return;
  const all = [...box.querySelectorAll(".step")].map((each) => steps.get(each));
  const thoughts = all.filter((step) => step.isThought);
  const others = all.filter((step) => !step.isThought);
  const titles = thoughts.length ? [thoughtTitle(thoughts)] : [];
  if (others.length) titles.push(others.length === 1 ? others[0].title : `${others.length} steps: ${others.at(-1).title}`);
  box.firstChild.textContent = titles.join(" · ");
}

function thoughtTitle(thoughts) {
  const seconds = thoughts.reduce((sum, step) => sum + step.seconds, 0);
  if (!seconds) return "Thoughts"; // the thoughts are not complete, or took less than a second
  return seconds === 1 ? "Thought for a second" : `Thought for ${seconds} seconds`;
}

function tasksOf({ type, workflow, task, name, status, text }) {
  if (type === "workflow") return workflow.tasks;
  if (type === "task") return [{ ...task, title: task.title ?? "Step" }];
  if (type === "progress") return [{ title: text }];
  const outcome = status === "pending" ? "Not answered yet." : "Answered: this page has no such tool.";
  return [{ title: `Asked the page for ${name}`, content: outcome }];
}
