# The inference server and the schema's migrations: the base install, none of the extras.
FROM python:3.12-slim AS build
WORKDIR /build
COPY requirements/uv.lock requirements/run.lock requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/uv.lock
COPY pyproject.toml README.md LICENSE ./
COPY platform platform
COPY serving serving
COPY sql sql
# Versions and hashes are those of the lock file, which covers the extras too; what is installed is the base alone.
RUN uv venv /opt/tapeline && uv pip install --python /opt/tapeline --no-cache --constraint requirements/run.lock .

FROM python:3.12-slim
COPY --from=build /opt/tapeline /opt/tapeline
RUN useradd --system --uid 10001 --create-home tapeline && install -d -o tapeline -m 0700 /data
USER tapeline
WORKDIR /home/tapeline
ENV PATH=/opt/tapeline/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TAPELINE_HOME=/data
VOLUME /data
ENTRYPOINT ["tapeline"]
CMD ["--help"]
