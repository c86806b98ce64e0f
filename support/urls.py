from django.urls import path

from support.attachments.views import ContentView, DetailView, DirectUploadView, UploadView
from support.conf import conf
from support.views import ChatKitView, health

# Not the label of the app: a project may have an app of its own called "support".
app_name = "chatkit"
urlpatterns = [
    path("chatkit", ChatKitView.as_view(), name="endpoint"),
    path("attachments", DirectUploadView.as_view(), name="attachments"),
    path("attachments/<attachment_id>", DetailView.as_view(), name="attachment"),
    path("attachments/<attachment_id>/upload", UploadView.as_view(), name="attachment-upload"),
    path("attachments/<attachment_id>/content", ContentView.as_view(), name="attachment-content"),
    path("health", health, name="health"),
]
if conf.SUPPORT_MCP:
    from support.mcp.views import MCPView

    urlpatterns.append(path("mcp", MCPView.as_view(), name="mcp"))
