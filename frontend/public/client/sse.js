// Reads server-sent events from a fetch body. EventSource cannot send a POST or an Authorization header.

/** Yields the data of each event. `body` is a ReadableStream; its chunks may end anywhere. */
export async function* readEvents(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder(); // keeps an incomplete character at the end of a chunk
  let unfinished = "";
  let afterReturn = false;
  let data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return; // drop an event without its blank line: it is incomplete
      let text = decoder.decode(value, { stream: true });
      if (!text) continue;
      if (afterReturn && text.startsWith("\n")) text = text.slice(1); // the second half of a CR LF
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
    await reader.cancel().catch(() => {}); // end the request if the caller stops early
  }
}

// A comment starts with a colon and has no name. ChatKit does not use event, id and retry.
function dataOf(line) {
  const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
  return name === "data" ? [value] : [];
}
