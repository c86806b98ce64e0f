import django.db.models.deletion
from django.db import migrations, models

from support.migrations import LABEL


class Migration(migrations.Migration):
    dependencies = [(LABEL, "0001_initial")]

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
                to=f"{LABEL}.thread",
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
                        to=f"{LABEL}.item",
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
            f"""
            ALTER TABLE "{LABEL}_item" ADD CONSTRAINT item_in_thread
                FOREIGN KEY (thread_id) REFERENCES "{LABEL}_thread" ON DELETE CASCADE;
            ALTER TABLE "{LABEL}_feedback" ADD CONSTRAINT feedback_on_item
                FOREIGN KEY (item_id) REFERENCES "{LABEL}_item" ON DELETE CASCADE;
            """,
            f"""
            ALTER TABLE "{LABEL}_feedback" DROP CONSTRAINT feedback_on_item;
            ALTER TABLE "{LABEL}_item" DROP CONSTRAINT item_in_thread;
            """,
        ),
    ]
