import django.db.models.deletion
from django.db import migrations, models

from support.migrations import LABEL


class Migration(migrations.Migration):
    dependencies = [(LABEL, "0005_feedback_negative")]

    operations = [
        migrations.CreateModel(
            name="Approval",
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
                ("tools", models.JSONField()),
                ("digest", models.CharField(max_length=64)),
                ("version", models.CharField(max_length=100)),
                ("state", models.TextField()),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("open", "Open"),
                            ("approved", "Approved"),
                            ("denied", "Denied"),
                            ("withdrawn", "Withdrawn"),
                            ("expired", "Expired"),
                            ("outdated", "Outdated"),
                        ],
                        default="open",
                        max_length=10,
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("expires_at", models.DateTimeField()),
            ],
            options={
                "indexes": [
                    models.Index(
                        fields=["expires_at"],
                        condition=models.Q(("status", "open")),
                        name="approvals_open",
                    )
                ],
            },
        ),
        migrations.RunSQL(
            f"""
            ALTER TABLE "{LABEL}_approval" ADD CONSTRAINT approval_by_item
                FOREIGN KEY (item_id) REFERENCES "{LABEL}_item" ON DELETE CASCADE;
            """,
            f'ALTER TABLE "{LABEL}_approval" DROP CONSTRAINT approval_by_item;',
        ),
    ]
