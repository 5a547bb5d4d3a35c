# The device, for JetPack 6 (L4T r36). It installs the wheels of three rooms: no file of training,
# export or server is in the image.
#   docker build -f docker/edge.Dockerfile -t skyreid-edge .
#   docker run --runtime nvidia --network host --restart on-failure -v /etc/skyreid:/etc/skyreid:ro -v skyreid:/var/lib/skyreid skyreid-edge
# TensorRT, CUDA and GStreamer's NVIDIA elements come with the base image; pycuda is built here, against its CUDA.
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      build-essential python3-dev python3-pip python3-venv python3-gi python3-gst-1.0 gir1.2-gst-plugins-base-1.0 \
      gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
      gstreamer1.0-plugins-bad gstreamer1.0-libav \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/skyreid
COPY LICENSE ./
COPY contract contract
COPY bundle bundle
COPY edge edge
RUN python3 -m venv --system-site-packages .venv \
    && CPATH=/usr/local/cuda/include LIBRARY_PATH=/usr/local/cuda/lib64 \
       .venv/bin/pip install --no-cache-dir ./contract ./bundle './edge[jetson]' \
    && rm -r contract bundle edge
RUN useradd --system --create-home --home-dir /var/lib/skyreid skyreid
USER skyreid
# What it writes is in the volume, whatever the settings file says; the health check asks whether it goes on (edge/README.md).
ENV SKYREID_EDGE_SPOOL__PATH=/var/lib/skyreid/spool.db \
    SKYREID_EDGE_RUNNER__ENGINES=/var/lib/skyreid/engines \
    SKYREID_ALIVE=/dev/shm/skyreid-alive
VOLUME /var/lib/skyreid
HEALTHCHECK --interval=30s --start-period=1h --retries=3 \
    CMD test "$(($(date +%s) - $(stat -c %Y "$SKYREID_ALIVE")))" -lt 60
ENTRYPOINT ["/opt/skyreid/.venv/bin/skyreid-edge"]
CMD ["run", "/etc/skyreid/edge.toml"]
