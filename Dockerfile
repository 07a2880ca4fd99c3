# UAIR node and its workers in one image; docker-compose.yml says which of them a container runs.
# The default package index serves a CUDA build of torch. For the smaller CPU build name the index that has it:
# docker build --build-arg TORCH_INDEX=…

FROM python:3.12-slim-bookworm AS build
ARG TORCH_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/uair
WORKDIR /src
# Dependencies first: their layer changes with these two files only. pip prefers a version with a local part
# (2.13.0+cpu) to the same one without, so torch comes from TORCH_INDEX and all else from the default index.
COPY pyproject.toml constraints.txt ./
RUN /opt/uair/bin/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > requirements.txt \
 && /opt/uair/bin/pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -c constraints.txt -r requirements.txt
COPY README.md LICENSE ./
COPY dicom_config dicom_config
COPY uair_node uair_node
COPY workers workers
RUN /opt/uair/bin/pip install --no-deps .

FROM python:3.12-slim-bookworm
# The user owns the data folder, and with it a named volume that is mounted there the first time.
RUN useradd --system --uid 10001 --home-dir /var/lib/uair --create-home uair
COPY --from=build /opt/uair /opt/uair
ENV PATH=/opt/uair/bin:$PATH PYTHONUNBUFFERED=1 UAIR_DATA_DIR=/var/lib/uair
USER uair
WORKDIR /var/lib/uair
VOLUME /var/lib/uair
EXPOSE 11112
CMD ["uair", "up"]
