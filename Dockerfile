# docker build -t raftoral .
#
# Built with the toolchain's image, run on a small one: the program carries the Swift runtime and its C libraries, and
# needs nothing but the C and C++ libraries and GnuTLS of Debian.
FROM swift:6.3-bookworm AS build
WORKDIR /src
COPY . .
RUN scripts/deps.sh && scripts/dist.sh

FROM debian:12-slim
RUN apt-get update -q \
    && apt-get install -y -q --no-install-recommends libstdc++6 zlib1g libgnutls30 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 5001 --home-dir /data raftoral \
    && install -d -o raftoral -g raftoral -m 700 /data
COPY --from=build /src/.build/dist/raftoral /usr/local/bin/raftoral
USER raftoral
VOLUME /data
EXPOSE 5001
STOPSIGNAL SIGTERM
ENTRYPOINT ["raftoral"]
CMD ["--help"]
