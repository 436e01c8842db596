#define _GNU_SOURCE
#include "uv_shims.h"
#include <fcntl.h>
#include <sys/socket.h>

void raftoral_measure_idle_time(uv_loop_t *loop) { (void)uv_loop_configure(loop, UV_METRICS_IDLE_TIME); }

int raftoral_accept(int listener, struct sockaddr *address, socklen_t *byte_count) {
    return accept4(listener, address, byte_count, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

const int raftoral_open_direct = O_DIRECT;
