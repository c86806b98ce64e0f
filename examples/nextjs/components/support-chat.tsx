"use client";
import { ChatKit, useChatKit } from "@openai/chatkit-react";
import { useEffect, useState } from "react";
import { PlainChat } from "@/components/plain-chat";
import { API, fetchAs } from "@/lib/chatkit-fetch";

const SCRIPT = "https://cdn.platform.openai.com/deployments/chatkit/chatkit.js";
const TIMEOUT = 10_000; // milliseconds. Some firewalls drop packets, and the browser would wait for minutes

let script: Promise<boolean> | undefined;

/** Loads OpenAI's script once. Whether it could be loaded. */
function loadScript() {
  script ??= new Promise((resolve) => {
    const element = document.createElement("script");
    element.src = SCRIPT;
    element.onload = () => resolve(true);
    element.onerror = () => resolve(false);
    setTimeout(() => resolve(false), TIMEOUT);
    document.head.append(element);
  });
  return script;
}

/** ChatKit, or the plain chat where OpenAI's script cannot be loaded. Give it the user's id as `key`. */
export function SupportChat({ userId }: { userId: string }) {
  const [hasChatKit, setHasChatKit] = useState<boolean>();

  useEffect(() => {
    void loadScript().then(setHasChatKit);
  }, []);

  if (hasChatKit === undefined) return <p role="status">Loading …</p>;
  return hasChatKit ? <OpenAIChat userId={userId} /> : <PlainChat userId={userId} />;
}

function OpenAIChat({ userId }: { userId: string }) {
  const domainKey = process.env.NEXT_PUBLIC_CHATKIT_DOMAIN_KEY ?? "localhost";
  const { control } = useChatKit({ api: { url: API, domainKey, fetch: fetchAs(userId) } });
  return <ChatKit control={control} style={{ height: 600, width: 360 }} />;
}
