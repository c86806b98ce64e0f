"use strict";

const element = document.getElementById("docs");

SwaggerUIBundle({
  domNode: element,
  url: element.dataset.openapi,
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  persistAuthorization: false, // forget the token when the page is closed
});
