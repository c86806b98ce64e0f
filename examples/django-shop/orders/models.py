from django.db import models


class Order(models.Model):
    user_id = models.CharField(max_length=128, db_index=True)  # Better Auth's user
    item = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.item
