# UAIR node and its workers in one image; docker-compose.yml says which of them a container runs.
#
#   docker build --target cpu  -t uair-node:0.2.0 .          node, io worker, console, worker without a GPU
#   docker build --target cuda -t uair-node:0.2.0-cuda .     worker with a GPU
#
# The default package index serves a CUDA build of torch; the CPU build comes from the index in TORCH_CPU_INDEX.

FROM python:3.12-slim-bookworm AS source
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/uair
WORKDIR /src
# Dependencies first: their layer changes with these two files only.
COPY pyproject.toml constraints.txt ./
RUN /opt/uair/bin/python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *p['optional-dependencies']['s3'], sep='\n')" > requirements.txt

FROM source AS build-cpu
ARG TORCH_CPU_INDEX=
# pip prefers a version with a local part (2.13.0+cpu) to the same one without it: torch comes from the extra
# index, all else from the default one.
RUN /opt/uair/bin/pip install ${TORCH_CPU_INDEX:+--extra-index-url "$TORCH_CPU_INDEX"} -c constraints.txt -r requirements.txt
COPY README.md LICENSE ./
COPY dicom_config dicom_config
COPY uair_node uair_node
COPY workers workers
RUN /opt/uair/bin/pip install --no-deps .

FROM source AS build-cuda
RUN /opt/uair/bin/pip install -c constraints.txt -r requirements.txt
COPY README.md LICENSE ./
COPY dicom_config dicom_config
COPY uair_node uair_node
COPY workers workers
RUN /opt/uair/bin/pip install --no-deps .

FROM python:3.12-slim-bookworm AS runtime
# The user owns both folders, and with them named volumes that are mounted there the first time.
RUN useradd --uid 10001 --home-dir /var/lib/uair --create-home uair \
 && chmod 700 /var/lib/uair \
 && install -d -o uair -g uair -m 700 /var/cache/uair
ENV PATH=/opt/uair/bin:$PATH PYTHONUNBUFFERED=1 UAIR_DATA_DIR=/var/lib/uair MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /var/lib/uair
VOLUME ["/var/lib/uair", "/var/cache/uair"]
EXPOSE 11112
CMD ["uair", "up"]

FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /opt/uair /opt/uair
USER 10001

FROM runtime AS cpu
COPY --from=build-cpu /opt/uair /opt/uair
USER 10001
