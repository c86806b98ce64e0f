// Server-sent events from a fetch body. EventSource itself can send neither a POST nor an Authorization header.

/** Yields each event's data as text. `body` is a ReadableStream of bytes, cut anywhere. */
export async function* readEvents(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder(); // keeps the half of a character that a chunk ends with
  let unfinished = "";
  let afterReturn = false;
  let data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return; // what has had no blank line yet is incomplete, and dropped
      let text = decoder.decode(value, { stream: true });
      if (!text) continue;
      if (afterReturn && text.startsWith("\n")) text = text.slice(1); // the other half of a CR LF
      afterReturn = text.endsWith("\r");
      const lines = (unfinished + text).split(/\r\n|\n|\r/);
      unfinished = lines.pop();
      for (const line of lines) {
        if (line !== "") data.push(...dataOf(line));
        else if (data.length) {
          yield data.join("\n");
          data = [];
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => {}); // whoever stops reading early ends the request
  }
}

// Comments start with a colon and have no name; event, id and retry are not used by ChatKit.
function dataOf(line) {
  const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
  return name === "data" ? [value] : [];
}
