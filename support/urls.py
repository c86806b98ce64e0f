from django.urls import path

from support.attachments.views import ContentView, DetailView, DirectUploadView, UploadView
from support.views import ChatKitView, health

urlpatterns = [
    path("chatkit", ChatKitView.as_view(), name="chatkit"),
    path("attachments", DirectUploadView.as_view(), name="attachments"),
    path("attachments/<attachment_id>", DetailView.as_view(), name="attachment"),
    path("attachments/<attachment_id>/upload", UploadView.as_view(), name="attachment-upload"),
    path("attachments/<attachment_id>/content", ContentView.as_view(), name="attachment-content"),
    path("health", health, name="health"),
]
