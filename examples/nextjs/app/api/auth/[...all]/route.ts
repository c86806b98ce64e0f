import { toNextJsHandler } from "better-auth/next-js";
import { auth } from "@/lib/auth";

const handler = toNextJsHandler(auth);

export async function GET(request: Request) {
  const response = await handler.GET(request);
  response.headers.set("Cache-Control", "no-store"); // the answer of /token is a credential
  return response;
}

export const { POST } = handler;
