from django.db import migrations, models

from support.migrations import LABEL


class Migration(migrations.Migration):
    dependencies = [(LABEL, "0003_attachment")]

    operations = [
        migrations.AddIndex(
            model_name="thread",
            index=models.Index(fields=["thread_id"], name="threads_by_id"),
        ),
    ]
