// The authorization server for MCP clients, if BETTER_AUTH_PLUGINS lists oauth-provider: docs/mcp.md

import { mcp } from "@better-auth/mcp";
import { createAuthMiddleware } from "better-auth/api";

// The last two are those of the backend's own tools.
const SCOPES = ["openid", "offline_access", "conversations:read", "assistant:ask"];

/** `mcpUrl`: the backend's MCP endpoint. `toolScopes`: the scopes of the team's own tools. */
export function authorizationServer({ mcpUrl, toolScopes }) {
  return mcp({
    loginPage: "/",
    consentPage: "/consent.html",
    resource: mcpUrl,
    scopes: [...SCOPES, ...toolScopes],
    allowDynamicClientRegistration: true,
    allowUnauthenticatedClientRegistration: true,
    silenceWarnings: { oauthAuthServerConfig: true, openidConfig: true }, // server.mjs answers at these paths
  });
}

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
