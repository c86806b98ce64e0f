from django.db import migrations, models
from django.db.models import F
from django.db.models.functions import Left

from support.migrations import LABEL


class Migration(migrations.Migration):
    dependencies = [(LABEL, "0006_approval")]

    operations = [
        migrations.AddField(
            model_name="thread",
            name="organization_id",
            field=models.CharField(db_default="", default="", max_length=200),
        ),
        migrations.AddField(
            model_name="attachment",
            name="organization_id",
            field=models.CharField(db_default="", default="", max_length=200),
        ),
        migrations.AddIndex(
            model_name="thread",
            index=models.Index(
                "user_id", Left("organization_id", 200), F("id") + 0, name="threads_of_organization"
            ),
        ),
        migrations.AddIndex(
            model_name="thread",
            index=models.Index(
                fields=["organization_id", "created_at", "id"],
                condition=~models.Q(organization_id=""),
                name="threads_by_organization",
            ),
        ),
    ]
