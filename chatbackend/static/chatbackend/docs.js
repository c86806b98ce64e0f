"use strict";

const element = document.getElementById("docs");

SwaggerUIBundle({
  domNode: element,
  url: element.dataset.openapi,
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  defaultModelExpandDepth: 2, // shows the list of all operations in the schema of a request
  // Keep the token in memory only, and forget it when the page is closed or reloaded. Otherwise it would be in
  // the browser's local storage, where every script of this origin could read it later.
  persistAuthorization: false,
});
