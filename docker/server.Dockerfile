# The matcher: the wheels of three rooms, and no file of training, export or edge.
#   docker build -f docker/server.Dockerfile -t skyreid-server .
FROM python:3.12-slim
WORKDIR /opt/skyreid
COPY LICENSE ./
COPY contract contract
COPY bundle bundle
COPY server server
RUN pip install --no-cache-dir ./contract ./bundle ./server
RUN useradd --system --create-home --home-dir /var/lib/skyreid skyreid
USER skyreid
VOLUME /var/lib/skyreid
# http.host = "0.0.0.0" in a container is an address that others reach: it needs http.certificate, http.key
# and a token (docker run ... token create /etc/skyreid/server.toml NAME --role admin).
EXPOSE 8080
ENTRYPOINT ["skyreid-server"]
CMD ["run", "/etc/skyreid/server.toml"]
