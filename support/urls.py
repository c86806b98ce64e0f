from django.urls import path

from support.views import ChatKitView, health

urlpatterns = [
    path("chatkit", ChatKitView.as_view(), name="chatkit"),
    path("health", health, name="health"),
]
