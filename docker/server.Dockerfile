# The matcher.
#   docker build -f docker/server.Dockerfile -t skyreid-server .
FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/skyreid
COPY pyproject.toml README.md LICENSE ./
COPY contract contract
COPY bundle bundle
COPY server server
# The rooms that are not copied must exist for the build to find its list of packages.
RUN mkdir -p train/skyreid export/skyreid edge/skyreid \
    && pip install --no-cache-dir '.[server]'
RUN useradd --system --create-home --home-dir /var/lib/skyreid skyreid
USER skyreid
VOLUME /var/lib/skyreid
EXPOSE 8080
ENTRYPOINT ["skyreid-server"]
CMD ["run", "/etc/skyreid/server.toml"]
