"""The settings of Tunehouse, read from top to bottom.

What differs between installations comes from the environment (or from `.env`) and stands in `.env.example`
with a sentence. With nothing set everything runs on this machine, with an embedded PostgreSQL and broker.
"""

import os
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from celery.schedules import crontab
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from config import directory, environment, keys, logs

BASE_DIR = Path(__file__).resolve().parent.parent
env = environment.Environment()
env.read_env(BASE_DIR / ".env")

# --- Core -------------------------------------------------------------------------------------------------

DATA_DIR = Path(env.str("TUNEHOUSE_DATA", default=str(BASE_DIR / ".data"))).absolute()
PRODUCTION = env.bool("TUNEHOUSE_PRODUCTION", default=False)
DEBUG = env.bool("DEBUG", default=False)

if PRODUCTION:
    SECRET_KEY = env.str("SECRET_KEY")
    ENCRYPTION_KEYS = env.list("TUNEHOUSE_ENCRYPTION_KEYS")
    if not env.str("DATABASE_URL", default="") or not env.str("CELERY_BROKER_URL", default=""):
        raise ImproperlyConfigured("Production needs DATABASE_URL and CELERY_BROKER_URL; the embedded services are for one machine.")
else:
    SECRET_KEY = env.str("SECRET_KEY", default="") or keys.from_file(DATA_DIR / "secret_key", make=keys.secret_key)
    ENCRYPTION_KEYS = env.list("TUNEHOUSE_ENCRYPTION_KEYS", default=[]) or [
        keys.from_file(DATA_DIR / "encryption_key", make=keys.encryption_key)
    ]
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])

# Where people and the provider reach this installation, without a path.
PUBLIC_URL = env.str("TUNEHOUSE_PUBLIC_URL", default=env.str("SIMPLETUNER_PUBLIC_URL", default="")).rstrip("/")
# Naming the public address is enough for it to be answered, by people's forms and by the provider's webhooks alike.
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
if urlsplit(PUBLIC_URL).hostname:
    ALLOWED_HOSTS.append(urlsplit(PUBLIC_URL).hostname)
    CSRF_TRUSTED_ORIGINS.append(PUBLIC_URL)
TRUSTED_PROXIES = env.list("TUNEHOUSE_TRUSTED_PROXIES", default=[])
ALLOW_PRIVATE_HOSTS = env.bool("TUNEHOUSE_ALLOW_PRIVATE_HOSTS", default=False)

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
ASGI_APPLICATION = "config.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Paths are served with and without a trailing slash, never by redirect: SimpleTuner's clients turn one into an error.
APPEND_SLASH = False

# --- Apps -------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.usersessions",
    "csp",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "config",
    "accounts",
    "billing",
    "jobs",
    "webhooks",
]

MIDDLEWARE = [
    "config.middleware.CorrelationMiddleware",
    "config.middleware.ProxyHintMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "config.middleware.PolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "config.pacing.PaceMiddleware",
    "accounts.languages.LanguageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "config.middleware.RefusalMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "config.context.portal",
            ],
        },
    },
]

# --- Database ---------------------------------------------------------------------------------------------

POOL = {"min_size": env.int("DATABASE_POOL_MIN", default=1), "max_size": env.int("DATABASE_POOL_MAX", default=8), "timeout": 30}
if env.str("DATABASE_URL", default=""):
    DATABASES = {"default": env.db("DATABASE_URL")}
else:
    from config.embedded import postgres

    DATABASES = {"default": postgres.database_settings(DATA_DIR)}
DATABASES["default"].update(CONN_MAX_AGE=0, CONN_HEALTH_CHECKS=True)
DATABASES["default"].setdefault("OPTIONS", {})["pool"] = POOL
# A process that is stopped in the middle of a transaction keeps its locks, and whoever needs them waits: after so long the server
# ends its session. What the address itself says in `options` counts.
IDLE_SECONDS = env.int("DATABASE_IDLE_SECONDS", default=60)
if IDLE_SECONDS:
    own_options = DATABASES["default"]["OPTIONS"].get("options", "")
    DATABASES["default"]["OPTIONS"]["options"] = f"-c idle_in_transaction_session_timeout={IDLE_SECONDS}s {own_options}".strip()

# One cache for all processes: it holds the counts of failed sign-ins and the codes that were used once. Its table comes
# with a migration; live entries are many only under attack, and then none should be forgotten.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "tunehouse_cache",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }
}

# --- Sign-in ----------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["accounts.backends.PasswordBackend"]
# 0 leaves the sign-in to the company's own, OIDC or LDAP.
ALLOW_PASSWORDS = env.bool("TUNEHOUSE_PASSWORDS", default=True)
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher", "django.contrib.auth.hashers.PBKDF2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "username*", "password1*", "password2*"]
ACCOUNT_PREVENT_ENUMERATION = True
# One address a person; a new one replaces it once its mail was read.
ACCOUNT_CHANGE_EMAIL = True
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = "[Tunehouse] "
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_PASSWORD_RESET_TOKEN_GENERATOR = "accounts.emails.ResetTokens"  # noqa: S105 - a path
ACCOUNT_SESSION_REMEMBER = None
# Beside django-allauth's own, which count failed passwords and codes by address (10 a minute) and by account (5 in 5 minutes).
ACCOUNT_RATE_LIMITS = {"reset_password": "20/m/ip,5/h/key", "signup": "20/h/ip"}
MFA_ADAPTER = "accounts.adapter.MFAAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = "Tunehouse"
SESSION_ENGINE = "accounts.sessionstore"
SESSION_COOKIE_AGE = int(timedelta(days=14).total_seconds())
SESSION_COOKIE_HTTPONLY = True

# The company's own sign-in: OIDC, off without an issuer.
OIDC_ISSUER = env.str("TUNEHOUSE_OIDC_ISSUER", default="").rstrip("/")
OIDC_NAME = env.str("TUNEHOUSE_OIDC_NAME", default="OpenID Connect")
OIDC_GROUP_CLAIM = env.str("TUNEHOUSE_OIDC_GROUP_CLAIM", default="groups")
OIDC_ROLES = directory.roles(env.str("TUNEHOUSE_OIDC_ROLES", default=""), name="TUNEHOUSE_OIDC_ROLES")
OIDC_SIGN_UP = env.bool("TUNEHOUSE_OIDC_SIGN_UP", default=False)
SOCIALACCOUNT_ADAPTER = "accounts.adapter.SocialAccountAdapter"
# By a link: a form that ends at another site is what our content security policy forbids.
SOCIALACCOUNT_LOGIN_ON_GET = True
# Who is at the address that the provider has verified is who is at it here.
SOCIALACCOUNT_EMAIL_AUTHENTICATION = True
SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT = True
SOCIALACCOUNT_PROVIDERS = {}
if OIDC_ISSUER:
    SOCIALACCOUNT_PROVIDERS["openid_connect"] = {
        "OAUTH_PKCE_ENABLED": True,
        "APPS": [
            {
                "provider_id": "company",
                "name": OIDC_NAME,
                "client_id": env.str("TUNEHOUSE_OIDC_CLIENT_ID"),
                "secret": env.str("TUNEHOUSE_OIDC_CLIENT_SECRET", default=""),
                "settings": {
                    "server_url": OIDC_ISSUER,
                    "scope": env.list("TUNEHOUSE_OIDC_SCOPES", default=["openid", "profile", "email"]),
                    # For providers that verify addresses and do not say so.
                    "verified_email": env.bool("TUNEHOUSE_OIDC_TRUST_EMAIL", default=False),
                },
            }
        ],
    }

# LDAP, off without an address. Needs the group `ldap` of pyproject.toml.
LDAP_URL = env.str("TUNEHOUSE_LDAP_URL", default="")
LDAP_ROLES = directory.roles(env.str("TUNEHOUSE_LDAP_ROLES", default=""), name="TUNEHOUSE_LDAP_ROLES")
LDAP_SIGN_UP = env.bool("TUNEHOUSE_LDAP_SIGN_UP", default=False)
LDAP_START_TLS = env.bool("TUNEHOUSE_LDAP_START_TLS", default=False)
if LDAP_URL:
    AUTHENTICATION_BACKENDS.append("accounts.ldap.LDAPBackend")
    vars().update(directory.ldap_settings(env, url=LDAP_URL, start_tls=LDAP_START_TLS))

# --- Web safety -------------------------------------------------------------------------------------------

IS_HTTPS = PUBLIC_URL.startswith("https://")
SECURE_COOKIES = env.bool("TUNEHOUSE_SECURE_COOKIES", default=PRODUCTION or IS_HTTPS)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = SECURE_COOKIES
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
# Passkeys belong to an origin; over plain http browsers have them for localhost only.
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not IS_HTTPS
SECURE_HSTS_SECONDS = env.int("TUNEHOUSE_HSTS_SECONDS", default=31_536_000 if PRODUCTION and IS_HTTPS else 0)
# For the host alone, since others may own its subdomains; and to https leads the proxy, past which probes come by http.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W008", "security.W021"]
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXIES else None
X_FRAME_OPTIONS = "DENY"
CSRF_FAILURE_VIEW = "config.errors.csrf_failure"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    },
}
# A dataset comes in as many files of one form.
DATA_UPLOAD_MAX_NUMBER_FILES = 20_000
DATA_UPLOAD_MAX_MEMORY_SIZE = 33 * 1024 * 1024

# --- API --------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.TokenAuthentication", "accounts.authentication.CookieAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.permissions.IsCaller"],
    "DEFAULT_RENDERER_CLASSES": ["config.api.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["config.api.AnyTypeJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "config.openapi.Documented",
    "EXCEPTION_HANDLER": "config.api.exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
# Calls that an address may make in so many seconds, and whoever is signed in ten times as many; 0 turns all pace limits off.
RATE_LIMIT_CALLS = max(0, env.int("RATE_LIMIT_CALLS", default=100))
RATE_LIMIT_PERIOD = max(1, env.int("RATE_LIMIT_PERIOD", default=60))
SPECTACULAR_SETTINGS = {
    "TITLE": "Tunehouse API",
    "VERSION": "0.1.0",
    "DESCRIPTION": "Launch SimpleTuner training jobs on Replicate for your team.",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    # Without a badge that is drawn by somebody else's server.
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None, "docExpansion": "list"},
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SCHEMA_PATH_PREFIX": "/api",
    "PREPROCESSING_HOOKS": ["config.openapi.without_slashes"],
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "config.openapi.with_plain_views"],
}

# --- Celery -----------------------------------------------------------------------------------------------

CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default="")
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600}
if not CELERY_BROKER_URL:
    from config.embedded import broker

    CELERY_BROKER_URL = broker.URL
    CELERY_BROKER_TRANSPORT_OPTIONS = broker.transport_options(DATA_DIR)
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_TASK_TIME_LIMIT = 1800
CELERY_TASK_SOFT_TIME_LIMIT = 1740
CELERY_TASK_DEFAULT_QUEUE = "default"
# A finished run's logs and files are rescued ahead of all other work; packing, uploading, and reading results that lie elsewhere
# never hold up events.
CELERY_TASK_ROUTES = {
    "jobs.launch": {"queue": "launch"},
    "jobs.archive": {"queue": "rescue"},
    "jobs.deliver": {"queue": "deliver"},
    # Queues take turns: behind a flood of webhooks nobody would be asked how the jobs are.
    "webhooks.apply": {"queue": "inbox"},
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = {
    "dispatch": {"task": "jobs.dispatch", "schedule": 2.0, "options": {"expires": 10}},
    "sweep": {"task": "jobs.sweep", "schedule": 5.0, "options": {"expires": 20}},
    "poll": {"task": "jobs.poll", "schedule": 1.0, "options": {"expires": 10}},
    "apply": {"task": "webhooks.apply_unapplied", "schedule": 5.0, "options": {"expires": 20}},
    "checks": {"task": "webhooks.settle_lost_checks", "schedule": 60.0, "options": {"expires": 55}},
    "approvals": {"task": "jobs.expire_approvals", "schedule": 60.0, "options": {"expires": 55}},
    "stuck": {"task": "jobs.find_stuck", "schedule": 60.0, "options": {"expires": 55}},
    "status-page": {"task": "jobs.read_status_page", "schedule": 60.0, "options": {"expires": 55}},
    "push-audit": {"task": "webhooks.push_audit", "schedule": 60.0, "options": {"expires": 60}},
    "mail": {"task": "accounts.send_mail", "schedule": 60.0, "options": {"expires": 55}},
    "limits": {"task": "billing.watch_limits", "schedule": 60.0, "options": {"expires": 55}},
    "tidy": {"task": "jobs.tidy", "schedule": crontab(minute=17)},
}

# --- Storage and static files -------------------------------------------------------------------------------

OUTPUTS_DIR = Path(env.str("TUNEHOUSE_OUTPUTS", default=str(DATA_DIR / "artifacts"))).absolute()
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": DATA_DIR / "files"}},
    "datasets": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": DATA_DIR / "datasets"}},
    "artifacts": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": OUTPUTS_DIR}},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
STATIC_URL = "/static/"
STATIC_ROOT = Path(env.str("TUNEHOUSE_STATIC", default=str(BASE_DIR / ".static")))
# Static files are found in their apps until `collectstatic` has run.
WHITENOISE_USE_FINDERS = not STATIC_ROOT.is_dir()
if WHITENOISE_USE_FINDERS:
    STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}

# --- Language and time --------------------------------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("es", _("Spanish"))]
LOCALE_PATHS = [BASE_DIR / "config" / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True

# --- Mail ---------------------------------------------------------------------------------------------------

EMAIL_CONFIG = env.email("EMAIL_URL", default="consolemail://")
vars().update(EMAIL_CONFIG)
# These put a mail where its reader does not find it.
MAIL_GOES_NOWHERE = ("console", "dummy", "locmem", "filebased")
# Whoever makes an account alone proves the address first, and is told no difference where it has an account already. Where
# no mail comes nobody can, and nobody makes an account alone.
ACCOUNT_EMAIL_VERIFICATION = "optional" if EMAIL_CONFIG["EMAIL_BACKEND"].split(".")[-2] in MAIL_GOES_NOWHERE else "mandatory"
# Nobody's mail waits for a server that does not answer.
EMAIL_TIMEOUT = 20
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="tunehouse@localhost")

# --- Logs ---------------------------------------------------------------------------------------------------

LOG_LEVEL = env.str("TUNEHOUSE_LOG_LEVEL", default=env.str("SIMPLETUNER_LOG_LEVEL", default="INFO")).upper()
LOGGING = logs.configure(level=LOG_LEVEL, as_json=env.str("TUNEHOUSE_LOG_FORMAT", default="json") == "json")

# --- Product ------------------------------------------------------------------------------------------------

# Without /v1. Naming the sandbox makes it be Replicate for this installation: money counts.
REPLICATE_BASE_URL = env.str("REPLICATE_BASE_URL", default="https://api.replicate.com").rstrip("/").removesuffix("/v1")
# Our own sandbox for rehearsals, where it is not what REPLICATE_BASE_URL names; "" offers none. And where it reaches us.
SANDBOX_URL = env.str("TUNEHOUSE_SANDBOX_URL", default="").rstrip("/")
SANDBOX_CALLBACK_URL = env.str("TUNEHOUSE_SANDBOX_CALLBACK_URL", default=PUBLIC_URL).rstrip("/")
# Where the provider says how it is; "" asks nobody. Whoever stands in for the API stands in for this page, too.
STATUS_PAGE_URL = env.str(
    "TUNEHOUSE_STATUS_PAGE_URL",
    default="https://www.replicatestatus.com" if REPLICATE_BASE_URL == "https://api.replicate.com" else REPLICATE_BASE_URL,
).rstrip("/")
# Read once and taken out of the environment: client libraries fall back to them silently, in any team's call.
REPLICATE_API_TOKEN = os.environ.pop("REPLICATE_API_TOKEN", "") or os.environ.pop("SIMPLETUNER_REPLICATE_API_TOKEN", "")
HF_TOKEN = os.environ.pop("HF_TOKEN", "")
# The Hub, to look at results that were pushed there. While it is another than the public one, large files go its plain way:
# huggingface_hub's own way for them (Xet) has no fall-back. Only processes that push read the variable.
HF_ENDPOINT = (env.str("HF_ENDPOINT", default="") or "https://huggingface.co").rstrip("/")
if HF_ENDPOINT != "https://huggingface.co":
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
# May teams that saved no token of their own use the installation's?
SHARE_INSTALLATION_CREDENTIALS = env.bool("TUNEHOUSE_SHARE_INSTALLATION_CREDENTIALS", default=True)
OUTBOUND_TIMEOUT_SECONDS = env.float("TUNEHOUSE_HTTP_TIMEOUT", default=env.float("SIMPLETUNER_HTTP_TIMEOUT", default=30.0))
OUTBOUND_CA_BUNDLE = env.str("TUNEHOUSE_CA_BUNDLE", default=env.str("SIMPLETUNER_CA_BUNDLE", default="")) or None
WEBHOOK_TOLERANCE_SECONDS = env.int("SIMPLETUNER_WEBHOOK_TIMESTAMP_TOLERANCE", default=300)
LOG_RETENTION_DAYS = max(30, env.int("SIMPLETUNER_JOB_RETENTION_DAYS", default=90))
# Days after which lines of the audit trail are removed; 0 keeps them for ever.
AUDIT_RETENTION_DAYS = max(0, env.int("TUNEHOUSE_AUDIT_RETENTION_DAYS", default=env.int("SIMPLETUNER_AUDIT_RETENTION_DAYS", default=0)))
# Active jobs are polled this often while webhooks flow, and this often when none came for a while or somebody watches.
POLL_SECONDS = env.float("TUNEHOUSE_POLL_SECONDS", default=env.float("SIMPLETUNER_JOB_POLL_INTERVAL", default=30.0))
POLL_SECONDS_SILENT = env.float("TUNEHOUSE_POLL_SECONDS_SILENT", default=5.0)
# One list says how all jobs of an account are, but holds no logs: the log of a job that nobody watches is asked for this often.
POLL_SECONDS_LOG = env.float("TUNEHOUSE_POLL_SECONDS_LOG", default=60.0)
# How long a complete list without our marker must be away from the call before "not found" is believed.
NOT_FOUND_AFTER_SECONDS = env.float("TUNEHOUSE_NOT_FOUND_AFTER_SECONDS", default=120.0)
# How long any job may run at most; a team may set less for itself. Replicate is told, and ends the run by itself.
MAX_RUNTIME_MINUTES = min(1440, max(1, env.int("TUNEHOUSE_MAX_RUNTIME_MINUTES", default=1440)))
# A worker that dies leaves its job to another after this long.
LEASE_SECONDS = env.float("TUNEHOUSE_LEASE_SECONDS", default=20.0)

# --- Admin --------------------------------------------------------------------------------------------------

# Sections by question. Labels and links are read when a page is drawn.
UNFOLD = {
    "SITE_TITLE": "Tunehouse",
    "SITE_HEADER": "Tunehouse",
    "SITE_SUBHEADER": _("Oversight"),
    "SITE_SYMBOL": "graphic_eq",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "config.admin.icon"}],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "SIDEBAR": {"show_search": True, "navigation": "config.admin.navigation"},
    "ENVIRONMENT": "config.admin.environment",
    "DASHBOARD_CALLBACK": "config.admin.dashboard",
}
