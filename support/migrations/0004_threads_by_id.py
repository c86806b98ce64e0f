from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("support", "0003_attachment")]

    operations = [
        migrations.AddIndex(
            model_name="thread",
            index=models.Index(fields=["thread_id"], name="threads_by_id"),
        ),
    ]
