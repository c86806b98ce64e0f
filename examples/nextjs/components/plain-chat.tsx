"use client";
import { type FormEvent, useEffect, useRef, useState } from "react";
import { type Message, apply, eventsOf } from "@/lib/chat-events";
import { API, fetchAs } from "@/lib/chatkit-fetch";

const FAILED = "The answer failed. Try again in a moment.";

/** One conversation in text. It has no list of conversations and no attachments. */
export function PlainChat({ userId }: { userId: string }) {
  const [messages, setMessages] = useState<Message[]>([]);
  const [text, setText] = useState("");
  const [problem, setProblem] = useState("");
  const [isAnswering, setIsAnswering] = useState(false);
  const threadId = useRef<string>(undefined);
  const request = useRef<AbortController>(undefined);

  useEffect(() => () => request.current?.abort(), []); // the answer ends if the user leaves

  async function send(event: FormEvent) {
    event.preventDefault();
    if (isAnswering) return; // Enter submits a form without a submit button
    const { signal } = (request.current = new AbortController());
    setProblem("");
    setIsAnswering(true);
    try {
      await ask(signal);
    } catch (error) {
      if (!signal.aborted) setProblem(error instanceof Error ? error.message : String(error));
    }
    setIsAnswering(false);
  }

  async function ask(signal: AbortSignal) {
    const input = { content: [{ type: "input_text", text }], attachments: [], inference_options: {} };
    const operation = threadId.current
      ? { type: "threads.add_user_message", params: { thread_id: threadId.current, input } }
      : { type: "threads.create", params: { input } };
    const headers = { "Content-Type": "application/json", Accept: "text/event-stream" };
    const init = { method: "POST", headers, body: JSON.stringify(operation), signal };
    const response = await fetchAs(userId)(API, init);
    if (!response.ok || !response.body) throw new Error(await problemOf(response));
    setText("");
    for await (const event of eventsOf(response.body)) {
      if (event.type === "thread.created") threadId.current = event.thread.id;
      if (event.type === "error" || event.type === "notice") setProblem(event.message ?? FAILED);
      setMessages((shown) => apply(shown, event));
    }
  }

  return (
    <section aria-label="Chat">
      <div role="log" aria-label="Messages" aria-busy={isAnswering}>
        {messages.map(({ id, author, text }) => (
          <article key={id}>
            <strong>{author}</strong>
            <p style={{ whiteSpace: "pre-wrap" }}>{text}</p>
          </article>
        ))}
      </div>
      <p role="alert">{problem}</p>
      <form onSubmit={send}>
        <input aria-label="Message" value={text} onChange={(event) => setText(event.target.value)} required />
        {isAnswering ? (
          <button type="button" onClick={() => request.current?.abort()}>
            Stop
          </button>
        ) : (
          <button>Send</button>
        )}
      </form>
    </section>
  );
}

/** The message of an error of our backend. A proxy's error has another body. */
async function problemOf(response: Response): Promise<string> {
  const body = await response.json().catch(() => null);
  return body?.message || FAILED;
}
