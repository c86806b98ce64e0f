from django.db import migrations, models

from support.migrations import LABEL


class Migration(migrations.Migration):
    dependencies = [(LABEL, "0004_threads_by_id")]

    operations = [
        migrations.AlterModelOptions(name="thread", options={"verbose_name": "conversation"}),
        migrations.AddIndex(
            model_name="feedback",
            index=models.Index(
                fields=["updated_at"], condition=models.Q(("kind", "negative")), name="feedback_negative"
            ),
        ),
    ]
