"""Django's settings, all from the environment. Every name is explained in .env.example."""

import json
from logging import WARNING, LogRecord
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import environ
from django.conf import global_settings
from django.core.exceptions import ImproperlyConfigured
from pythonjsonlogger.core import RESERVED_ATTRS

from chatbackend import database_url

N = TypeVar("N", int, float)

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
# What is in the environment already wins. The tests name an empty file, so that nobody's own counts.
env.read_env(env.str("ENV_FILE", default=str(BASE_DIR / ".env")))


def number(name: str, default: N) -> N:
    """Strict, where django-environ's own float would read "1h" as 1.0 and "1e3" as 13.0."""
    try:
        value = type(default)(env.str(name, default=str(default)))
    except ValueError:
        value = None
    if value is None or not isfinite(value):
        raise ImproperlyConfigured(f"{name} should be a number, such as {default}.")
    return value


def flag(name: str, default: bool) -> bool:
    """Strict, where django-environ's own takes "Ture", and nothing, for False: some are on for safety."""
    match env.str(name, default=str(default)).strip().lower():
        case "true" | "on" | "yes" | "y" | "1":
            return True
        case "false" | "off" | "no" | "n" | "0":
            return False
    raise ImproperlyConfigured(f"{name} should be True or False.")


def names(name: str, default: list[str]) -> list[str]:
    """However it is spaced: of "a, b" django-environ's own makes a host " b" that is nobody's."""
    return [each.strip() for each in env.list(name, default=default) if each.strip()]


def mapping(name: str) -> dict[str, str]:
    try:
        given: dict[str, str] = env.dict(name, default={})
    except ValueError:
        raise ImproperlyConfigured(f"{name} should be name=value,name=value.") from None
    return given


def from_json(name: str, default: str) -> Any:
    """Parsed here and not where it is used, so that Django's error reports hide what is called a secret."""
    try:
        return json.loads(env.str(name, default="") or default)
    except ValueError:
        # From None: the error holds the text, secrets and all.
        raise ImproperlyConfigured(f"{name} should be JSON. .env.example shows how.") from None


# --- Django ---------------------------------------------------------------------------------------

DEBUG = flag("DEBUG", False)
SECRET_KEY = env.str("SECRET_KEY", default="")
ALLOWED_HOSTS = names("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"] if DEBUG else [])

ROOT_URLCONF = "chatbackend.urls"
API_PREFIX = "/support/"  # what lies under it answers in JSON, to callers without cookies of Django's
ASGI_APPLICATION = "chatbackend.asgi.application"
# Ours, or Django's own: "django.core.handlers.asgi.ASGIHandler".
ASGI_HANDLER = env.str("ASGI_HANDLER", default="runtime.handler.OneHopHandler")
WORKER_THREADS = number("WORKER_THREADS", 4)
APPEND_SLASH = False  # a redirect would turn a POST into a GET
USE_TZ = True
# Django makes this the zone of the process: ChatKit's SDK stamps naive local times, which so are UTC.
TIME_ZONE = "UTC"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "chatbackend",  # first: its runserver, which serves ASGI, replaces Django's
    "authn",
    "support",
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
    INSTALLED_APPS.append("drf_spectacular_sidecar")  # Swagger UI's files, served as the admin's are

MIDDLEWARE = [
    "authn.audit.request_id_middleware",
    "authn.responses.json_errors_middleware",
    "corsheaders.middleware.CorsMiddleware",
    "chatbackend.web.headers.policies_middleware",
    "django.middleware.security.SecurityMiddleware",
    "chatbackend.web.session_middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "chatbackend.web.session_middleware.AuthenticationMiddleware",
    "chatbackend.web.session_middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "chatbackend.web.service_unavailable.overload_middleware",
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

AUTH_PASSWORD_VALIDATORS = [  # of the admin's accounts; Better Auth's users never sign in here
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# --- Database and cache ---------------------------------------------------------------------------

DATABASE_TIMEOUT_SECONDS = number("DATABASE_TIMEOUT_SECONDS", 5.0)
DATABASE_FAULTS: dict[str, tuple[str, str]] = {}  # for each bad variable: what is wrong, and what to write


def database(name: str) -> dict[str, Any]:
    """A worker keeps its connection, and an open stream has none. Checked before each use, because a
    database that was restarted or suspended (Neon) leaves dead ones behind."""
    alias: dict[str, Any] = {"ENGINE": "", "CONN_HEALTH_CHECKS": True}
    # Django's own handler makes a thread for each request; what such a thread keeps, nobody closes.
    alias["CONN_MAX_AGE"] = None if ASGI_HANDLER == "runtime.handler.OneHopHandler" else 0
    # A bad address gets no engine, and a system check names it.
    try:
        alias |= database_url.parse(env.str(name, default="postgresql:///"))
    except database_url.UnusableAddress as exc:
        DATABASE_FAULTS[name] = (f"{name} {exc.fault}.", exc.hint)
    if not alias["ENGINE"].endswith((".postgresql", ".sqlite3")):
        alias["ENGINE"] = ""  # a scheme that Django has nothing for would end the start before any check
    if alias["ENGINE"].endswith(".sqlite3"):  # Better Auth's alone, on somebody's laptop
        # To be read and no more, and never made where there is none. Python's own converters would
        # read Better Auth's dates as None.
        return alias | {"NAME": f"file:{quote(alias['NAME'])}?mode=ro", "OPTIONS": {"detect_types": 0}}
    if alias["ENGINE"]:
        alias["ENGINE"] = "runtime.postgresql"
    options = {
        "connect_timeout": int(DATABASE_TIMEOUT_SECONDS),
        # An idle connection whose other end is gone is found out, and one through a NAT is not forgotten.
        "keepalives_idle": 60,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        # What is said often, once on a connection.
        "server_side_binding": True,
        "prepare_threshold": 5,
    }
    return alias | {"OPTIONS": options | alias.get("OPTIONS", {})}


DATABASES = {"default": database("DATABASE_URL")}
DATABASE_ROUTERS = ["authn.tables.routers.BetterAuthRouter"]
BETTER_AUTH_DATABASE = "default"
BETTER_AUTH_TIME_ZONE = env.str("BETTER_AUTH_TIME_ZONE", default="UTC")
_has_its_own = bool(env.str("BETTER_AUTH_DATABASE_URL", default=""))
if _has_its_own or BETTER_AUTH_TIME_ZONE != "UTC":
    BETTER_AUTH_DATABASE = "better_auth"
    # What a column without a zone means: PostgreSQL compares it, and Django reads it, in the connection's.
    # Ours stays in UTC, so another zone is another connection.
    DATABASES["better_auth"] = database("BETTER_AUTH_DATABASE_URL" if _has_its_own else "DATABASE_URL")
    DATABASES["better_auth"]["TIME_ZONE"] = BETTER_AUTH_TIME_ZONE

CACHES = {"default": env.cache("CACHE_URL", default="locmemcache://")}
if CACHES["default"]["BACKEND"].endswith(
    ".LocMemCache"
):  # at Django's 300 it forgets who has asked how often
    CACHES["default"].setdefault("OPTIONS", {}).setdefault("MAX_ENTRIES", 100_000)
if CACHES["default"]["BACKEND"].endswith(".RedisCache"):  # its client would wait for ever
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
    "DESCRIPTION": "[ChatKit](https://openai.github.io/chatkit-js/)'s server, for people who have signed in "
    "with [Better Auth](https://better-auth.com): callers show its token, and see what is theirs.",
    "SERVERS": [{"url": "/"}],  # where the document was read
    "SCHEMA_PATH_PREFIX": API_PREFIX,
    "DISABLE_DOCSTRING_DESCRIPTIONS": True,  # they are for who reads the code
    "POSTPROCESSING_HOOKS": [],
}
JSON_ERRORS_UNDER = API_PREFIX

# --- Better Auth ----------------------------------------------------------------------------------

BETTER_AUTH_URL = env.str("BETTER_AUTH_URL", default="")
BETTER_AUTH_ISSUER = env.str("BETTER_AUTH_ISSUER", default="")
BETTER_AUTH_AUDIENCE = names("BETTER_AUTH_AUDIENCE", [])
BETTER_AUTH_CREDENTIALS = names("BETTER_AUTH_CREDENTIALS", ["jwt"])
BETTER_AUTH_COOKIE_NAME = env.str("BETTER_AUTH_COOKIE_NAME", default="better-auth.session_token")
if env.str("BETTER_AUTH_SECURE_COOKIES", default=""):  # else by the scheme of BETTER_AUTH_URL
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
SUPPORT_TRACING = flag("SUPPORT_TRACING", False)
SUPPORT_RATE_PER_USER = env.str("SUPPORT_RATE_PER_USER", default="120/min")
SUPPORT_STREAMS_PER_USER = number("SUPPORT_STREAMS_PER_USER", 5)
SUPPORT_MESSAGE_LENGTH = number("SUPPORT_MESSAGE_LENGTH", 50_000)

# --- Attachments ----------------------------------------------------------------------------------

PUBLIC_URL = env.str("PUBLIC_URL", default="")
ATTACHMENT_TYPES = names(
    "ATTACHMENT_TYPES",
    [
        *("image/png", "image/jpeg", "image/gif", "image/webp"),
        *("application/pdf", "text/plain", "text/csv", "text/markdown"),
    ],
)
ATTACHMENT_MAX_BYTES = number("ATTACHMENT_MAX_BYTES", 10_000_000)
ATTACHMENT_BYTES_PER_USER = number("ATTACHMENT_BYTES_PER_USER", 1_000_000_000)
ATTACHMENT_ADDRESS_SECONDS = number("ATTACHMENT_ADDRESS_SECONDS", 600)

_local_files = {
    "location": env.str("ATTACHMENT_DIRECTORY", default=str(BASE_DIR / "attachments")),
    # They are conversations: nobody else on the machine reads them.
    "file_permissions_mode": 0o600,
    "directory_permissions_mode": 0o700,
}
_storage = env.str("ATTACHMENT_STORAGE", default="")
STORAGES = global_settings.STORAGES | {
    "attachments": {"BACKEND": _storage, "OPTIONS": from_json("ATTACHMENT_STORAGE_OPTIONS", "{}")}
    if _storage
    else {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": _local_files}
}

# --- Browsers and transport -----------------------------------------------------------------------

DATA_UPLOAD_MAX_MEMORY_SIZE = number("DATA_UPLOAD_MAX_MEMORY_SIZE", 1_000_000)  # bytes

CORS_ALLOWED_ORIGINS = names("CORS_ALLOWED_ORIGINS", [])
CORS_URLS_REGEX = f"^{API_PREFIX}"
CORS_ALLOW_CREDENTIALS = "cookie" in BETTER_AUTH_CREDENTIALS  # a token needs no page's cookies
CORS_ALLOW_METHODS = ["GET", "POST", "PUT", "OPTIONS"]
CORS_ALLOW_HEADERS = [
    "accept",
    "accept-language",
    "authorization",
    "content-type",
    "x-request-id",
    # ChatKit's client adds these two; without them its preflight fails.
    "chatkit-frame-instance-id",
    "chatkit-device-id",
    # A page that is traced with OpenTelemetry or Sentry adds these to each request.
    "traceparent",
    "tracestate",
    "baggage",
    "sentry-trace",
    *names("CORS_ALLOW_HEADERS", []),
]
CORS_EXPOSE_HEADERS = ["x-request-id", "retry-after", "www-authenticate"]

SECURE_SSL_REDIRECT = flag("SECURE_SSL_REDIRECT", not DEBUG)
SECURE_HSTS_SECONDS = number("SECURE_HSTS_SECONDS", 0 if DEBUG else 31_536_000)
# These two speak for a whole domain and are hard to take back, so they are the team's to set.
SECURE_HSTS_INCLUDE_SUBDOMAINS = flag("SECURE_HSTS_INCLUDE_SUBDOMAINS", False)
SECURE_HSTS_PRELOAD = flag("SECURE_HSTS_PRELOAD", False)
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]  # which would have both set
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not DEBUG
CSRF_COOKIE_HTTPONLY = True  # forms carry the token; no script of the admin reads it
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


def without_the_host(record: LogRecord) -> bool:
    """Django quotes what a stranger sent, with a traceback, and calls it an error of ours."""
    record.msg, record.args, record.exc_info = "The Host of a request is not in ALLOWED_HOSTS", (), None
    record.levelno, record.levelname = WARNING, "WARNING"
    return True


def only_faults(record: LogRecord) -> bool:
    from support.chat.server_errors import is_told_to_caller  # not before Django is set up

    exc = record.exc_info[1] if record.exc_info else None
    return not (isinstance(exc, Exception) and is_told_to_caller(exc))


def with_short_words(record: LogRecord) -> bool:
    """Who asks for what is not there chooses its path, and might fill the log with one request."""
    record.args = tuple(each[:200] if isinstance(each, str) else each for each in record.args or ())
    return True


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "no_host": {"()": "django.utils.log.CallbackFilter", "callback": without_the_host},
        "short": {"()": "django.utils.log.CallbackFilter", "callback": with_short_words},
        "line_limit": {"()": "chatbackend.logs.line_limit.LineLimit"},
        "faults": {"()": "django.utils.log.CallbackFilter", "callback": only_faults},
    },
    "formatters": {
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "fmt": "%(asctime)s %(levelname)s %(name)s %(message)s",
            "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
            # Django adds its request, with the query and so with the signature of an attachment's address.
            "reserved_attrs": [*RESERVED_ATTRS, "request"],
        },
        "plain": {"format": "%(levelname)s %(name)s: %(message)s"},
    },
    "handlers": {
        "stdout": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stdout",
            "formatter": "plain" if DEBUG else "json",
            "filters": ["line_limit"],
        }
    },
    "root": {"handlers": ["stdout"], "level": env.str("LOGGING_LEVEL", default="INFO")},
    "loggers": {
        # Django would send these to its own handlers, and mail them to ADMINS, in another form.
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        "django.request": {"filters": ["short"]},
        "django.security.DisallowedHost": {"filters": ["no_host"]},
        "uvicorn": {"handlers": [], "propagate": True},
        "uvicorn.access": {"handlers": [], "level": "WARNING", "propagate": True},
        # ChatKit logs each request at INFO, and a traceback for each exception. A caller's 404 is one too, so
        # a caller could fill the log.
        "chatkit": {"level": "WARNING", "filters": ["faults"]},
        "httpx2": {"level": "WARNING"},
        # MCP's client logs what it could not read, which is what a tool said to somebody; what of it
        # matters, support.assistant.mcp.tools says in words of its own.
        "mcp": {"level": "CRITICAL"},
        "client": {"level": "CRITICAL"},
    },
}
