import { authClient } from "@/lib/auth-client";

export const API = process.env.NEXT_PUBLIC_CHATKIT_URL ?? "";
if (!API) throw new Error("Set NEXT_PUBLIC_CHATKIT_URL, and build the page again.");

async function tokenOf(userId: string) {
  const { data } = await authClient.token();
  const payload = data?.token.split(".")[1]?.replaceAll("-", "+").replaceAll("_", "/");
  if (data && payload && JSON.parse(atob(payload)).sub === userId) return data.token;
  authClient.$store.notify("$sessionSignal"); // makes useSession() ask Better Auth who is signed in now
  throw new Error("There is no token for this user.");
}

export function fetchAs(userId: string) {
  return async (url: RequestInfo | URL, init: RequestInit = {}) => {
    const target = new URL(url instanceof Request ? url.url : url, location.href);
    if (target.origin !== new URL(API).origin) return fetch(url, init); // file storage must not see the token
    const send = async () => {
      const headers = new Headers(init.headers);
      headers.set("Authorization", `Bearer ${await tokenOf(userId)}`);
      return fetch(url, { ...init, headers, credentials: "omit" });
    };
    const response = await send();
    return response.status === 401 ? send() : response;
  };
}
