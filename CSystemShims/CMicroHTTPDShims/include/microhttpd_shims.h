// libmicrohttpd for Swift: its variadic functions, and its enums as plain numbers.
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <microhttpd.h>

/// What bounds the connections of one server.
typedef struct {
    unsigned int connection_count_max;
    unsigned int connection_count_per_address_max;
    unsigned int timeout_seconds;
    size_t connection_memory_byte_count;
} raftoral_http_limits;

/// Answers one request, whose body has been read and thrown away. Returns what `raftoral_http_respond` returned; false
/// closes the connection.
typedef bool (*raftoral_http_handler)(
    void *_Nullable context, struct MHD_Connection *_Nonnull connection, const char *_Nonnull method,
    const char *_Nonnull path);

/// A daemon without threads.
typedef struct raftoral_http_server raftoral_http_server;

/// Serves on the listening socket, which it owns from now on; NULL when there is no memory or descriptor for it, and
/// then the socket is still the caller's.
raftoral_http_server *_Nullable raftoral_http_start(
    int listener, raftoral_http_limits limits, raftoral_http_handler _Nonnull handler, void *_Nullable context);

/// The descriptor to poll for reading; -1 when there is none.
int raftoral_http_descriptor(raftoral_http_server *_Nonnull server);

/// Does what is ready, once for each connection. Returns the milliseconds after which to call it again at the latest;
/// -1: only when the descriptor is ready.
int64_t raftoral_http_run(raftoral_http_server *_Nonnull server);

/// Closes the socket and all connections, and frees the server.
void raftoral_http_stop(raftoral_http_server *_Nonnull server);

/// `allow`: the value of an Allow field. The bytes are copied. False when there is no memory.
bool raftoral_http_respond(
    struct MHD_Connection *_Nonnull connection, unsigned int status, const char *_Nonnull content_type,
    const char *_Nullable allow, const void *_Nullable bytes, size_t byte_count);
