// Markdown as elements. marked parses it, and DOMPurify keeps only the elements and attributes on two short lists.

import { Marked } from "/libraries/marked.js";
import remend from "/libraries/remend.js";
import "/libraries/purify.js"; // sets window.DOMPurify
import { copy } from "../clipboard.js";
import { element } from "../element.js";

// No id, name, class or style: a text must not look like a part of the page, or hide one.
const KEPT = {
  ALLOWED_TAGS: "p br hr h3 strong em del code pre blockquote ul ol li table thead tbody tr th td a img".split(" "),
  ALLOWED_ATTR: ["href", "src", "alt", "start", "align", "data-depth", "data-language"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true, // an inert document: nothing in it loads or runs
};
const SAFE_LINK = /^(https?:\/\/|mailto:)/i;

const marked = new Marked({
  breaks: true, // a single line break stays one: models write them on purpose
  renderer: {
    // HTML is shown as text. So an answer about HTML stays complete.
    html: ({ text, block }) => (block ? `<p>${escaped(text)}</p>` : /^<br *\/?>$/i.test(text) ? "<br>" : escaped(text)),
    // The page's own headings are h1 and h2. A screen reader wants no gap after them.
    heading({ tokens, depth }) {
      return `<h3 data-depth="${depth}">${this.parser.parseInline(tokens)}</h3>`;
    },
    code: ({ text, lang }) => `<pre data-language="${/^[\w+#.-]*/.exec(lang ?? "")[0]}"><code>${escaped(text)}</code></pre>`,
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
  },
});

let imagesUnder = null;

/** Sets the URL under which images may be shown. All other images become links. */
export function allowImagesUnder(url) {
  imagesUnder = url;
}

export function isOwnImage(address) {
  return imagesUnder !== null && URL.canParse(address) && new URL(address).href.startsWith(imagesUnder);
}

/** A text that may grow. A block that did not change keeps its elements, so nothing flickers. */
export class MarkdownText {
  #blocks = []; // the Markdown of each child of the element
  #frame = 0;
  text = "";

  constructor(text = "") {
    this.element = element("div", { class: "text markdown" });
    this.set(text);
  }

  set(text) {
    this.text = text;
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#render(text);
  }

  append(text) {
    this.text += text;
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#render(withoutHalf(this.text));
    });
  }

  // remend() also closes the ** of an answer that was stopped.
  #render(text) {
    const tokens = marked.lexer(remend(text, { linkMode: "text-only", images: false }));
    const blocks = tokens.filter(({ type }) => type !== "space" && type !== "def");
    blocks.forEach((token, index) => {
      if (this.#blocks[index] === token.raw) return;
      this.#blocks[index] = token.raw;
      if (!this.element.children[index]) this.element.append(element("div"));
      const html = marked.parser(Object.assign([token], { links: tokens.links }));
      patch(this.element.children[index], safeElements(html.trim()));
    });
    this.#blocks.length = blocks.length;
    while (this.element.children.length > blocks.length) this.element.lastChild.remove();
  }
}

// The end of an unfinished text may be half of something: a tag, an image, an escape, the first row of a table, the
// beginning of a list or a fence, or half of ** and `. The page does not show it until the rest arrives.
const HALF = new RegExp(
  [
    /<[a-z/!][^<>\n]{0,200}/,
    /!(\[[^\]\n]*(\](\([^)\n]*)?)?)?/,
    /&#?[a-z0-9]{0,10}|\\/,
    /(^|\n)[ \t]*([-+*#>=]+|\d+[.)]?|`{1,3}|~{1,3}|(```|~~~)[^\n]*)?[ \t]*/,
    /(^|\n\n)\|[^\n]*\n?(\|[-: |]*)?|\n\|[^\n]*/,
    /[*_~`]+/,
  ].map(({ source }) => `(?:${source})$`).join("|"),
  "i",
);

function withoutHalf(text) {
  return text.replace(HALF, "");
}

function escaped(text) {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/**
 * The elements of the HTML, without anything dangerous. Links open in a new tab, images of others become links, and
 * code gets a button that copies it.
 */
export function safeElements(html) {
  const fragment = window.DOMPurify.sanitize(html, KEPT);
  for (const link of fragment.querySelectorAll("a")) {
    if (SAFE_LINK.test(link.getAttribute("href") ?? "")) openOutside(link);
    else link.replaceWith(...link.childNodes);
  }
  for (const image of fragment.querySelectorAll("img")) {
    const address = image.getAttribute("src") ?? "";
    if (!isOwnImage(address)) image.replaceWith(linkTo(address, image.getAttribute("alt") || "Image"));
  }
  for (const code of fragment.querySelectorAll("pre")) frameCode(code);
  for (const table of fragment.querySelectorAll("table")) {
    const box = element("div", { class: "table", role: "group", "aria-label": "Table", tabindex: "0" });
    table.replaceWith(box);
    box.append(table);
  }
  return fragment;
}

/** A link to the address, or only its text if the address is not safe. */
export function linkTo(address, text) {
  if (!SAFE_LINK.test(address)) return document.createTextNode(text);
  const link = element("a", { href: address }, text);
  openOutside(link);
  return link;
}

function openOutside(link) {
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
}

function frameCode(pre) {
  const box = element("div", { class: "code" });
  const head = element("div", { class: "code-head" });
  head.append(element("span", {}, pre.getAttribute("data-language")));
  head.append(element("button", { type: "button", class: "copy-code" }, "Copy"));
  pre.tabIndex = 0; // a long line can be scrolled with the keyboard
  pre.replaceWith(box);
  box.append(head, pre);
}

// One listener for all buttons: patch() may keep a button that an earlier version of the text created.
document.addEventListener("click", ({ target }) => {
  if (target.matches?.("button.copy-code")) copy(target.closest(".code").querySelector("code").textContent, target);
});

/** Makes the children of `old` equal to those of `fresh`, and keeps each node that is equal already. */
function patch(old, fresh) {
  const wanted = [...fresh.childNodes];
  wanted.forEach((after, index) => {
    const before = old.childNodes[index];
    if (!before) old.append(after);
    else if (before.nodeName !== after.nodeName) before.replaceWith(after);
    else if (before.nodeType === Node.TEXT_NODE) before.data === after.data || (before.data = after.data);
    else {
      for (const { name } of [...before.attributes]) after.hasAttribute(name) || before.removeAttribute(name);
      for (const { name, value } of after.attributes) before.setAttribute(name, value);
      patch(before, after);
    }
  });
  while (old.childNodes.length > wanted.length) old.lastChild.remove();
}
