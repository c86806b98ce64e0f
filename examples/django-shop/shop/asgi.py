"""For an ASGI server: uvicorn shop.asgi:application --ws none"""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
application = get_asgi_application()

from support.asgi import wrap  # noqa: E402 - it needs Django's apps, which get_asgi_application loads

application = wrap(application)
