#include "microhttpd_shims.h"
#include <stdlib.h>

struct raftoral_http_server {
    struct MHD_Daemon *daemon;
    raftoral_http_handler handler;
    void *context;
};

static enum MHD_Result answer(
    void *context, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
    const char *body, size_t *body_byte_count, void **state) {
    (void)version;
    (void)body;
    // The first call comes before the body, which nobody wants; the last one after it.
    if (*state == NULL) {
        *state = context;
        return MHD_YES;
    }
    if (*body_byte_count > 0) {
        *body_byte_count = 0;
        return MHD_YES;
    }
    const raftoral_http_server *server = context;
    return server->handler(server->context, connection, method, url) ? MHD_YES : MHD_NO;
}

raftoral_http_server *raftoral_http_start(
    int listener, raftoral_http_limits limits, raftoral_http_handler handler, void *context) {
    raftoral_http_server *server = malloc(sizeof *server);
    if (!server) return NULL;
    server->handler = handler;
    server->context = context;
    server->daemon = MHD_start_daemon(
        MHD_USE_EPOLL, 0, NULL, NULL, answer, server,
        MHD_OPTION_LISTEN_SOCKET, (MHD_socket)listener,
        MHD_OPTION_CONNECTION_LIMIT, limits.connection_count_max,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, limits.connection_count_per_address_max,
        MHD_OPTION_CONNECTION_TIMEOUT, limits.timeout_seconds,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, limits.connection_memory_byte_count,
        MHD_OPTION_END);
    if (server->daemon) return server;
    free(server);
    return NULL;
}

int raftoral_http_descriptor(raftoral_http_server *server) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    return info ? info->epoll_fd : -1;
}

int64_t raftoral_http_run(raftoral_http_server *server) {
    (void)MHD_run(server->daemon);
    MHD_UNSIGNED_LONG_LONG milliseconds = 0;
    if (MHD_get_timeout(server->daemon, &milliseconds) != MHD_YES) return -1;
    return milliseconds > INT32_MAX ? INT32_MAX : (int64_t)milliseconds;
}

void raftoral_http_stop(raftoral_http_server *server) {
    MHD_stop_daemon(server->daemon);
    free(server);
}

bool raftoral_http_respond(
    struct MHD_Connection *connection, unsigned int status, const char *content_type, const char *allow,
    const void *bytes, size_t byte_count) {
    struct MHD_Response *response =
        MHD_create_response_from_buffer(byte_count, (void *)bytes, MHD_RESPMEM_MUST_COPY);
    if (!response) return false;
    bool is_complete = MHD_add_response_header(response, "Content-Type", content_type) == MHD_YES;
    is_complete &= MHD_add_response_header(response, "Cache-Control", "no-store") == MHD_YES;
    is_complete &= MHD_add_response_header(response, "X-Content-Type-Options", "nosniff") == MHD_YES;
    if (allow) is_complete &= MHD_add_response_header(response, "Allow", allow) == MHD_YES;
    if (is_complete) is_complete = MHD_queue_response(connection, status, response) == MHD_YES;
    MHD_destroy_response(response);
    return is_complete;
}
