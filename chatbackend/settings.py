"""Django's settings. The values come from environment variables, and .env.example explains each variable.

The defaults in this file are chatbackend's. authn/conf.py and support/conf.py have defaults, too: those are
for a project of a team's own that installs the two apps.
"""

from pathlib import Path
from typing import Any

from django.conf import global_settings

from chatbackend import database_url
from chatbackend.environment import env, flag, from_json, mapping, names, number
from chatbackend.logs.configuration import logging_configuration
from support import media_types
from support.conf import MCP_HEADERS, MCP_TOOLS

BASE_DIR = Path(__file__).resolve().parent.parent

# A variable of the environment overrides the file. The tests set ENV_FILE to an empty file, so that a
# developer's .env has no effect on them.
env.read_env(env.str("ENV_FILE", default=str(BASE_DIR / ".env")))

# --- Django ---------------------------------------------------------------------------------------

DEBUG = flag("DEBUG", False)
SECRET_KEY = env.str("SECRET_KEY", default="")
ALLOWED_HOSTS = names("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"] if DEBUG else [])

ROOT_URLCONF = "chatbackend.urls"
API_PREFIX = "/support/"  # views under this prefix answer in JSON and use no Django session
# The default is our own handler. Django's is "django.core.handlers.asgi.ASGIHandler".
ASGI_HANDLER = env.str("ASGI_HANDLER", default="runtime.handler.WorkerThreadHandler")
WORKER_THREADS = number("WORKER_THREADS", 4)
APPEND_SLASH = False  # a redirect would turn a POST into a GET
USE_TZ = True
# Django makes this the time zone of the process. The ChatKit SDK makes naive local times, so they are in UTC.
TIME_ZONE = "UTC"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

ASGI_APPLICATION = "chatbackend.asgi.application"  # for manage.py runserver
INSTALLED_APPS = [
    "chatbackend",
    "authn",
    "support",  # above staticfiles, so that its runserver, which serves ASGI, replaces Django's
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

API_DOCS = flag("API_DOCS", DEBUG)
if API_DOCS:
    INSTALLED_APPS.append("drf_spectacular_sidecar")  # the static files of Swagger UI

MIDDLEWARE = [
    "authn.audit.request_id_middleware",
    "authn.responses.json_errors_middleware",
    "corsheaders.middleware.CorsMiddleware",
    "chatbackend.web.headers.policies_middleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "chatbackend.web.pages.api_skips_middleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "chatbackend.web.pages.end_of_pages_middleware",
    "chatbackend.web.overload.overload_middleware",
    "chatbackend.web.body_limit.body_limit_middleware",
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

AUTH_PASSWORD_VALIDATORS = [  # for admin accounts; Better Auth's users never sign in here
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# --- Database and cache ---------------------------------------------------------------------------

DATABASE_TIMEOUT_SECONDS = number("DATABASE_TIMEOUT_SECONDS", 5.0)
DATABASE_FAULTS: dict[str, tuple[str, str]] = {}  # (fault, hint) by the name of the variable


def database(name: str) -> dict[str, Any]:
    """Return an entry of DATABASES from the variable ``name``.

    If the URL is unusable, the entry has no engine, and a system check reports the fault.
    """
    try:
        parsed = database_url.parse(env.str(name, default="postgresql:///"))
    except database_url.UnusableUrl as exc:
        DATABASE_FAULTS[name] = (f"{name} {exc.fault}.", exc.hint)
        parsed = {}
    # Only our handler has threads that live on after a request. Django's handler starts a thread for each
    # request, and nothing would close a connection that such a thread keeps.
    keeps_connections = ASGI_HANDLER == "runtime.handler.WorkerThreadHandler"
    return database_url.configure(parsed, DATABASE_TIMEOUT_SECONDS, keeps_connections=keeps_connections)


DATABASES = {"default": database("DATABASE_URL")}
DATABASE_ROUTERS = ["authn.tables.routers.BetterAuthRouter"]
BETTER_AUTH_DATABASE = "default"
BETTER_AUTH_TIME_ZONE = env.str("BETTER_AUTH_TIME_ZONE", default="UTC")
_has_own_url = bool(env.str("BETTER_AUTH_DATABASE_URL", default=""))
if _has_own_url or BETTER_AUTH_TIME_ZONE != "UTC":
    BETTER_AUTH_DATABASE = "better_auth"
    # PostgreSQL and Django read a timestamp without a time zone in the time zone of the connection. Our own
    # connection stays in UTC, so another time zone needs another connection.
    DATABASES["better_auth"] = database("BETTER_AUTH_DATABASE_URL" if _has_own_url else "DATABASE_URL")
    DATABASES["better_auth"]["TIME_ZONE"] = BETTER_AUTH_TIME_ZONE

CACHES = {"default": env.cache("CACHE_URL", default="locmemcache://")}
if CACHES["default"]["BACKEND"].endswith(".LocMemCache"):
    # The throttles count in this cache. With Django's default of 300 entries, the cache would drop counts.
    CACHES["default"].setdefault("OPTIONS", {}).setdefault("MAX_ENTRIES", 100_000)
if CACHES["default"]["BACKEND"].endswith(".RedisCache"):
    # The Redis client has no time limit by default.
    CACHES["default"]["OPTIONS"] = {"socket_connect_timeout": 1, "socket_timeout": 1}

# --- REST framework -------------------------------------------------------------------------------

NUM_PROXIES = number("NUM_PROXIES", 0)
REFUSED_RATE_PER_ADDRESS = env.str("REFUSED_RATE_PER_ADDRESS", default="60/min")

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["authn.authentication.BetterAuthAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "EXCEPTION_HANDLER": "authn.responses.exception_handler",
    "NUM_PROXIES": NUM_PROXIES,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "DEFAULT_GENERATOR_CLASS": "chatbackend.openapi.generator.Generator",
    "OAS_VERSION": "3.1.0",
    "TITLE": "chatbackend",
    "VERSION": "1",
    "DESCRIPTION": "chatbackend connects [Better Auth](https://better-auth.com) with OpenAI's "
    "[ChatKit](https://openai.github.io/chatkit-js/). A page sends a user's messages together with the "
    "user's Better Auth token, and gets the answers as a stream. Each user sees only their own conversations "
    "and files.",
    "TAGS": [  # in the order in which Swagger UI shows them
        {"name": "chatkit", "description": "Conversations. A page that uses ChatKit needs only this URL."},
        {"name": "attachments", "description": "Files that a user attaches to a message."},
        {"name": "health", "description": "For load balancers and monitoring. These need no credentials."},
    ],
    "SERVERS": [{"url": "/"}],  # the server that serves the document
    "SCHEMA_PATH_PREFIX": API_PREFIX,
    "DISABLE_DOCSTRING_DESCRIPTIONS": True,  # our docstrings are for readers of the code
    "POSTPROCESSING_HOOKS": [],
}
JSON_ERRORS_UNDER = API_PREFIX

# --- Better Auth ----------------------------------------------------------------------------------

BETTER_AUTH_URL = env.str("BETTER_AUTH_URL", default="")
BETTER_AUTH_ISSUER = env.str("BETTER_AUTH_ISSUER", default="")
BETTER_AUTH_AUDIENCE = names("BETTER_AUTH_AUDIENCE", [])
BETTER_AUTH_CREDENTIALS = names("BETTER_AUTH_CREDENTIALS", ["jwt"])
BETTER_AUTH_REALM = env.str("BETTER_AUTH_REALM", default="chatbackend")
BETTER_AUTH_COOKIE_NAME = env.str("BETTER_AUTH_COOKIE_NAME", default="better-auth.session_token")
if env.str("BETTER_AUTH_SECURE_COOKIES", default=""):  # otherwise the scheme of BETTER_AUTH_URL decides
    BETTER_AUTH_SECURE_COOKIES = flag("BETTER_AUTH_SECURE_COOKIES", True)
BETTER_AUTH_BEARER_REQUIRE_SIGNATURE = flag("BETTER_AUTH_BEARER_REQUIRE_SIGNATURE", True)
BETTER_AUTH_SESSION_SOURCE = env.str("BETTER_AUTH_SESSION_SOURCE", default="database")
BETTER_AUTH_SESSION_PREFIX = env.str("BETTER_AUTH_SESSION_PREFIX", default="")
BETTER_AUTH_KEYS = env.str("BETTER_AUTH_KEYS", default="database")
BETTER_AUTH_JWKS_URL = env.str("BETTER_AUTH_JWKS_URL", default="")
BETTER_AUTH_JWKS_PRIVATE = flag("BETTER_AUTH_JWKS_PRIVATE", DEBUG)
BETTER_AUTH_KEYS_TTL_SECONDS = number("BETTER_AUTH_KEYS_TTL_SECONDS", 60.0)
BETTER_AUTH_SECRET = env.str("BETTER_AUTH_SECRET", default="")
BETTER_AUTH_SECRETS = env.str("BETTER_AUTH_SECRETS", default="")
BETTER_AUTH_ALGORITHMS = names("BETTER_AUTH_ALGORITHMS", [])
BETTER_AUTH_LEEWAY_SECONDS = number("BETTER_AUTH_LEEWAY_SECONDS", 10.0)
BETTER_AUTH_MAX_TOKEN_LIFETIME_SECONDS = number("BETTER_AUTH_MAX_TOKEN_LIFETIME_SECONDS", 3600.0)
BETTER_AUTH_REQUIRE_SID = flag("BETTER_AUTH_REQUIRE_SID", False)
BETTER_AUTH_OAUTH_ISSUER = env.str("BETTER_AUTH_OAUTH_ISSUER", default="")
BETTER_AUTH_OAUTH_OFFLINE_ACCESS = flag("BETTER_AUTH_OAUTH_OFFLINE_ACCESS", False)
BETTER_AUTH_OAUTH_REQUIRE_RESOURCE = flag("BETTER_AUTH_OAUTH_REQUIRE_RESOURCE", True)
BETTER_AUTH_OAUTH_TOKEN_PREFIX = env.str("BETTER_AUTH_OAUTH_TOKEN_PREFIX", default="")
BETTER_AUTH_NAMING = env.str("BETTER_AUTH_NAMING", default="camel")
BETTER_AUTH_TABLES = mapping("BETTER_AUTH_TABLES")
BETTER_AUTH_COLUMNS = mapping("BETTER_AUTH_COLUMNS")
BETTER_AUTH_PLUGINS = names("BETTER_AUTH_PLUGINS", [])

# --- ChatKit --------------------------------------------------------------------------------------

CHATKIT_SERVER = env.str("CHATKIT_SERVER", default="support.server.SupportServer")
CHATKIT_CONTEXT = env.str("CHATKIT_CONTEXT", default="support.context.build")
OPENAI_API_KEY = env.str("OPENAI_API_KEY", default="")
OPENAI_BASE_URL = env.str("OPENAI_BASE_URL", default="")
SUPPORT_MODEL = env.str("SUPPORT_MODEL", default="")
SUPPORT_MODELS = names("SUPPORT_MODELS", [])
SUPPORT_MODEL_API = env.str("SUPPORT_MODEL_API", default="responses")
SUPPORT_TITLE_MODEL = env.str("SUPPORT_TITLE_MODEL", default="")
SUPPORT_TRANSCRIPTION_MODEL = env.str("SUPPORT_TRANSCRIPTION_MODEL", default="")
SUPPORT_INSTRUCTIONS = env.str("SUPPORT_INSTRUCTIONS", default="")
SUPPORT_INSTRUCTIONS_FILE = env.str("SUPPORT_INSTRUCTIONS_FILE", default="")
SUPPORT_MCP_SERVERS = from_json("SUPPORT_MCP_SERVERS", "[]")
SUPPORT_TOOLS = names("SUPPORT_TOOLS", [])
SUPPORT_AGENT = env.str("SUPPORT_AGENT", default="")
SUPPORT_CONVERSATIONS = env.str("SUPPORT_CONVERSATIONS", default="user")
SUPPORT_MCP = flag("SUPPORT_MCP", False)
SUPPORT_MCP_URL = env.str("SUPPORT_MCP_URL", default="")
SUPPORT_MCP_TOOLS = names("SUPPORT_MCP_TOOLS", MCP_TOOLS)
SUPPORT_MCP_ACCEPT_SESSION_TOKENS = flag("SUPPORT_MCP_ACCEPT_SESSION_TOKENS", False)
SUPPORT_TRACING = flag("SUPPORT_TRACING", False)
SUPPORT_RATE_PER_USER = env.str("SUPPORT_RATE_PER_USER", default="120/min")
SUPPORT_STREAMS_PER_USER = number("SUPPORT_STREAMS_PER_USER", 5)
SUPPORT_MESSAGE_LENGTH = number("SUPPORT_MESSAGE_LENGTH", 50_000)

# --- Attachments ----------------------------------------------------------------------------------

PUBLIC_URL = env.str("PUBLIC_URL", default="")
ATTACHMENT_TYPES = names("ATTACHMENT_TYPES", list(media_types.SUPPORTED))
ATTACHMENT_MAX_BYTES = number("ATTACHMENT_MAX_BYTES", 10_000_000)
ATTACHMENT_BYTES_PER_USER = number("ATTACHMENT_BYTES_PER_USER", 1_000_000_000)
ATTACHMENT_ADDRESS_SECONDS = number("ATTACHMENT_ADDRESS_SECONDS", 600)

ATTACHMENT_DIRECTORY = env.str("ATTACHMENT_DIRECTORY", default="")
STORAGES = global_settings.STORAGES
if _storage := env.str("ATTACHMENT_STORAGE", default=""):
    _options = from_json("ATTACHMENT_STORAGE_OPTIONS", "{}")
    STORAGES = STORAGES | {"attachments": {"BACKEND": _storage, "OPTIONS": _options}}

# --- Browsers and transport -----------------------------------------------------------------------

DATA_UPLOAD_MAX_MEMORY_SIZE = number("DATA_UPLOAD_MAX_MEMORY_SIZE", 1_000_000)  # bytes

CORS_ALLOWED_ORIGINS = names("CORS_ALLOWED_ORIGINS", [])
CORS_URLS_REGEX = f"^{API_PREFIX}"
CORS_ALLOW_CREDENTIALS = "cookie" in BETTER_AUTH_CREDENTIALS  # other credentials need no cookies
CORS_ALLOW_METHODS = ["GET", "POST", "PUT", "OPTIONS"]
CORS_ALLOW_HEADERS = [
    "accept",
    "accept-language",
    "authorization",
    "content-type",
    "x-request-id",
    # ChatKit's client sends these two headers. If they are not allowed, its preflight request fails.
    "chatkit-frame-instance-id",
    "chatkit-device-id",
    # OpenTelemetry and Sentry add these headers to each request of a page.
    "traceparent",
    "tracestate",
    "baggage",
    "sentry-trace",
    *MCP_HEADERS,
    *names("CORS_ALLOW_HEADERS", []),
]
CORS_EXPOSE_HEADERS = ["x-request-id", "retry-after", "www-authenticate"]

SECURE_SSL_REDIRECT = flag("SECURE_SSL_REDIRECT", not DEBUG)
SECURE_HSTS_SECONDS = number("SECURE_HSTS_SECONDS", 0 if DEBUG else 31_536_000)
# These two affect the whole domain and are hard to undo, so they stay off until the operator sets them.
SECURE_HSTS_INCLUDE_SUBDOMAINS = flag("SECURE_HSTS_INCLUDE_SUBDOMAINS", False)
SECURE_HSTS_PRELOAD = flag("SECURE_HSTS_PRELOAD", False)
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]  # they warn if the two settings are off
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not DEBUG
CSRF_COOKIE_HTTPONLY = True  # the admin's forms contain the token; no script needs the cookie
if flag("TRUST_X_FORWARDED_PROTO", False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# --- Metrics --------------------------------------------------------------------------------------

METRICS_PORT = number("METRICS_PORT", 0)
METRICS_ADDRESS = env.str("METRICS_ADDRESS", default="127.0.0.1")
METRICS_DIRECTORY = env.str("METRICS_DIRECTORY", default="")

# --- Logs and error reports -----------------------------------------------------------------------

if not DEBUG:
    DEFAULT_EXCEPTION_REPORTER = "chatbackend.logs.error_reports.Reporter"
    DEFAULT_EXCEPTION_REPORTER_FILTER = "chatbackend.logs.error_reports.Filter"

LOGGING = logging_configuration(env.str("LOGGING_LEVEL", default="INFO"), as_json=not DEBUG)
