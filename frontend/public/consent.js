// The page on which a user allows an OAuth client, such as an MCP client, to act in their name.

import { element } from "./element.js";
import * as session from "./session.js";

const MEANINGS = {
  openid: "Know your user id",
  offline_access: "Stay connected without asking you again",
  "conversations:read": "Read your conversations",
  "assistant:ask": "Ask the assistant, and write to your conversations",
};

const $ = (id) => document.getElementById(id);

await start();

async function start() {
  const request = new URLSearchParams(session.clientRequest);
  try {
    const user = await session.current();
    if (!user || !session.clientRequest) throw new Error(session.REQUEST_ENDED);
    const { client_name: name, client_id: id } = await session.clientNamed(request.get("client_id"));
    $("client-name").textContent = name || id;
    $("client-host").textContent = placeOf(request.get("redirect_uri"));
    $("user-email").textContent = user.email;
    $("scopes").replaceChildren(...request.get("scope").split(" ").map(meaning));
    $("consent").hidden = false;
  } catch (error) {
    $("start-alert").textContent = error.message;
  }
  for (const button of document.querySelectorAll(".choice button")) {
    button.addEventListener("click", () => answer(button.value === "allow"));
  }
}

async function answer(accept) {
  const buttons = document.querySelectorAll(".choice button");
  for (const button of buttons) button.disabled = true;
  $("consent-alert").textContent = "";
  try {
    location.replace(await session.consent(accept));
  } catch (error) {
    $("consent-alert").textContent = error.message;
    for (const button of buttons) button.disabled = false;
  }
}

function meaning(scope) {
  return element("li", {}, MEANINGS[scope] ?? scope);
}

// The host tells users more than the name, which anybody can choose. An app on this machine has no host.
function placeOf(uri) {
  const { protocol, hostname } = new URL(uri);
  if (["localhost", "127.0.0.1", "[::1]"].includes(hostname)) return "an app on this computer";
  return protocol === "https:" ? hostname : `the app for ${protocol}`;
}
