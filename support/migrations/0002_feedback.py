import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("support", "0001_initial")]

    operations = [
        migrations.AddIndex(
            model_name="thread", index=models.Index(fields=["created_at"], name="threads_by_age")
        ),
        migrations.RemoveIndex(model_name="thread", name="threads_in_order"),
        migrations.AddIndex(
            model_name="thread",
            index=models.Index("user_id", models.F("id") + 0, name="threads_in_order"),
        ),
        migrations.RemoveIndex(model_name="item", name="items_in_order"),
        migrations.AddIndex(
            model_name="item", index=models.Index("thread", models.F("id") + 0, name="items_in_order")
        ),
        migrations.AlterField(
            model_name="item",
            name="thread",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="items",
                to="support.thread",
            ),
        ),
        migrations.CreateModel(
            name="Feedback",
            fields=[
                (
                    "item",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        serialize=False,
                        to="support.item",
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("positive", "Positive"), ("negative", "Negative")], max_length=10
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("updated_at", models.DateTimeField(auto_now=True)),
            ],
        ),
        migrations.RunSQL(
            """
            ALTER TABLE support_item ADD CONSTRAINT item_in_thread
                FOREIGN KEY (thread_id) REFERENCES support_thread ON DELETE CASCADE;
            ALTER TABLE support_feedback ADD CONSTRAINT feedback_on_item
                FOREIGN KEY (item_id) REFERENCES support_item ON DELETE CASCADE;
            """,
            """
            ALTER TABLE support_feedback DROP CONSTRAINT feedback_on_item;
            ALTER TABLE support_item DROP CONSTRAINT item_in_thread;
            """,
        ),
    ]
