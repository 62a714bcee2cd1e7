# syntax=docker/dockerfile:1
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
ARG REVISION=unknown
# The program needs nothing of an image: glibc and the time zones are inside. The caches outlive the layer, so the binary is
# moved out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    host=$(rustc -vV | sed -n 's/^host: //p') \
    && LLM_RELAY_EXPORTER_REVISION="$REVISION" RUSTFLAGS="-C target-feature=+crt-static" \
       cargo build --locked --release --target "$host" --bin llm-relay-exporter \
    && install -D "target/$host/release/llm-relay-exporter" /out/usr/local/bin/llm-relay-exporter \
    && install -D -m 644 -t /out/usr/share/doc/llm-relay-exporter LICENSE-MIT LICENSE-APACHE \
    && install -D -m 644 -t /out/etc/ssl/certs /etc/ssl/certs/ca-certificates.crt \
    # An id of nobody's: it needs neither a home nor a name. A volume mounted there begins with the directory's owner and mode.
    && install -d -m 700 -o 65532 -g 65532 /out/var/lib/llm-relay-exporter \
    && install -d -m 1777 /out/tmp

# No shell, no package: what is not there needs no update.
FROM scratch
LABEL org.opencontainers.image.title="llm-relay-exporter" \
      org.opencontainers.image.description="Prometheus exporter for self-hosted LLM relays" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /out/ /
USER 65532:65532
EXPOSE 9879
ENTRYPOINT ["/usr/local/bin/llm-relay-exporter"]
