from rest_framework.permissions import IsAuthenticated
from rest_framework.serializers import ModelSerializer
from rest_framework.viewsets import ModelViewSet

from authn.authentication import BetterAuthJWTAuthentication
from orders.models import Order


class OrderSerializer(ModelSerializer):
    class Meta:
        model = Order
        fields = ["id", "item", "created_at"]


class OrderViewSet(ModelViewSet):
    authentication_classes = [BetterAuthJWTAuthentication]
    permission_classes = [IsAuthenticated]
    serializer_class = OrderSerializer

    def get_queryset(self):
        return Order.objects.filter(user_id=self.request.user_id)

    def perform_create(self, serializer):
        serializer.save(user_id=self.request.user_id)
