# docker build -t cycles-server --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" .

ARG PYTHON_IMAGE=python:3.13-slim

# -- the package and what it needs, in an environment of their own ---------------------------------

FROM ${PYTHON_IMAGE} AS builder

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1

WORKDIR /src
COPY setup.cfg pyproject.toml requirements.lock README.md ./
COPY src src
COPY handlers handlers
COPY lua lua
COPY openapi openapi

# Without pip: nothing is ever installed into it again.
RUN python3 -m venv --without-pip /opt/cycles \
    && python3 -m pip wheel --no-deps --wheel-dir /wheel . \
    && python3 -m pip --python /opt/cycles/bin/python install \
        --only-binary :all: -c requirements.lock /wheel/*.whl

# -- the image -------------------------------------------------------------------------------------

FROM ${PYTHON_IMAGE}

ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="cycles-server" \
      org.opencontainers.image.description="Cycles runtime server: hard budget limits for AI agents" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# A fixed number, so that a policy can tell that it is not root.
RUN groupadd --gid 10001 cycles \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin cycles

COPY --from=builder /opt/cycles /opt/cycles

# Nothing is written but what several workers count in /tmp: the root may be read-only.
ENV PATH=/opt/cycles/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

WORKDIR /tmp
USER 10001:10001
EXPOSE 7878 7979
STOPSIGNAL SIGTERM

# Of the process alone: a restart would not bring a lost Redis back. The port is SERVER_PORT, else
# that of whichever plane is here.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, os, socket, sys; ports = [int(p) for p in (os.environ.get('SERVER_PORT') or '7878 7979').split() if not socket.socket().connect_ex(('127.0.0.1', int(p)))]; c = http.client.HTTPConnection('127.0.0.1', ports[0], timeout=4); c.request('GET', '/actuator/health/liveness'); sys.exit(c.getresponse().status != 200)"]

ENTRYPOINT ["cycles-server"]
CMD ["serve"]
