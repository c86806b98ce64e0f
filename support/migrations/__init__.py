from django.apps import apps

# A project may give this app another label (docs/your-django-project.md). Django names the tables after it.
LABEL = apps.get_containing_app_config(__name__).label  # type: ignore[union-attr]  # the app is installed
