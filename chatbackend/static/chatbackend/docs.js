"use strict";

const place = document.getElementById("docs");

SwaggerUIBundle({
  domNode: place,
  url: place.dataset.openapi,
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  persistAuthorization: false, // a token is gone with the page
  validatorUrl: null, // or the document's address would be sent to swagger.io
});
