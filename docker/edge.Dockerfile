# The device, for JetPack 6 (L4T r36). It installs the wheels of three rooms: no file of training,
# export or server is in the image.
#   docker build -f docker/edge.Dockerfile -t skyreid-edge .
#   docker run --runtime nvidia --network host -v /etc/skyreid:/etc/skyreid -v /var/lib/skyreid:/var/lib/skyreid skyreid-edge
# TensorRT, CUDA and GStreamer's NVIDIA elements come with the base image.
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      python3-pip python3-venv python3-gi python3-gst-1.0 gir1.2-gst-plugins-base-1.0 \
      gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
      gstreamer1.0-plugins-bad gstreamer1.0-libav libgl1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/skyreid
COPY LICENSE ./
COPY contract contract
COPY bundle bundle
COPY edge edge
RUN python3 -m venv --system-site-packages .venv \
    && .venv/bin/pip install --no-cache-dir ./contract ./bundle ./edge
RUN useradd --system --create-home --home-dir /var/lib/skyreid skyreid
USER skyreid
ENTRYPOINT ["/opt/skyreid/.venv/bin/skyreid-edge"]
CMD ["run", "/etc/skyreid/edge.toml"]
