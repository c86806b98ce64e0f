import { createAuthMiddleware } from "better-auth/api";

const LOOPBACK = ["localhost", "127.0.0.1", "[::1]"];

// Clients such as Claude Code register without an application_type. Better Auth then takes them for websites,
// and refuses their redirect to this machine.
export const registerLocalClientsAsNative = createAuthMiddleware(async (ctx) => {
  if (ctx.path !== "/oauth2/register" || ctx.body.application_type) return;
  for (const uri of ctx.body.redirect_uris ?? []) {
    if (!URL.canParse(uri) || !LOOPBACK.includes(new URL(uri).hostname)) return;
  }
  return { context: { ...ctx, body: { ...ctx.body, application_type: "native" } } };
});
