"""The settings of the shop. The parts that Better Auth and the chat need are at the end."""

from pathlib import Path

import environ
from corsheaders.defaults import default_headers

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

SECRET_KEY = env.str("SECRET_KEY", default="only-for-a-shop-on-this-machine-write-your-own")
DEBUG = True
DATABASES = {"default": env.db("DATABASE_URL")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "shop.urls"
STATIC_URL = "static/"
TIME_ZONE = "UTC"

INSTALLED_APPS = [
    "orders",
    "rest_framework",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "corsheaders.middleware.CorsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# Better Auth's users
INSTALLED_APPS += ["authn", "corsheaders"]
DATABASE_ROUTERS = ["authn.tables.routers.BetterAuthRouter"]
BETTER_AUTH_URL = env.str("BETTER_AUTH_URL")
CORS_ALLOWED_ORIGINS = [env.str("PAGE_ORIGIN", default=BETTER_AUTH_URL)]
CORS_ALLOW_HEADERS = [*default_headers, "chatkit-frame-instance-id", "chatkit-device-id"]

# The chat
INSTALLED_APPS = ["support", *INSTALLED_APPS]
ASGI_APPLICATION = "shop.asgi.application"
OPENAI_API_KEY = env.str("OPENAI_API_KEY", default="")
SUPPORT_MODEL = env.str("SUPPORT_MODEL", default="")
SUPPORT_INSTRUCTIONS = "You are the assistant of a tea shop. Answer in two sentences."
SUPPORT_TOOLS = ["orders.tools"]
