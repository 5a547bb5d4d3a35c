# Training and export on a desktop GPU.
#   docker build -f docker/train.Dockerfile -t skyreid-train .
#   docker run --gpus all -v "$PWD/runs:/runs" skyreid-train fit recipes/vdt-tiny-1.toml --data /data --out /runs/vdt-tiny-1
FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/skyreid
COPY . .
RUN pip install --no-cache-dir -e '.[train,export]'
ENTRYPOINT ["skyreid-train"]
CMD ["--help"]
