from django.contrib import admin
from django.urls import include, path

admin.site.site_header = admin.site.site_title = "Support"
admin.site.site_url = None  # there is no site behind "View site": the page is another server's

urlpatterns = [
    path("support/", include("support.urls")),
    path("admin/", admin.site.urls),
]
