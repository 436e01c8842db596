// What Swift cannot write by itself: casts to libuv's abstract types, arrays that end a struct, GNU functions.
#pragma once
#include <dirent.h>
#include <uv.h>

/// Any `uv_*_t` handle as the abstract handle.
static inline uv_handle_t *_Nonnull raftoral_uv_handle(void *_Nonnull handle) {
    return (uv_handle_t *)handle;
}

static inline uv_stream_t *_Nonnull raftoral_uv_stream(uv_tcp_t *_Nonnull tcp) {
    return (uv_stream_t *)tcp;
}

/// Any `uv_*_t` request as the abstract request.
static inline uv_req_t *_Nonnull raftoral_uv_request(void *_Nonnull request) {
    return (uv_req_t *)request;
}

static inline const char *_Nonnull raftoral_directory_entry_name(const struct dirent *_Nonnull entry) {
    return entry->d_name;
}

/// Makes `uv_metrics_idle_time` count.
void raftoral_measure_idle_time(uv_loop_t *_Nonnull loop);

/// accept4 for a non-blocking socket that is closed on exec; -1 and errno when there is none.
int raftoral_accept(int listener, struct sockaddr *_Nonnull address, socklen_t *_Nonnull byte_count);

/// O_DIRECT, which is there for GNU sources only.
extern const int raftoral_open_direct;

/// Gives back the memory that is free in the heap, and lets go of the pages of the program and its libraries: those that
/// are needed again come back from the system's memory, and those that only the start needed do not.
void raftoral_release_memory(void);

/// A descriptor that is readable from `raftoral_send_wake`, by any thread, to `raftoral_take_wake`; -1 and errno when there
/// is none.
int raftoral_open_wake(void);
void raftoral_send_wake(int descriptor);
void raftoral_take_wake(int descriptor);
