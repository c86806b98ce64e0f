// The files of a message. A file opens or is downloaded at a click.

import { element } from "../element.js";

/** `getAttachment(id)`: a promise of the attachment with new URLs. `report(error)` shows an error. */
export function fileList(attachments, { getAttachment, report }) {
  const list = element("ul", { class: "attachments" });
  for (const attachment of attachments) {
    const isImage = attachment.type === "image";
    const open = element("button", { type: "button", class: "attachment" }, isImage ? "" : attachment.name);
    if (isImage) open.append(thumbnail(attachment, getAttachment));
    open.setAttribute("aria-label", `${isImage ? "Open" : "Download"} ${attachment.name}`);
    open.addEventListener("click", () => openFile(attachment, getAttachment).catch(report));
    const entry = element("li");
    entry.append(open);
    list.append(entry);
  }
  return list;
}

function thumbnail({ id, name, preview_url: address }, getAttachment) {
  const image = element("img", { src: address, alt: name, loading: "lazy" });
  const renew = async () => {
    image.src = await getAttachment(id).then((fresh) => fresh.preview_url, () => "");
  };
  image.addEventListener("error", renew, { once: true }); // its URL expires after some minutes
  return image;
}

async function openFile({ id, type }, getAttachment) {
  // Open an image's window at once: browsers allow it only during the click.
  const view = type === "image" ? window.open("", "_blank") : window;
  try {
    const { content_url: address } = await getAttachment(id);
    (view ?? window).location.assign(address); // a file is downloaded, so the page stays
  } catch (error) {
    if (view !== window) view?.close();
    throw error;
  }
}
