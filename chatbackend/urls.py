from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("support/", include("support.urls")),
    path("admin/", admin.site.urls),
]
