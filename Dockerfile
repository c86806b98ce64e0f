# docs/image.md describes the image. tests/test_image.py runs these steps one by one.
# The tests run on Python 3.11. It gets security fixes until October 2027.
FROM python:3.11-slim-trixie AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# For example: --build-arg EXTRA_PACKAGES="django-storages[s3]"
ARG EXTRA_PACKAGES=""

WORKDIR /build
COPY requirements.txt ./
# Only wheels, so that no compiler is needed. The environment has no pip, because nothing is installed later.
# pytest is in requirements.txt, but a server does not need it.
RUN sed -i '/^pytest/d' requirements.txt \
    && python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv install --only-binary=:all: -r requirements.txt $EXTRA_PACKAGES

WORKDIR /app
COPY manage.py ./
COPY runtime runtime
COPY authn authn
COPY support support
COPY chatbackend chatbackend
RUN /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash .


FROM python:3.11-slim-trixie
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ATTACHMENT_DIRECTORY=/var/lib/chatbackend/attachments
# Kubernetes can check only a numeric user id for not being root.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin chatbackend \
    && mkdir -p /var/lib/chatbackend/attachments \
    && chown 10001:10001 /var/lib/chatbackend/attachments \
    && chmod 700 /var/lib/chatbackend/attachments
# The files belong to root, so the server cannot change its own code.
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app

WORKDIR /app
USER 10001:10001
VOLUME /var/lib/chatbackend/attachments
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ.get('UVICORN_PORT', 8000)), timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
# The server waits ten seconds for open streams, and up to ten more to store partial answers. Allow it thirty.
STOPSIGNAL SIGTERM
CMD ["python", "-m", "uvicorn", "chatbackend.asgi:application", "--host", "0.0.0.0", "--ws", "none", "--no-proxy-headers", "--timeout-graceful-shutdown", "10"]
