type Item = { id: string; type: string; content: { text: string }[] };

export type Message = { id: string; author: "You" | "Assistant"; text: string };

/** The events that the plain chat shows. There are others, such as those of `workflow` items. */
export type ChatEvent =
  | { type: "thread.created"; thread: { id: string } }
  | { type: "thread.item.added" | "thread.item.done" | "thread.item.replaced"; item: Item }
  | { type: "thread.item.updated"; item_id: string; update: { type: string; delta: string } }
  | { type: "thread.item.removed"; item_id: string }
  | { type: "notice" | "error"; message: string | null };

/** The events of a stream. Each is one line that begins with `data: `. */
export async function* eventsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<ChatEvent> {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let unfinished = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (unfinished + decoder.decode(value, { stream: true })).split("\n");
    unfinished = lines.pop() ?? "";
    for (const line of lines) if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
  }
}

/** The messages after an event. */
export function apply(messages: Message[], event: ChatEvent): Message[] {
  switch (event.type) {
    case "thread.item.added":
    case "thread.item.done":
    case "thread.item.replaced": {
      const { id, type, content } = event.item;
      if (type !== "user_message" && type !== "assistant_message") return messages;
      const text = content.map((part) => part.text).join("\n");
      const message: Message = { id, author: type === "user_message" ? "You" : "Assistant", text };
      const isKnown = messages.some((each) => each.id === id);
      return isKnown ? messages.map((each) => (each.id === id ? message : each)) : [...messages, message];
    }
    case "thread.item.updated": {
      const { type, delta } = event.update;
      if (type !== "assistant_message.content_part.text_delta") return messages;
      return messages.map((each) => (each.id === event.item_id ? { ...each, text: each.text + delta } : each));
    }
    case "thread.item.removed":
      return messages.filter((each) => each.id !== event.item_id);
    default:
      return messages;
  }
}
