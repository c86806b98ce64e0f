from django.contrib import admin
from django.urls import include, path
from rest_framework.routers import SimpleRouter

from orders.views import OrderViewSet

router = SimpleRouter()
router.register("orders", OrderViewSet, basename="order")

urlpatterns = [
    path("admin/", admin.site.urls),
    path("support/", include("support.urls")),
    *router.urls,
]
