from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

from chatbackend.openapi import views
from chatbackend.start_page import start_page

admin.site.site_header = admin.site.site_title = "Support"
admin.site.site_url = None  # no "View site" link: the site is on another server

handler500 = "chatbackend.web.overload.server_error_or_unavailable"
urlpatterns: list[URLPattern | URLResolver] = [
    path("support/", include("support.urls")),
    path("", include("support.mcp.well_known")),
    path("admin/", admin.site.admin_view(start_page)),  # in place of the site's own index
    path("admin/", admin.site.urls),
]
if settings.API_DOCS:
    urlpatterns += [
        path("docs", views.page, name="docs"),
        path("docs/openapi.yaml", views.openapi, name="openapi"),
    ]
    if settings.DEBUG:  # in production, / is a 404: the site is on another server
        urlpatterns.append(path("", RedirectView.as_view(pattern_name="docs")))
