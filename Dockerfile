# One image for every role of the hub: `docker run … hub run [ROLE …]`. Settings are HUB_… variables.
FROM python:3.11-slim-bookworm AS built
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY hub hub
COPY connectors connectors
COPY schemas schemas
COPY routing_rules routing_rules
# Into a folder of its own, hashes checked; the hub itself without asking an index for anything.
RUN python -m venv /opt/hub \
    && /opt/hub/bin/pip install --no-cache-dir --require-hashes -r requirements.lock \
    && /opt/hub/bin/pip install --no-cache-dir --no-index --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/hub hub
COPY --from=built /opt/hub /opt/hub
ENV PATH=/opt/hub/bin:$PATH PYTHONUNBUFFERED=1 HUB_FOLDER=/var/lib/hub/data HUB_LOG_FORMAT=json
USER hub
WORKDIR /var/lib/hub
EXPOSE 8080
ENTRYPOINT ["hub"]
CMD ["run"]
